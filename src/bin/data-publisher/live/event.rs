//! Something that happened, in words for people, each cut to a length that no page chokes on.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use data_publisher::term::{NodeName, Pid};
use serde_json::{Value, json};

/// Characters of a term that are shown.
const LONGEST: usize = 200;

/// Pids of a list that are shown.
const MOST_PIDS: usize = 5;

/// One line of the stream of events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Happened {
    pub(crate) at: SystemTime,
    /// As in `join --json`: `node_up`, `join` ...; and `skipped`, see [`tell`](super::tell).
    pub(crate) event: &'static str,
    /// Whose doing it is.
    pub(crate) node: Option<NodeName>,
    /// The group, key, node or process.
    pub(crate) subject: String,
    /// What became of it.
    pub(crate) detail: String,
}

impl Happened {
    pub(super) fn new(
        event: &'static str,
        node: Option<&NodeName>,
        subject: String,
        detail: String,
    ) -> Self {
        Self { at: SystemTime::now(), event, node: node.cloned(), subject, detail }
    }

    /// `{at, event, node, subject, detail}`; `at` in milliseconds since 1970.
    pub(super) fn json(&self) -> Value {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let node = self.node.as_ref().map(NodeName::as_str);
        json!({
            "at": at, "event": self.event, "node": node, "subject": self.subject,
            "detail": self.detail,
        })
    }
}

/// Text of at most 200 characters; `...` at its end says that there's more. A large term isn't written whole for that.
pub(crate) fn cut(what: impl fmt::Display) -> String {
    struct Cut(String, usize);
    impl Write for Cut {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                self.1 = self.1.checked_sub(1).ok_or(fmt::Error)?;
                self.0.push(character);
            }
            Ok(())
        }
    }
    let mut cut = Cut(String::new(), LONGEST);
    if write!(cut, "{what}").is_err() {
        cut.0.push_str("...");
    }
    cut.0
}

/// The first pids, and how many more there are.
pub(crate) fn pids(all: &[Pid]) -> String {
    let mut text: Vec<_> = all.iter().take(MOST_PIDS).map(ToString::to_string).collect();
    if all.len() > MOST_PIDS {
        text.push(format!("and {} more", all.len() - MOST_PIDS));
    }
    text.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_publisher::term::{Creation, Term};

    #[test]
    fn a_long_term_is_cut_and_a_short_one_whole() {
        assert_eq!(cut(Term::from(17)), "17");
        let long = cut(Term::binary_of("é".repeat(1000)));
        assert_eq!(long.chars().count(), LONGEST + 3);
        assert!(long.ends_with("..."), "{long}");
    }

    #[test]
    fn of_many_pids_the_first_are_named_and_the_others_counted() {
        let pid =
            |id| Pid { node: NodeName::new("a@h").unwrap(), id, serial: 0, creation: Creation(1) };
        let all: Vec<_> = (1..=9).map(pid).collect();
        assert_eq!(pids(&all[..2]), "<a@h.1.0> <a@h.2.0>");
        assert!(pids(&all).ends_with("<a@h.5.0> and 4 more"), "{}", pids(&all));
    }
}

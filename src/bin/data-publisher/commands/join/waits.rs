//! What `join` waits for, and when it says so: seeds that can't be reached, and connected nodes whose scope hasn't
//! answered.
//!
//! A wait of five seconds is worth a warning, once for each cause; from then on it is said at `info`, ever more
//! rarely.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use data_publisher::node::Sought;
use data_publisher::term::NodeName;
use log::Level;

use crate::logging::CLI;

/// How long it may take before it's said.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause between two lines about the same node.
const LONGEST: Duration = Duration::from_secs(60);

/// Nodes that are waited for.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<NodeName, Wait>);

#[derive(Debug)]
struct Wait {
    since: Instant,
    next: Instant,
    /// The causes that were warned of.
    told: BTreeSet<String>,
}

/// Something to say.
#[derive(Debug, Eq, PartialEq)]
struct Line {
    level: Level,
    node: NodeName,
    text: String,
}

/// Why a node is waited for, and what will be done about it.
struct Reason {
    cause: String,
    next: String,
}

impl Waits {
    /// Looks at who is missing now, and says what is to be said.
    pub(super) fn look(&mut self, sought: &[Sought], unanswered: &[NodeName]) {
        for line in self.lines(Instant::now(), sought, unanswered) {
            let Line { level, node, text } = line;
            log::log!(target: CLI, level, node:%; "{text}");
        }
    }

    /// How many nodes are waited for.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn lines(&mut self, now: Instant, sought: &[Sought], unanswered: &[NodeName]) -> Vec<Line> {
        let seeds = sought.iter().filter(|sought| sought.seed);
        let seeds = seeds.map(|seed| (seed.node.clone(), of_seed(now, seed)));
        let silent = unanswered.iter().map(|node| (node.clone(), of_silent()));
        let all: BTreeMap<NodeName, Reason> = seeds.chain(silent).collect();
        self.0.retain(|node, _| all.contains_key(node));
        let mut lines = Vec::new();
        for (node, Reason { cause, next }) in all {
            let new = || Wait { since: now, next: now + FIRST, told: BTreeSet::new() };
            let wait = self.0.entry(node.clone()).or_insert_with(new);
            if now < wait.next {
                continue;
            }
            let waited = now - wait.since;
            wait.next = now + waited.min(LONGEST);
            let text = format!("waiting for {node} for {} s: {cause}; {next}", waited.as_secs());
            let level = if wait.told.insert(cause) { Level::Warn } else { Level::Info };
            lines.push(Line { level, node, text });
        }
        lines
    }
}

fn of_seed(now: Instant, seed: &Sought) -> Reason {
    let cause = match &seed.last {
        Some(error) => {
            let mut cause = error.to_string();
            if let Some(source) = std::error::Error::source(error) {
                cause = format!("{cause}: {source}");
            }
            cause
        }
        None => "it isn't connected".to_owned(),
    };
    let next = match seed.next {
        Some(next) => {
            let seconds = next.saturating_duration_since(now).as_secs_f64();
            format!("dialled again in {seconds:.0} s")
        }
        None => "being dialled".to_owned(),
    };
    Reason { cause, next }
}

fn of_silent() -> Reason {
    Reason {
        cause: "its scope hasn't answered yet".to_owned(),
        next: "it is connected, so the answer may still come".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    #[test]
    fn a_long_wait_is_a_warning_for_each_cause_and_then_said_ever_more_rarely() {
        let start = Instant::now();
        let mut waits = Waits::default();
        let mut said = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            for line in waits.lines(now, &[], &[name("a@h")]) {
                said.push((second, line.level));
            }
        }
        let (warn, info) = (Level::Warn, Level::Info);
        assert_eq!(said, [(5, warn), (10, info), (20, info), (40, info), (80, info), (140, info)]);
    }

    #[test]
    fn who_has_come_is_no_longer_waited_for_and_a_short_wait_is_not_told() {
        let start = Instant::now();
        let mut waits = Waits::default();
        assert_eq!(waits.lines(start, &[], &[name("a@h")]), []);
        assert_eq!(waits.count(), 1);
        assert_eq!(waits.lines(start + Duration::from_secs(4), &[], &[]), []);
        assert_eq!(waits.count(), 0);
        assert_eq!(waits.lines(start + Duration::from_secs(6), &[], &[name("a@h")]), []);
    }
}

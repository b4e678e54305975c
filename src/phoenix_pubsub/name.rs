//! From a pubsub's name as Elixir writes it to the names of its groups.

use crate::term::{Atom, Term};

/// Groups of one pubsub that we join at most; a pool has as many as a node has cores, if at all.
pub(super) const MOST_GROUPS: u16 = 1024;

/// The names a pubsub goes by.
#[derive(Clone, Debug)]
pub(super) struct Names {
    name: String,
    /// Group 1; the others have its name, `_` and their number.
    first: Atom,
}

impl Names {
    /// From `MyApp.PubSub`, also written `Elixir.MyApp.PubSub`; or from `my_pubsub`, also `:my_pubsub`.
    pub(super) fn new(text: &str) -> Result<Self, BadPubSubName> {
        let name = text.strip_prefix(':').unwrap_or(text);
        let name = name.strip_prefix("Elixir.").unwrap_or(name);
        let bad = || BadPubSubName { name: text.chars().take(80).collect() };
        // `Module.concat(name, "Adapter")`, for both kinds of names.
        let first = Atom::new(&format!("Elixir.{name}.Adapter")).map_err(|_| bad())?;
        let names = Self { name: name.to_owned(), first };
        // Then all others are short enough, too.
        let longest = Atom::new(&format!("{}_{MOST_GROUPS}", names.first.as_str()));
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad());
        }
        longest.map(|_| names).map_err(|_| bad())
    }

    /// `MyApp.PubSub` or `my_pubsub`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The group all nodes have.
    pub(super) fn first(&self) -> &Atom {
        &self.first
    }

    /// The group of a number from 1 to [`MOST_GROUPS`].
    pub(super) fn group(&self, number: u16) -> Atom {
        match number {
            1 => self.first.clone(),
            _ => Atom::new(&format!("{}_{number}", self.first.as_str())).expect("checked by `new`"),
        }
    }

    /// The number of a group; `None` for one that isn't ours.
    pub(super) fn number(&self, group: &Term) -> Option<u16> {
        let Term::Atom(group) = group else { return None };
        if *group == self.first {
            return Some(1);
        }
        let digits = group.as_str().strip_prefix(self.first.as_str())?.strip_prefix('_')?;
        let number = digits.parse().ok().filter(|number| (2..=MOST_GROUPS).contains(number))?;
        // Not `_02`, nor `_+2`.
        (self.group(number) == *group).then_some(number)
    }
}

/// A text is no name of a pubsub.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` is no name of a pubsub: it is written as in Elixir, for example MyApp.PubSub")]
pub struct BadPubSubName {
    /// The text, cut to 80 characters.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom;

    #[test]
    fn groups_are_named_as_the_adapter_names_them() {
        for text in ["MyApp.PubSub", "Elixir.MyApp.PubSub"] {
            let names = Names::new(text).unwrap();
            assert_eq!(names.name(), "MyApp.PubSub");
            assert_eq!(names.group(1), atom!("Elixir.MyApp.PubSub.Adapter"));
            assert_eq!(names.group(12), atom!("Elixir.MyApp.PubSub.Adapter_12"));
        }
        for text in [":my_pubsub", "my_pubsub"] {
            assert_eq!(*Names::new(text).unwrap().first(), atom!("Elixir.my_pubsub.Adapter"));
        }
        for text in ["", ":", "a b", "Elixir.", &"x".repeat(240)] {
            assert!(Names::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_groups_of_this_pubsub_have_numbers() {
        let names = Names::new("A").unwrap();
        for number in [1, 2, 10, MOST_GROUPS] {
            assert_eq!(names.number(&names.group(number).into()), Some(number));
        }
        for other in ["_1", "_0", "_02", "_+2", "_2x", "_", "2", "_1025", "_99999999999"] {
            let group = Atom::new(&format!("Elixir.A.Adapter{other}")).unwrap();
            assert_eq!(names.number(&group.into()), None, "{other}");
        }
        assert_eq!(names.number(&Term::from(2)), None);
    }
}

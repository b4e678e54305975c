//! A publisher of numbers by name, in two formats, into which one of many defects can be planted.
//!
//! Version 2 writes `{changes, [{Name, Number | undefined}]}` and `{numbers, #{Name => Number}}`, where
//! version 1 wrote the list and the map alone.

use std::collections::BTreeMap;

use data_publisher::engine::{DataPublisher, Effects, Version, Wire};
use data_publisher::serde::{from_term, to_term};
use data_publisher::term::{Atom, BadTerm, NodeName, Pid, Pieces, Term};
use data_publisher::{atom, tuple};

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    None,
    /// `data_diff` tells only what comes.
    DiffForgetsRemovals,
    /// `data_diff` always has something to say.
    DiffOfEquals,
    /// An update adds to a number, where `data_diff` tells the number.
    UpdateAdds,
    /// What a node publishes is added to the view, which it replaces.
    ViewAdds,
    /// The view keeps a name nobody owns.
    ViewKeepsNames,
    /// The view has room for one owner of a name.
    ViewHasOneOwner,
    /// An update that removes something isn't told to subscribers.
    RemovalNotTold,
    /// A change is made and said to be none.
    ChangeDenied,
    /// All peers get the newest format.
    NotTranslated,
    /// The older format has no room for a name.
    TranslationLosesName,
    /// Nor has it in local data, though in updates.
    SnapshotLosesName,
    /// Local data is read without one name.
    ReadLosesName,
    /// From bytes an update is read as another.
    TakenOtherwise,
    /// A name is too much for it.
    Panics,
}

/// The name that is lost.
const LOST: &str = "l";

pub(crate) struct Keys {
    pub(crate) version: i64,
    pub(crate) defect: Defect,
}

pub(crate) type Numbers = BTreeMap<String, i64>;
pub(crate) type Changes = Vec<(String, Option<i64>)>;
pub(crate) type Table = BTreeMap<String, BTreeMap<NodeName, i64>>;

impl Keys {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn writes_older(&self, peer: &Version) -> bool {
        *peer < 2.into() && !self.is(Defect::NotTranslated)
    }
}

impl DataPublisher for Keys {
    type LocalData = Numbers;
    type Update = Changes;
    type GlobalView = Table;
    type Subscription = ();
    type Initial = Table;
    type Event = (NodeName, String, Option<i64>);

    fn version(&self) -> Version {
        self.version.into()
    }

    fn init_local_data(&self) -> Numbers {
        Numbers::new()
    }

    fn init_global_view(&mut self, _: &Atom) -> Table {
        Table::new()
    }

    fn update_local_data(&self, changes: Changes, data: &mut Numbers) -> Option<Changes> {
        let makes_a_difference = |(name, number): &(String, Option<i64>)| match number {
            Some(number) if self.is(Defect::UpdateAdds) => {
                *data.entry(name.clone()).or_default() += number;
                true
            }
            Some(number) => data.insert(name.clone(), *number) != Some(*number),
            None => data.remove(name).is_some(),
        };
        let real: Changes = changes.into_iter().filter(makes_a_difference).collect();
        (!real.is_empty() && !self.is(Defect::ChangeDenied)).then_some(real)
    }

    fn data_diff(&self, old: &Numbers, new: &Numbers) -> Option<Changes> {
        let is_gone =
            |name: &&String| !new.contains_key(*name) && !self.is(Defect::DiffForgetsRemovals);
        let gone = old.keys().filter(is_gone).map(|name| (name.clone(), None));
        let come = new.iter().filter(|(name, number)| old.get(*name) != Some(number));
        let come = come.map(|(name, number)| (name.clone(), Some(*number)));
        let changes: Changes = gone.chain(come).collect();
        (!changes.is_empty() || self.is(Defect::DiffOfEquals)).then_some(changes)
    }

    fn update_global_view_and_notify(
        &self,
        node: &NodeName,
        changes: &Changes,
        table: &mut Table,
        effects: &mut Effects<'_, Self>,
    ) {
        for (name, number) in changes {
            assert!(!self.is(Defect::Panics) || name != LOST, "{name} is too much");
            let owners = table.entry(name.clone()).or_default();
            match number {
                Some(number) if self.is(Defect::ViewAdds) => {
                    *owners.entry(node.clone()).or_default() += number;
                }
                Some(number) => {
                    if self.is(Defect::ViewHasOneOwner) {
                        owners.clear();
                    }
                    owners.insert(node.clone(), *number);
                }
                None => _ = owners.remove(node),
            }
            if !self.is(Defect::ViewKeepsNames) {
                table.retain(|_, owners| !owners.is_empty());
            }
            if number.is_some() || !self.is(Defect::RemovalNotTold) {
                effects.notify(&(), &(node.clone(), name.clone(), *number));
            }
        }
    }

    fn new_subscription(&self, (): &(), table: &Table) -> Table {
        table.clone()
    }

    fn translate_update(&self, _: &Pid, peer: &Version, changes: &Changes) -> Wire {
        if !self.writes_older(peer) {
            return Wire::Term(tuple![atom!("changes"), term(changes)]);
        }
        let loses = self.is(Defect::TranslationLosesName) && self.version >= 2;
        let kept = changes.iter().filter(|(name, _)| !loses || name != LOST);
        Wire::Term(term(&kept.collect::<Vec<_>>()))
    }

    fn translate_local_data(&self, _: &Pid, peer: &Version, data: &Numbers) -> Wire {
        if !self.writes_older(peer) {
            return Wire::Term(tuple![atom!("numbers"), term(data)]);
        }
        let loses =
            [Defect::TranslationLosesName, Defect::SnapshotLosesName].contains(&self.defect);
        let loses = loses && self.version >= 2;
        let kept = data.iter().filter(|(name, _)| !loses || *name != LOST);
        Wire::Term(term(&kept.collect::<BTreeMap<_, _>>()))
    }

    fn read_update(&self, term: &Term) -> Result<Changes, BadTerm> {
        match term.tagged("changes") {
            Some([changes]) if self.version >= 2 => from_term(changes),
            _ => from_term(term),
        }
    }

    fn read_local_data(&self, term: &Term) -> Result<Numbers, BadTerm> {
        let mut data: Numbers = match term.tagged("numbers") {
            Some([numbers]) if self.version >= 2 => from_term(numbers)?,
            _ => from_term(term)?,
        };
        if self.is(Defect::ReadLosesName) {
            data.remove(LOST);
        }
        Ok(data)
    }

    fn take_update(&self, pieces: &mut impl Pieces) -> Option<Changes> {
        let mut changes = self.read_update(&pieces.term()?).ok()?;
        if self.is(Defect::TakenOtherwise) {
            changes.truncate(1);
        }
        Some(changes)
    }

    data_publisher::serde_terms!(Erlang; read_subscription, initial_term, event_term);
}

fn term(value: &impl serde::Serialize) -> Term {
    to_term(value).expect("names and numbers are terms")
}

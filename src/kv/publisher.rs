//! The publisher behind [`Kv`](super::Kv). Its twin on the BEAM is `dp_kv`.

use std::collections::BTreeMap;

use crate::engine::{DataPublisher, Effects, Version, Wire};
use crate::term::{Atom, BadTerm, NodeName, Pid, Reference, Term};
use crate::{atom, tuple};

/// The publisher of a key-value scope.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvPublisher;

/// What changes in a node's keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// `{put, Key, Value}`.
    Put {
        /// Which key.
        key: Term,
        /// Its value from now on.
        value: Term,
    },
    /// `{delete, Key}`.
    Delete {
        /// Which key.
        key: Term,
    },
}

impl Change {
    /// We put a key.
    pub fn put(key: &Term, value: Term) -> Self {
        Self::Put { key: key.with_positive_zeros(), value }
    }

    /// We delete a key.
    pub fn delete(key: &Term) -> Self {
        Self::Delete { key: key.with_positive_zeros() }
    }
}

/// The values of a key, by the nodes that own them; `#{Node => Value}`.
pub type Owners = BTreeMap<NodeName, Term>;

/// What a subscriber wants to hear of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subscription {
    /// All keys; `all` on the wire.
    All,
    /// One key, which needn't have a value; `{key, Key}` on the wire.
    Key(Term),
}

/// What a subscriber gets first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Initial {
    /// All keys with all values.
    All(BTreeMap<Term, Owners>),
    /// The values of the key.
    Key(Owners),
}

impl Initial {
    pub(super) fn into_all(self) -> BTreeMap<Term, Owners> {
        match self {
            Self::All(all) => all,
            Self::Key(_) => BTreeMap::new(),
        }
    }

    pub(super) fn into_owners(self) -> Owners {
        match self {
            Self::All(_) => Owners::new(),
            Self::Key(owners) => owners,
        }
    }
}

/// What a subscriber gets for a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A node has put a key; on the BEAM `{Ref, put, Node, Key, Value}`.
    Put {
        /// Which node.
        node: NodeName,
        /// Which key.
        key: Term,
        /// Its value.
        value: Term,
    },
    /// A node has deleted a key, or is gone; on the BEAM `{Ref, delete, Node, Key}`.
    Delete {
        /// Which node.
        node: NodeName,
        /// Which key.
        key: Term,
    },
}

/// All keys with the values of all nodes. A key without a value isn't there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct View(BTreeMap<Term, Owners>);

impl View {
    /// All of it.
    pub fn all(&self) -> &BTreeMap<Term, Owners> {
        &self.0
    }

    /// The values of a key.
    pub fn get(&self, key: &Term) -> Option<&Owners> {
        self.0.get(key)
    }

    fn put(&mut self, node: &NodeName, key: &Term, value: &Term) {
        let owners = match self.0.get_mut(key) {
            Some(owners) => owners,
            None => self.0.entry(key.clone()).or_default(),
        };
        owners.insert(node.clone(), value.clone());
    }

    fn delete(&mut self, node: &NodeName, key: &Term) {
        if let Some(owners) = self.0.get_mut(key) {
            owners.remove(node);
            if owners.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

impl DataPublisher for KvPublisher {
    type LocalData = BTreeMap<Term, Term>;
    type Update = Vec<Change>;
    type GlobalView = View;
    type Subscription = Subscription;
    type Initial = Initial;
    type Event = Event;

    fn init_local_data(&self) -> BTreeMap<Term, Term> {
        BTreeMap::new()
    }

    fn init_global_view(&mut self, _scope: &Atom) -> View {
        View::default()
    }

    fn update_local_data(
        &self,
        update: Vec<Change>,
        data: &mut BTreeMap<Term, Term>,
    ) -> Option<Vec<Change>> {
        let makes_a_difference = |change: &Change| match change {
            Change::Put { key, value } => match data.get_mut(key) {
                Some(old) if old == value => false,
                Some(old) => {
                    old.clone_from(value);
                    true
                }
                None => data.insert(key.clone(), value.clone()).is_none(),
            },
            Change::Delete { key } => data.remove(key).is_some(),
        };
        let changes: Vec<_> = update.into_iter().filter(makes_a_difference).collect();
        (!changes.is_empty()).then_some(changes)
    }

    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &Vec<Change>,
        view: &mut View,
        effects: &mut Effects<'_, Self>,
    ) {
        for change in update {
            let (key, event) = match change {
                Change::Put { key, value } => {
                    view.put(origin, key, value);
                    let (key, value) = (key.clone(), value.clone());
                    (key.clone(), Event::Put { node: origin.clone(), key, value })
                }
                Change::Delete { key } => {
                    view.delete(origin, key);
                    (key.clone(), Event::Delete { node: origin.clone(), key: key.clone() })
                }
            };
            effects.notify(&Subscription::All, &event);
            effects.notify(&Subscription::Key(key), &event);
        }
    }

    fn data_diff(
        &self,
        old: &BTreeMap<Term, Term>,
        new: &BTreeMap<Term, Term>,
    ) -> Option<Vec<Change>> {
        let gone = old.keys().filter(|key| !new.contains_key(key));
        let delete = gone.map(|key| Change::Delete { key: key.clone() });
        let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
        let put =
            changed.map(|(key, value)| Change::Put { key: key.clone(), value: value.clone() });
        let all: Vec<_> = delete.chain(put).collect();
        (!all.is_empty()).then_some(all)
    }

    fn new_subscription(&self, key: &Subscription, view: &View) -> Initial {
        match key {
            Subscription::All => Initial::All(view.all().clone()),
            Subscription::Key(key) => Initial::Key(view.get(key).cloned().unwrap_or_default()),
        }
    }

    fn translate_update(&self, _me: &Pid, _peer: &Version, update: &Vec<Change>) -> Wire {
        Wire::Term(Term::list_of(update.iter().map(|change| match change {
            Change::Put { key, value } => tuple![atom!("put"), key, value],
            Change::Delete { key } => tuple![atom!("delete"), key],
        })))
    }

    fn translate_local_data(
        &self,
        _me: &Pid,
        _peer: &Version,
        data: &BTreeMap<Term, Term>,
    ) -> Wire {
        let pairs = data.iter().map(|(key, value)| (key.clone(), value.clone()));
        Wire::Term(Term::Map(pairs.collect()))
    }

    fn read_update(&self, term: &Term) -> Result<Vec<Change>, BadTerm> {
        let read = |change: &Term| match (change.tagged("put"), change.tagged("delete")) {
            (Some([key, value]), _) => Ok(Change::Put { key: key.clone(), value: value.clone() }),
            (_, Some([key])) => Ok(Change::Delete { key: key.clone() }),
            _ => Err(BadTerm::new("{put, Key, Value} or {delete, Key}", change)),
        };
        term.list()?.iter().map(read).collect()
    }

    fn read_own_update(&self, term: &Term) -> Result<Vec<Change>, BadTerm> {
        let own = |change| match change {
            Change::Put { key, value } => Change::put(&key, value),
            Change::Delete { key } => Change::delete(&key),
        };
        Ok(self.read_update(term)?.into_iter().map(own).collect())
    }

    fn read_local_data(&self, term: &Term) -> Result<BTreeMap<Term, Term>, BadTerm> {
        Ok(term.map()?.pairs().iter().cloned().collect())
    }

    fn read_subscription(&self, term: &Term) -> Result<Subscription, BadTerm> {
        match term.tagged("key") {
            Some([key]) => Ok(Subscription::Key(key.clone())),
            _ if term.is_atom("all") => Ok(Subscription::All),
            _ => Err(BadTerm::new("all or {key, Key}", term)),
        }
    }

    fn initial_term(&self, initial: &Initial) -> Term {
        match initial {
            Initial::All(all) => {
                Term::Map(all.iter().map(|(key, of)| (key.clone(), owners_term(of))).collect())
            }
            Initial::Key(owners) => owners_term(owners),
        }
    }

    fn event_term(&self, reference: &Reference, event: &Event) -> Term {
        match event {
            Event::Put { node, key, value } => tuple![reference, atom!("put"), node, key, value],
            Event::Delete { node, key } => tuple![reference, atom!("delete"), node, key],
        }
    }
}

fn owners_term(owners: &Owners) -> Term {
    Term::Map(owners.iter().map(|(node, value)| (node.into(), value.clone())).collect())
}

//! A publisher in two formats, for tests of versions that run side by side: each node owns names,
//! and in format 2 each name has a weight.
//!
//! |        | format 1                         | format 2                               |
//! | ------ | -------------------------------- | -------------------------------------- |
//! | data   | `[Name]`, sorted                 | `#{Name => Weight}`                    |
//! | update | `[{add, Name} \| {remove, Name}]` | `[{set, Name, Weight} \| {drop, Name}]` |
//!
//! Format 2 writes format 1 for each peer whose version is lower than its own; the weights are lost.
//! It reads both: a name of format 1 weighs 1. Format 1 reads nothing but itself; what reaches it in
//! format 2 is refused and counted, see [`Names::unreadable`].
//!
//! Subscriptions are `all`, answered by `#{Node => [Name]}`, and `{node, Node}`, answered by
//! `[Name]`. The events are `{Ref, add, Node, Name}` and `{Ref, remove, Node, Name}`; another weight
//! is none. Its twin in Erlang is `erlang/test/dp_names.erl`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use data_publisher::engine::{DataPublisher, Effects, Version, Wire};
use data_publisher::term::{Atom, BadTerm, NodeName, Pid, Reference, Term};
use data_publisher::{atom, tuple};

/// How data is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// Names.
    One,
    /// Names with weights.
    Two,
}

/// The publisher of a scope of names.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    format: Format,
    version: Version,
    view: NamesView,
    unreadable: Arc<AtomicU64>,
}

impl Names {
    /// Writes `format` to all whose version isn't below `version`, which may be any term.
    pub(crate) fn new(format: Format, version: impl Into<Version>) -> Self {
        Self {
            format,
            version: version.into(),
            view: NamesView::default(),
            unreadable: Arc::default(),
        }
    }

    /// What readers read. A handle; it stays valid when the publisher has gone to its scope.
    pub(crate) fn view(&self) -> NamesView {
        self.view.clone()
    }

    /// How often something was refused as unreadable so far. A handle, as [`view`](Self::view).
    pub(crate) fn unreadable(&self) -> Arc<AtomicU64> {
        self.unreadable.clone()
    }

    /// The format for a peer.
    fn format_for(&self, peer: &Version) -> Format {
        if *peer < self.version { Format::One } else { self.format }
    }

    fn count<T>(&self, read: Result<T, BadTerm>) -> Result<T, BadTerm> {
        if read.is_err() {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

/// One change to what a node owns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    /// `{set, Name, Weight}`, or `{add, Name}` with a weight of 1.
    Set(Term, i64),
    /// `{drop, Name}` or `{remove, Name}`.
    Drop(Term),
}

impl Op {
    /// A name becomes ours.
    pub(crate) fn add(name: impl Into<Term>) -> Vec<Self> {
        Self::set(name, 1)
    }

    /// A name becomes ours, or has another weight.
    pub(crate) fn set(name: impl Into<Term>, weight: i64) -> Vec<Self> {
        vec![Self::Set(name.into(), weight)]
    }

    /// A name isn't ours any more.
    pub(crate) fn remove(name: impl Into<Term>) -> Vec<Self> {
        vec![Self::Drop(name.into())]
    }

    fn read(format: Format, term: &Term) -> Result<Self, BadTerm> {
        match (format, term.tuple_elements()?) {
            (_, [word, name]) if word.is_atom("add") => Ok(Self::Set(name.clone(), 1)),
            (_, [word, name]) if word.is_atom("remove") => Ok(Self::Drop(name.clone())),
            (Format::Two, [word, name, weight]) if word.is_atom("set") => {
                Ok(Self::Set(name.clone(), weight.integer()?))
            }
            (Format::Two, [word, name]) if word.is_atom("drop") => Ok(Self::Drop(name.clone())),
            (Format::One, _) => Err(BadTerm::new("{add, Name} or {remove, Name}", term)),
            (Format::Two, _) => Err(BadTerm::new("{set, Name, Weight} or {drop, Name}", term)),
        }
    }

    fn term(&self, format: Format) -> Term {
        match (format, self) {
            (Format::One, Self::Set(name, _)) => tuple![atom!("add"), name],
            (Format::One, Self::Drop(name)) => tuple![atom!("remove"), name],
            (Format::Two, Self::Set(name, weight)) => tuple![atom!("set"), name, *weight],
            (Format::Two, Self::Drop(name)) => tuple![atom!("drop"), name],
        }
    }
}

/// What subscribers want to hear of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Subscription {
    /// `all`
    All,
    /// `{node, Node}`
    Node(NodeName),
}

/// What a subscriber gets first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Initial {
    /// All nodes that own names.
    All(BTreeMap<NodeName, BTreeSet<Term>>),
    /// The names of the node.
    Node(BTreeSet<Term>),
}

/// What a subscriber gets for a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// A name came.
    Add {
        /// Whose.
        node: NodeName,
        /// Which.
        name: Term,
    },
    /// A name went.
    Remove {
        /// Whose.
        node: NodeName,
        /// Which.
        name: Term,
    },
}

/// What readers read: a handle, cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamesView(Arc<RwLock<BTreeMap<NodeName, BTreeMap<Term, i64>>>>);

impl NamesView {
    /// The names of each node that owns any; the same in both formats.
    pub(crate) fn names(&self) -> BTreeMap<NodeName, BTreeSet<Term>> {
        let names = |names: BTreeMap<Term, i64>| names.into_keys().collect();
        self.weights().into_iter().map(|(node, weights)| (node, names(weights))).collect()
    }

    /// The same with their weights; in format 1 each is 1.
    pub(crate) fn weights(&self) -> BTreeMap<NodeName, BTreeMap<Term, i64>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same without a copy.
    pub(crate) fn of_each(&self, mut each: impl FnMut(&NodeName, &BTreeMap<Term, i64>)) {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().for_each(|(node, weights)| each(node, weights));
    }

    fn names_of(&self, node: &NodeName) -> BTreeSet<Term> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(node).into_iter().flat_map(|names| names.keys().cloned()).collect()
    }

    /// Whether the name came or went.
    fn change(&self, node: &NodeName, op: &Op) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match op {
            Op::Set(name, weight) => {
                all.entry(node.clone()).or_default().insert(name.clone(), *weight).is_none()
            }
            Op::Drop(name) => {
                let Some(names) = all.get_mut(node) else { return false };
                let was_there = names.remove(name).is_some();
                if names.is_empty() {
                    all.remove(node);
                }
                was_there
            }
        }
    }
}

/// A scope's hold of its view: when the scope ends, readers find nothing any more.
#[derive(Debug)]
pub(crate) struct Shown(NamesView);

impl Shown {
    /// As [`NamesView::names`].
    pub(crate) fn names(&self) -> BTreeMap<NodeName, BTreeSet<Term>> {
        self.0.names()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl DataPublisher for Names {
    type LocalData = BTreeMap<Term, i64>;
    type Update = Vec<Op>;
    type GlobalView = Shown;
    type Subscription = Subscription;
    type Initial = Initial;
    type Event = Event;

    fn version(&self) -> Version {
        self.version.clone()
    }

    fn init_local_data(&self) -> BTreeMap<Term, i64> {
        BTreeMap::new()
    }

    fn init_global_view(&mut self, _scope: &Atom) -> Shown {
        Shown(self.view.clone())
    }

    fn update_local_data(
        &self,
        update: Vec<Op>,
        data: &mut BTreeMap<Term, i64>,
    ) -> Option<Vec<Op>> {
        let changes = |op: &Op| match op {
            Op::Set(name, weight) => data.insert(name.clone(), *weight) != Some(*weight),
            Op::Drop(name) => data.remove(name).is_some(),
        };
        let effective: Vec<Op> = update.into_iter().filter(changes).collect();
        (!effective.is_empty()).then_some(effective)
    }

    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &Vec<Op>,
        view: &mut Shown,
        effects: &mut Effects<'_, Self>,
    ) {
        for op in update.iter().filter(|op| view.0.change(origin, op)) {
            let node = origin.clone();
            let event = match op {
                Op::Set(name, _) => Event::Add { node, name: name.clone() },
                Op::Drop(name) => Event::Remove { node, name: name.clone() },
            };
            effects.notify(&Subscription::All, &event);
            effects.notify(&Subscription::Node(origin.clone()), &event);
        }
    }

    /// First what goes, then what comes, each in term order.
    fn data_diff(&self, old: &BTreeMap<Term, i64>, new: &BTreeMap<Term, i64>) -> Option<Vec<Op>> {
        let gone = old.keys().filter(|name| !new.contains_key(name)).cloned().map(Op::Drop);
        let come = new.iter().filter(|(name, weight)| old.get(name) != Some(weight));
        let come = come.map(|(name, weight)| Op::Set(name.clone(), *weight));
        let all: Vec<Op> = gone.chain(come).collect();
        (!all.is_empty()).then_some(all)
    }

    fn new_subscription(&self, key: &Subscription, view: &Shown) -> Initial {
        match key {
            Subscription::All => Initial::All(view.0.names()),
            Subscription::Node(node) => Initial::Node(view.0.names_of(node)),
        }
    }

    fn translate_update(&self, _me: &Pid, peer: &Version, update: &Vec<Op>) -> Wire {
        let format = self.format_for(peer);
        Wire::Term(Term::list_of(update.iter().map(|op| op.term(format))))
    }

    fn translate_local_data(&self, _me: &Pid, peer: &Version, data: &BTreeMap<Term, i64>) -> Wire {
        Wire::Term(match self.format_for(peer) {
            Format::One => Term::list_of(data.keys().cloned()),
            Format::Two => Term::Map(
                data.iter().map(|(name, weight)| (name.clone(), Term::from(*weight))).collect(),
            ),
        })
    }

    fn read_update(&self, term: &Term) -> Result<Vec<Op>, BadTerm> {
        let read = |term: &Term| term.list()?.iter().map(|op| Op::read(self.format, op)).collect();
        self.count(read(term))
    }

    fn read_local_data(&self, term: &Term) -> Result<BTreeMap<Term, i64>, BadTerm> {
        self.count(match (self.format, term) {
            (Format::Two, Term::Map(data)) => data
                .pairs()
                .iter()
                .map(|(name, weight)| Ok((name.clone(), weight.integer()?)))
                .collect(),
            _ => term.list().map(|names| names.iter().map(|name| (name.clone(), 1)).collect()),
        })
    }

    fn read_subscription(&self, term: &Term) -> Result<Subscription, BadTerm> {
        match term.tagged("node") {
            Some([node]) => Ok(Subscription::Node(node.node_name()?)),
            _ if term.is_atom("all") => Ok(Subscription::All),
            _ => Err(BadTerm::new("all or {node, Node}", term)),
        }
    }

    fn initial_term(&self, initial: &Initial) -> Term {
        let list = |names: &BTreeSet<Term>| Term::list_of(names.iter().cloned());
        match initial {
            Initial::All(all) => {
                Term::Map(all.iter().map(|(node, names)| (node.into(), list(names))).collect())
            }
            Initial::Node(names) => list(names),
        }
    }

    fn event_term(&self, reference: &Reference, event: &Event) -> Term {
        match event {
            Event::Add { node, name } => tuple![reference, atom!("add"), node, name],
            Event::Remove { node, name } => tuple![reference, atom!("remove"), node, name],
        }
    }
}

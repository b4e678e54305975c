//! The cluster: what it's made of, how it's made, and what is known of it.
//!
//! What its users do is in [`users`](super::users), what happens to it in [`events`](super::events).

#![expect(clippy::missing_panics_doc, reason = "said once, at `Cluster`")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::laws::Laws;
use super::network::{Network, Signal};
use crate::atom;
use crate::engine::{DataPublisher, Engine, SubscriberId, TimerId, ViewGuard};
use crate::term::{Atom, Creation, NodeName, Pid, Term};
use crate::wire::{decode, encode};

/// How a node's publisher is made.
pub(super) type Make<P> = Rc<dyn Fn(&str) -> P>;

/// A cluster in memory, of nodes that run one scope.
///
/// Nodes are called by the name they were given. All of them run at first, with the scope started and
/// without a connection. Nothing happens but what is asked for: a message that was sent waits until
/// [`deliver`](Self::deliver) or [`settle`](Self::settle), a timer until [`advance`](Self::advance).
///
/// # Panics
///
/// All functions panic when a node isn't one of the cluster's, and when one of the laws is broken that
/// the [module](super) lists; the text says which, where, and what the difference is.
pub struct Cluster<P: DataPublisher> {
    pub(super) releases: Vec<Make<P>>,
    pub(super) nodes: Vec<Node<P>>,
    pub(super) network: Network,
    pub(super) laws: Laws<P>,
    pub(super) now: Duration,
    pub(super) subscribers: u64,
    pub(super) delivered: u64,
    /// What has happened, if somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
}

/// A node.
pub(super) struct Node<P: DataPublisher> {
    /// As the test calls it.
    pub(super) label: String,
    pub(super) name: NodeName,
    pub(super) release: usize,
    pub(super) creation: u32,
    pub(super) pids: u32,
    pub(super) runs: bool,
    pub(super) scope: Option<Running<P>>,
    /// What the last scope left.
    pub(super) left: Option<P::LocalData>,
    /// Living processes, with what they were sent.
    pub(super) processes: BTreeMap<Pid, Vec<Term>>,
}

/// A scope that runs.
pub(super) struct Running<P: DataPublisher> {
    pub(super) engine: Engine<P>,
    pub(super) timers: BTreeSet<(Duration, TimerId)>,
    pub(super) heard: BTreeMap<SubscriberId, Rc<RefCell<Vec<P::Event>>>>,
    /// What those make of it who follow a key, in the order of the laws.
    pub(super) followers: BTreeMap<SubscriberId, Option<P::Initial>>,
}

/// What a subscriber was told, in order.
#[derive(Debug)]
pub struct Heard<E>(pub(super) Rc<RefCell<Vec<E>>>);

impl<E> Heard<E> {
    /// The events since the last time.
    pub fn take(&mut self) -> Vec<E> {
        self.0.take()
    }
}

/// How it's made, and what is known of it.
impl<P: DataPublisher> Cluster<P> {
    /// A cluster of these nodes; `publisher` makes a node's. It's called for each scope that starts,
    /// and also to check a view, so it has to make the same for a node each time.
    ///
    /// A name without a host gets `test` for one: `a` is `a@test`.
    ///
    /// # Panics
    ///
    /// When there is no name, or one that can't be a node's, or one twice.
    pub fn new<N: Into<String>>(
        names: impl IntoIterator<Item = N>,
        publisher: impl Fn(&str) -> P + 'static,
    ) -> Self {
        let mut cluster = Self {
            releases: vec![Rc::new(publisher)],
            nodes: Vec::new(),
            network: Network::default(),
            laws: Laws::default(),
            now: Duration::ZERO,
            subscribers: 0,
            delivered: 0,
            story: None,
        };
        for label in names {
            let label = label.into();
            let name = if label.contains('@') { label.clone() } else { format!("{label}@test") };
            let name = NodeName::new(&name).unwrap_or_else(|error| panic!("{error}"));
            assert!(cluster.nodes.iter().all(|node| node.name != name), "two nodes are {label}");
            cluster.nodes.push(Node {
                label,
                name,
                release: 0,
                creation: 0,
                pids: 0,
                runs: false,
                scope: None,
                left: None,
                processes: BTreeMap::new(),
            });
        }
        assert!(!cluster.nodes.is_empty(), "a cluster without nodes");
        for i in 0..cluster.nodes.len() {
            cluster.start_at(i);
        }
        cluster
    }

    /// A newer release of the publisher, for [`upgrade`](Self::upgrade).
    #[must_use]
    pub fn release(mut self, publisher: impl Fn(&str) -> P + 'static) -> Self {
        self.releases.push(Rc::new(publisher));
        self
    }

    /// From now on all views are compared by this: with what the node knows of each peer, and with each
    /// other when all is quiet.
    ///
    /// What may differ between two nodes that are right is left out here: for example zeros, if a node
    /// that is gone falls to 0 where it was known, and isn't there where it wasn't.
    #[must_use]
    pub fn compare<T: fmt::Debug + PartialEq + 'static>(
        mut self,
        picture: impl Fn(&P::GlobalView) -> T + 'static,
    ) -> Self {
        self.laws.compare(picture);
        self.check_all();
        self
    }

    /// Every node gets a subscriber to `key`, from its start on; what it was told first and what it makes
    /// of each event by `hear` has always to be what a new subscriber would be told.
    #[must_use]
    pub fn follow(
        mut self,
        key: P::Subscription,
        hear: impl Fn(&mut P::Initial, P::Event) + 'static,
    ) -> Self
    where
        P::Initial: fmt::Debug + PartialEq,
        P::Subscription: fmt::Debug,
    {
        self.laws.follow(key, hear);
        for i in 0..self.nodes.len() {
            self.add_followers(i);
        }
        self
    }

    /// The full name of a node.
    pub fn name(&self, node: &str) -> &NodeName {
        &self.nodes[self.index(node)].name
    }

    /// The view of a node, as its readers see it.
    ///
    /// # Panics
    ///
    /// When no scope runs there, as all functions that need one.
    pub fn view(&self, node: &str) -> ViewGuard<'_, P::GlobalView> {
        self.engine(node).view()
    }

    /// The engine of a node: its peers, what it knows of each, what it has refused.
    pub fn engine(&self, node: &str) -> &Engine<P> {
        let node = &self.nodes[self.index(node)];
        let running = node.scope.as_ref();
        &running.unwrap_or_else(|| panic!("{} runs no scope", node.label)).engine
    }

    /// Whether the scope of a node runs.
    pub fn runs(&self, node: &str) -> bool {
        self.nodes[self.index(node)].scope.is_some()
    }

    /// The time that has passed since the cluster was made.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What is on its way from a node to another, in order.
    pub fn in_flight(&self, from: &str, to: &str) -> Vec<Term> {
        let (from, to) = (self.index(from), self.index(to));
        let messages = self.network.waiting(from, to).filter_map(|signal| match signal {
            Signal::Message { bytes, .. } => Some(read(bytes)),
            Signal::Down { .. } => None,
        });
        messages.collect()
    }

    pub(super) fn index(&self, node: &str) -> usize {
        let place = self.nodes.iter().position(|known| known.label == node);
        place.unwrap_or_else(|| {
            let all: Vec<_> = self.nodes.iter().map(|node| &*node.label).collect();
            panic!("no node {node} in this cluster, there are: {}", all.join(", "))
        })
    }

    pub(super) fn make(&self, i: usize) -> P {
        let node = &self.nodes[i];
        self.releases[node.release](&node.label)
    }

    /// Whether a node runs, with its scope or without.
    pub(super) fn is_up(&self, i: usize) -> bool {
        self.nodes[i].runs
    }

    /// A line of the story.
    pub(super) fn line(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(what());
        }
    }

    /// What became of the last line.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        self.line(|| format!("    # {}", what()));
    }
}

impl<P: DataPublisher> Node<P> {
    pub(super) fn new_pid(&mut self) -> Pid {
        self.pids += 1;
        let creation = Creation(self.creation);
        Pid { node: self.name.clone(), id: self.pids, serial: 0, creation }
    }

    /// Whether a process of this node lives.
    pub(super) fn is_alive(&self, pid: &Pid) -> bool {
        let is_scope = self.scope.as_ref().is_some_and(|running| running.engine.me() == pid);
        is_scope || self.processes.contains_key(pid)
    }
}

impl<P: DataPublisher> fmt::Debug for Cluster<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|node| &node.name).collect();
        f.debug_struct("Cluster")
            .field("nodes", &nodes)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The name under which every node runs its scope.
pub(super) fn scope() -> Atom {
    atom!("scope")
}

pub(super) fn read(bytes: &[u8]) -> Term {
    decode(bytes).expect("what was encoded here")
}

pub(super) fn write(message: &Term) -> Rc<[u8]> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap_or_else(|error| panic!("{message} can't be sent: {error}"));
    bytes.into()
}

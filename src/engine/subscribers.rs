//! Who hears of changes: subscribers in this process by their id, processes of the cluster by the
//! reference they got.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::action::{MonitorId, SubscriberId};
use crate::term::{NodeName, Pid, Reference};

/// Most subscribed processes of one other node: what a peer makes us keep and monitor has a bound.
pub(super) const MOST_OF_NODE: usize = 65_536;

/// Own ones first, each kind in the order of its numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Subscriber {
    Own(SubscriberId),
    Process(u64),
}

/// How to reach a subscriber.
pub(super) enum Listener<'a> {
    Own(SubscriberId),
    Process { reference: &'a Reference, pid: &'a Pid },
}

#[derive(Debug)]
struct Process<K> {
    key: K,
    reference: Reference,
    pid: Pid,
    monitor: MonitorId,
}

#[derive(Debug)]
pub(super) struct Subscribers<K> {
    by_key: HashMap<K, BTreeSet<Subscriber>>,
    own: BTreeMap<SubscriberId, K>,
    processes: BTreeMap<u64, Process<K>>,
    by_reference: BTreeMap<Reference, u64>,
    /// How many of `processes` are on each node.
    of_node: BTreeMap<NodeName, usize>,
    used: u64,
}

impl<K> Default for Subscribers<K> {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            own: BTreeMap::new(),
            processes: BTreeMap::new(),
            by_reference: BTreeMap::new(),
            of_node: BTreeMap::new(),
            used: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Subscribers<K> {
    /// Adds a subscriber of this process; its earlier subscription, if any, ends.
    pub(super) fn add(&mut self, subscriber: SubscriberId, key: K) {
        self.remove(subscriber);
        self.by_key.entry(key.clone()).or_default().insert(Subscriber::Own(subscriber));
        self.own.insert(subscriber, key);
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) {
        if let Some(key) = self.own.remove(&subscriber) {
            self.take_from_key(&key, Subscriber::Own(subscriber));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn contains(&self, subscriber: SubscriberId) -> bool {
        self.own.contains_key(&subscriber)
    }

    /// The number of the next [`add_process`](Self::add_process).
    pub(super) fn next_number(&mut self) -> u64 {
        self.used += 1;
        self.used
    }

    pub(super) fn add_process(
        &mut self,
        number: u64,
        key: K,
        reference: Reference,
        pid: Pid,
        monitor: MonitorId,
    ) {
        self.by_key.entry(key.clone()).or_default().insert(Subscriber::Process(number));
        self.by_reference.insert(reference.clone(), number);
        *self.of_node.entry(pid.node.clone()).or_default() += 1;
        self.processes.insert(number, Process { key, reference, pid, monitor });
    }

    /// Whether no more processes of the node can be subscribed.
    pub(super) fn is_full_of(&self, node: &NodeName) -> bool {
        self.of_node.get(node).is_some_and(|count| *count >= MOST_OF_NODE)
    }

    /// The processes on a node.
    pub(super) fn numbers_of_node(&self, node: &NodeName) -> Vec<u64> {
        if !self.of_node.contains_key(node) {
            return Vec::new();
        }
        let all = self.processes.iter().filter(|(_, process)| process.pid.node == *node);
        all.map(|(number, _)| *number).collect()
    }

    pub(super) fn number_of(&self, reference: &Reference) -> Option<u64> {
        self.by_reference.get(reference).copied()
    }

    /// Removes a process; gives back its monitor.
    pub(super) fn remove_process(&mut self, number: u64) -> Option<MonitorId> {
        let process = self.processes.remove(&number)?;
        self.by_reference.remove(&process.reference);
        if let Some(count) = self.of_node.get_mut(&process.pid.node) {
            *count -= 1;
            if *count == 0 {
                self.of_node.remove(&process.pid.node);
            }
        }
        self.take_from_key(&process.key, Subscriber::Process(number));
        Some(process.monitor)
    }

    /// All subscribers to a key.
    pub(super) fn of(&self, key: &K) -> impl Iterator<Item = Listener<'_>> {
        self.by_key.get(key).into_iter().flatten().filter_map(|subscriber| match subscriber {
            Subscriber::Own(id) => Some(Listener::Own(*id)),
            Subscriber::Process(number) => self.processes.get(number).map(|process| {
                Listener::Process { reference: &process.reference, pid: &process.pid }
            }),
        })
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = (u64, &Pid, MonitorId)> {
        self.processes.iter().map(|(number, process)| (*number, &process.pid, process.monitor))
    }

    pub(super) fn len(&self) -> usize {
        self.own.len() + self.processes.len()
    }

    /// How many there are when counted by key; for [`Engine::check`](super::Engine::check).
    pub(super) fn len_by_key(&self) -> usize {
        self.by_key.values().map(BTreeSet::len).sum()
    }

    fn take_from_key(&mut self, key: &K, subscriber: Subscriber) {
        if let Some(subscribers) = self.by_key.get_mut(key) {
            subscribers.remove(&subscriber);
            if subscribers.is_empty() {
                self.by_key.remove(key);
            }
        }
    }
}

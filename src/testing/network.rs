//! The connections of a cluster in memory: what is on its way, in order, and who watches whom.
//!
//! A message travels as the bytes it would be on a socket. Between two nodes nothing overtakes and
//! nothing is lost but with the connection; the end of a process comes behind all that it said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::engine::MonitorId;
use crate::term::{Atom, Destination, Pid};

/// Something on its way.
#[derive(Clone, Debug)]
pub(super) enum Signal {
    /// A message, in the external term format.
    Message { from: Pid, to: Destination, bytes: Rc<[u8]> },
    /// A watched process has ended.
    Down { watcher: Pid, monitor: MonitorId, pid: Pid, reason: Atom },
}

/// A monitor that runs.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// The node of the watcher.
    pub(super) at: usize,
    pub(super) watcher: Pid,
    pub(super) monitor: MonitorId,
    /// The node of the watched, and it.
    pub(super) on: usize,
    pub(super) pid: Pid,
}

/// Nodes by their numbers.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Each pair once, the lower number first.
    up: BTreeSet<(usize, usize)>,
    /// By sender and receiver; who sends to itself has no connection, but an order, too.
    queues: BTreeMap<(usize, usize), VecDeque<Signal>>,
    watches: Vec<Watch>,
}

impl Network {
    pub(super) fn is_up(&self, i: usize, j: usize) -> bool {
        self.up.contains(&(i.min(j), i.max(j)))
    }

    pub(super) fn connect(&mut self, i: usize, j: usize) {
        self.up.insert((i.min(j), i.max(j)));
    }

    /// The connection is gone, with all that was on its way. The monitors that ran over it.
    pub(super) fn cut(&mut self, i: usize, j: usize) -> Vec<Watch> {
        self.up.remove(&(i.min(j), i.max(j)));
        self.queues.remove(&(i, j));
        self.queues.remove(&(j, i));
        self.end_watches(|watch| [(i, j), (j, i)].contains(&(watch.at, watch.on)))
    }

    /// Says something, if there's somebody to hear it.
    pub(super) fn send(&mut self, from: usize, to: usize, signal: Signal) {
        if from == to || self.is_up(from, to) {
            self.queues.entry((from, to)).or_default().push_back(signal);
        }
    }

    /// The next that arrives.
    pub(super) fn take(&mut self, from: usize, to: usize) -> Option<Signal> {
        let queue = self.queues.get_mut(&(from, to))?;
        let signal = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&(from, to));
        }
        signal
    }

    /// What is on its way, in order.
    pub(super) fn waiting(&self, from: usize, to: usize) -> impl Iterator<Item = &Signal> {
        self.queues.get(&(from, to)).into_iter().flatten()
    }

    /// A pair with something on its way, if there is any.
    pub(super) fn busy(&self) -> Option<(usize, usize)> {
        self.queues.keys().next().copied()
    }

    /// Whether nothing is on its way between the two.
    pub(super) fn is_quiet(&self, i: usize, j: usize) -> bool {
        !self.queues.contains_key(&(i, j)) && !self.queues.contains_key(&(j, i))
    }

    pub(super) fn watch(&mut self, watch: Watch) {
        self.watches.push(watch);
    }

    /// Ends the monitors of which this holds.
    pub(super) fn end_watches(&mut self, is_over: impl Fn(&Watch) -> bool) -> Vec<Watch> {
        self.watches.extract_if(.., |watch| is_over(watch)).collect()
    }

    /// A process has ended: whoever watched it will hear of it, and what it watched is over.
    pub(super) fn process_ended(&mut self, pid: &Pid, reason: &Atom) {
        self.end_watches(|watch| watch.watcher == *pid);
        for watch in self.end_watches(|watch| watch.pid == *pid) {
            let Watch { at, watcher, monitor, on, pid } = watch;
            self.send(on, at, Signal::Down { watcher, monitor, pid, reason: reason.clone() });
        }
    }

    /// The node is gone, and its connections are, too.
    pub(super) fn node_ended(&mut self, i: usize) {
        self.queues.remove(&(i, i));
        self.end_watches(|watch| watch.at == i);
    }
}

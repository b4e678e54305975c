//! Both ends of monitors: those our processes hold, and those peers hold on our processes.
//!
//! One lock guards all of it. Nothing is sent under it: each method returns what there is to tell,
//! and the router tells it.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Mutex;

use rustc_hash::{FxHashMap, FxHashSet};

use super::connection::ConnectionId;
use super::process::Monitored;
use crate::term::{Pid, Reference};
use crate::wire::signal::PidOrName;

/// All monitors of a node.
#[derive(Debug, Default)]
pub(crate) struct Monitors(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Held by our processes.
    held: FxHashMap<Reference, Held>,
    held_by: FxHashMap<Pid, FxHashSet<Reference>>,
    /// On our processes, from other nodes or from here.
    watchers: FxHashMap<Key, Watcher>,
    watched: FxHashMap<Pid, FxHashSet<Key>>,
    /// How many watchers came over each connection.
    counts: FxHashMap<ConnectionId, usize>,
}

/// A peer's references are only its own affair: two peers may use the same one.
type Key = (Option<ConnectionId>, Reference);

/// A monitor one of our processes holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) owner: Pid,
    pub(crate) object: Monitored,
    /// The connection it went over; `None` for a process of this node.
    pub(crate) over: Option<ConnectionId>,
    /// Whether its reference is an alias of the owner too, which ends with it.
    pub(crate) alias: bool,
}

/// A monitor on one of our processes.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) pid: Pid,
    pub(crate) reference: Reference,
    pub(crate) watched: Pid,
    /// What the watcher asked for, to be echoed in the answer.
    pub(crate) target: PidOrName,
    /// The connection it came over; `None` for a process of this node.
    pub(crate) over: Option<ConnectionId>,
}

impl Monitors {
    pub(crate) fn hold(&self, reference: &Reference, held: Held) {
        let mut tables = self.tables();
        tables.held_by.entry(held.owner.clone()).or_default().insert(reference.clone());
        tables.held.insert(reference.clone(), held);
    }

    /// The monitor is over: by its `DOWN`, or taken back. `None` when it was over already, so that
    /// whoever gets `Some` is the one who tells.
    pub(crate) fn release(&self, reference: &Reference) -> Option<Held> {
        self.tables().release(reference)
    }

    /// A monitor that a peer's `DOWN` answers: only if it went over this very connection.
    pub(crate) fn release_over(
        &self,
        reference: &Reference,
        connection: ConnectionId,
    ) -> Option<Held> {
        let mut tables = self.tables();
        match tables.held.get(reference) {
            Some(held) if held.over == Some(connection) => tables.release(reference),
            _ => None,
        }
    }

    /// Somebody watches one of our processes. A reference used a second time changes nothing.
    /// Returns how many monitors have come over the same connection.
    pub(crate) fn watch(&self, watcher: Watcher) -> usize {
        let mut tables = self.tables();
        let over = watcher.over;
        if let Entry::Vacant(free) = tables.watchers.entry((over, watcher.reference.clone())) {
            let key = free.key().clone();
            let on = free.insert(watcher).watched.clone();
            tables.watched.entry(on).or_default().insert(key);
            if let Some(connection) = over {
                *tables.counts.entry(connection).or_default() += 1;
            }
        }
        over.and_then(|connection| tables.counts.get(&connection).copied()).unwrap_or_default()
    }

    /// Somebody stopped watching; over the connection the monitor came by.
    pub(crate) fn unwatch(
        &self,
        reference: &Reference,
        over: Option<ConnectionId>,
    ) -> Option<Watcher> {
        self.tables().unwatch(&(over, reference.clone()))
    }

    /// One of our processes has ended: who watched it, and what it watched.
    pub(crate) fn process_ended(&self, pid: &Pid) -> (Vec<Watcher>, Vec<(Reference, Held)>) {
        let mut tables = self.tables();
        let watched = tables.watched.remove(pid).unwrap_or_default();
        let watchers: Vec<_> =
            watched.iter().filter_map(|key| tables.watchers.remove(key)).collect();
        for watcher in &watchers {
            tables.uncount(watcher);
        }
        let held = tables.held_by.remove(pid).unwrap_or_default();
        let held =
            held.into_iter().filter_map(|r| tables.held.remove(&r).map(|held| (r, held))).collect();
        (watchers, held)
    }

    /// A connection has closed: the monitors that went over it, each owed a `DOWN` with
    /// `noconnection`. Those that came over it are forgotten.
    pub(crate) fn connection_closed(&self, connection: ConnectionId) -> Vec<(Reference, Held)> {
        let mut tables = self.tables();
        let gone: Vec<_> = (tables.watchers.values())
            .filter(|watcher| watcher.over == Some(connection))
            .map(|watcher| (watcher.over, watcher.reference.clone()))
            .collect();
        for key in &gone {
            tables.unwatch(key);
        }
        tables.counts.remove(&connection);
        let mut lost: Vec<_> = (tables.held.iter())
            .filter(|(_, held)| held.over == Some(connection))
            .map(|(reference, _)| reference.clone())
            .collect();
        lost.sort_unstable();
        lost.into_iter()
            .filter_map(|reference| tables.release(&reference).map(|held| (reference, held)))
            .collect()
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Tables {
    fn release(&mut self, reference: &Reference) -> Option<Held> {
        let held = self.held.remove(reference)?;
        remove_from(&mut self.held_by, &held.owner, reference);
        Some(held)
    }

    fn unwatch(&mut self, key: &Key) -> Option<Watcher> {
        let watcher = self.watchers.remove(key)?;
        remove_from(&mut self.watched, &watcher.watched, key);
        self.uncount(&watcher);
        Some(watcher)
    }

    fn uncount(&mut self, watcher: &Watcher) {
        if let Some(Entry::Occupied(mut count)) = watcher.over.map(|over| self.counts.entry(over)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn remove_from<K: Eq + Hash>(index: &mut FxHashMap<Pid, FxHashSet<K>>, pid: &Pid, key: &K) {
    if let Entry::Occupied(mut entry) = index.entry(pid.clone()) {
        entry.get_mut().remove(key);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

//! Process aliases: references that stand for a process while they are active.

use std::collections::hash_map::Entry;
use std::sync::RwLock;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::term::{Pid, Reference};

/// The aliases of a node's processes.
#[derive(Debug, Default)]
pub(crate) struct Aliases(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    active: FxHashMap<Reference, (Pid, AliasEnd)>,
    by_owner: FxHashMap<Pid, FxHashSet<Reference>>,
}

/// When an alias ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AliasEnd {
    /// Never: `alias/0`.
    Explicit,
    /// By the first message that comes by it: `alias([reply])`.
    Reply,
    /// By the first message, which ends the monitor of the same reference as well, or by that
    /// monitor's `DOWN`: `{alias, reply_demonitor}` of `monitor/3`.
    ReplyDemonitor,
}

impl Aliases {
    pub(crate) fn add(&self, alias: &Reference, owner: &Pid, end: AliasEnd) {
        let mut tables = self.tables();
        tables.active.insert(alias.clone(), (owner.clone(), end));
        tables.by_owner.entry(owner.clone()).or_default().insert(alias.clone());
    }

    pub(crate) fn remove(&self, alias: &Reference) -> bool {
        self.tables().remove(alias).is_some()
    }

    /// Whose it is, if it's active.
    pub(crate) fn owner(&self, alias: &Reference) -> Option<Pid> {
        self.read(alias).map(|(owner, _)| owner)
    }

    /// Whose it is, for a message that comes by it, and what else ends with it.
    pub(crate) fn take(&self, alias: &Reference) -> Option<(Pid, AliasEnd)> {
        let found = self.read(alias)?;
        // Of two messages at the same time one is the first.
        if found.1 == AliasEnd::Explicit { Some(found) } else { self.tables().remove(alias) }
    }

    /// One of our processes has ended.
    pub(crate) fn forget(&self, owner: &Pid) {
        let mut tables = self.tables();
        for alias in tables.by_owner.remove(owner).unwrap_or_default() {
            tables.active.remove(&alias);
        }
    }

    fn read(&self, alias: &Reference) -> Option<(Pid, AliasEnd)> {
        self.0.read().expect("no panic under this lock").active.get(alias).cloned()
    }

    fn tables(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.0.write().expect("no panic under this lock")
    }
}

impl Tables {
    fn remove(&mut self, alias: &Reference) -> Option<(Pid, AliasEnd)> {
        let found = self.active.remove(alias)?;
        if let Entry::Occupied(mut of_owner) = self.by_owner.entry(found.0.clone()) {
            of_owner.get_mut().remove(alias);
            if of_owner.get().is_empty() {
                of_owner.remove();
            }
        }
        Some(found)
    }
}

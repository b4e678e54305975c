//! The monitors an engine has running, and what each is for.
//!
//! A `Down` counts only by its id: whatever a connection of the past still reports finds no entry
//! here and changes nothing.

use std::collections::BTreeMap;

use super::action::MonitorId;
use crate::term::Pid;

/// Why a process is watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// It's a peer.
    Peer,
    /// It subscribed; the number of its subscription.
    Subscriber(u64),
    /// The publisher wanted it.
    Publisher,
}

#[derive(Debug, Default)]
pub(super) struct Monitors {
    running: BTreeMap<MonitorId, (Pid, Purpose)>,
    used: u64,
}

impl Monitors {
    pub(super) fn start(&mut self, pid: Pid, purpose: Purpose) -> MonitorId {
        self.used += 1;
        let id = MonitorId(self.used);
        self.running.insert(id, (pid, purpose));
        id
    }

    /// Whether it ran and `is_mine` said yes to its purpose; then it runs no more.
    pub(super) fn stop(&mut self, id: MonitorId, is_mine: impl Fn(Purpose) -> bool) -> bool {
        match self.running.get(&id) {
            Some((_, purpose)) if is_mine(*purpose) => self.running.remove(&id).is_some(),
            _ => false,
        }
    }

    /// The purpose of a monitor that reported `pid`; it runs no more. `None` if it doesn't run or
    /// watches another process.
    pub(super) fn down(&mut self, id: MonitorId, pid: &Pid) -> Option<Purpose> {
        match self.running.get(&id) {
            Some((watched, _)) if watched == pid => {
                self.running.remove(&id).map(|(_, purpose)| purpose)
            }
            _ => None,
        }
    }

    pub(super) fn get(&self, id: MonitorId) -> Option<&(Pid, Purpose)> {
        self.running.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (MonitorId, &Pid, Purpose)> {
        self.running.iter().map(|(id, (pid, purpose))| (*id, pid, *purpose))
    }
}

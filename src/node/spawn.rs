//! Spawn requests: processes that we ask of other nodes, and those that others ask of us.
//!
//! A node can't know what there is to run here: a [`Spawner`] does, [`rpc`](crate::rpc) in practice.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Connection, ConnectionId, Credit};
use super::process::Process;
use crate::term::{Atom, List, NodeName, Pid, Reference, Term};

/// A process to be started on another node, for [`Process::spawn_request`].
#[derive(Clone, Debug)]
pub struct SpawnRequest {
    pub(super) node: NodeName,
    pub(super) module: Atom,
    pub(super) function: Atom,
    pub(super) args: List,
    pub(super) link: bool,
    pub(super) monitor: bool,
    pub(super) group_leader: Option<Pid>,
}

impl SpawnRequest {
    /// `spawn_request(Node, Module, Function, Args)`.
    pub fn new(node: NodeName, module: Atom, function: Atom, args: List) -> Self {
        let (link, monitor, group_leader) = (false, false, None);
        Self { node, module, function, args, link, monitor, group_leader }
    }

    /// Linked to whoever asks.
    #[must_use]
    pub fn link(mut self) -> Self {
        self.link = true;
        self
    }

    /// Monitored by whoever asks; the reference is that of the request.
    #[must_use]
    pub fn monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// The new process's group leader, where its output goes. Default: that of whoever asks, who
    /// takes none.
    #[must_use]
    pub fn group_leader(mut self, leader: Pid) -> Self {
        self.group_leader = Some(leader);
        self
    }
}

/// Runs what other nodes ask us to spawn.
pub(crate) trait Spawner: Any + Send + Sync + fmt::Debug {
    /// A place for one more process; `None` when there are too many.
    fn admit(&self) -> Option<OwnedSemaphorePermit>;

    /// Does the work and ends the process; returns at once.
    fn run(&self, order: Order, process: Process);
}

/// What a process is to do that another node has asked for.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) module: Atom,
    pub(crate) function: Atom,
    pub(crate) args: List,
    /// Held until the work is done: the arguments are memory, and so is the process.
    pub(crate) hold: (Credit, OwnedSemaphorePermit),
}

impl Order {
    /// Who asked for it, and waits for its result.
    pub(crate) fn asker(&self) -> Arc<Connection> {
        self.hold.0.connection().clone()
    }
}

/// What the asker wants besides the process; `None` when that's no list of options. Those we don't
/// know concern a BEAM's heap and scheduler.
pub(super) fn read_options(options: &Term) -> Option<(bool, bool)> {
    let (mut link, mut monitor) = (false, false);
    for option in options.list().ok()?.iter() {
        link |= option.is_atom("link");
        monitor |= option.is_atom("monitor") || option.tagged("monitor").is_some();
    }
    Some((link, monitor))
}

/// Requests of ours that aren't answered yet, and what was learnt for further ones.
#[derive(Debug, Default)]
pub(crate) struct Spawns(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    pending: FxHashMap<Reference, Pending>,
    /// The group leader for processes asked for over a connection.
    leaders: FxHashMap<ConnectionId, Pid>,
}

/// A request of ours that isn't answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) owner: Pid,
    pub(crate) link: bool,
    pub(crate) monitor: bool,
    pub(crate) over: ConnectionId,
}

impl Spawns {
    pub(crate) fn add(&self, reference: &Reference, pending: Pending) {
        self.tables().pending.insert(reference.clone(), pending);
    }

    /// Takes a request that is answered over this connection; only one that went over it.
    pub(crate) fn take(&self, reference: &Reference, over: ConnectionId) -> Option<Pending> {
        let mut tables = self.tables();
        if tables.pending.get(reference)?.over != over {
            return None;
        }
        tables.pending.remove(reference)
    }

    /// A connection has closed: the requests that nobody will answer, each with who asked.
    pub(crate) fn connection_closed(&self, over: ConnectionId) -> Vec<(Reference, Pid)> {
        let mut tables = self.tables();
        tables.leaders.remove(&over);
        let mut lost: Vec<_> = (tables.pending.iter())
            .filter(|(_, pending)| pending.over == over)
            .map(|(reference, pending)| (reference.clone(), pending.owner.clone()))
            .collect();
        lost.sort_unstable();
        for (reference, _) in &lost {
            tables.pending.remove(reference);
        }
        lost
    }

    pub(crate) fn leader(&self, over: ConnectionId) -> Option<Pid> {
        self.tables().leaders.get(&over).cloned()
    }

    pub(crate) fn set_leader(&self, over: ConnectionId, leader: Pid) {
        self.tables().leaders.insert(over, leader);
    }

    pub(crate) fn forget_leader(&self, over: ConnectionId) {
        self.tables().leaders.remove(&over);
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().expect("no panic under this lock")
    }
}

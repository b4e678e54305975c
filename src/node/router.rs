//! From a destination to a mailbox or a connection: the only look-up there is, and what every signal
//! does when it arrives.
//!
//! Locks: `transition` is held while a connection comes up or goes down, so that observers see `Down`s,
//! `NodeDown`, `NodeUp` in this order and never mixed. Under it any of the others may be taken; the
//! others are held for a look-up only, never while something is sent.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::NodeEvent;
use super::config::Limits;
use super::connection::table::{Attempt, Table};
use super::connection::{
    Connection, ConnectionId, Credit, DownReason, Marks, Push, Queue, encode_payload,
};
use super::ids::Ids;
use super::links::Links;
use super::monitors::{Held, Monitors, Watcher};
use super::process::{Address, Envelope, Monitored, Origin, Received};
use super::registry::{RegisterError, Registry};
use crate::term::{Atom, Creation, Destination, NodeName, Pid, Reference, Term};
use crate::wire::Flags;
use crate::wire::signal::{PidOrName, Signal, Target};
use crate::{atom, tuple};

/// The inside of a node, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Router {
    name: NodeName,
    limits: Limits,
    ids: Ids,
    processes: RwLock<FxHashMap<Pid, Address>>,
    registry: Registry,
    aliases: RwLock<FxHashMap<Reference, Pid>>,
    monitors: Monitors,
    links: Links,
    table: Table,
    /// See the head of this file.
    transition: Mutex<()>,
    node_watchers: Mutex<Vec<Pid>>,
    observers: Mutex<Vec<mpsc::UnboundedSender<NodeEvent>>>,
    queued: Arc<AtomicUsize>,
    next_id: AtomicUsize,
    /// The sender of messages that no process sends; it never was alive.
    nobody: Pid,
}

/// A message didn't leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unsent {
    /// There is no connection to the node, or it is closing.
    NoConnection,
    /// It's larger than a frame may be.
    TooLarge,
}

impl Router {
    pub(crate) fn new(name: NodeName, limits: Limits) -> Arc<Self> {
        let ids = Ids::new(name.clone(), Ids::new_creation());
        Arc::new(Self {
            nobody: ids.pid(),
            ids,
            name,
            limits,
            processes: RwLock::default(),
            registry: Registry::default(),
            aliases: RwLock::default(),
            monitors: Monitors::default(),
            links: Links::default(),
            table: Table::default(),
            transition: Mutex::default(),
            node_watchers: Mutex::default(),
            observers: Mutex::default(),
            queued: Arc::default(),
            next_id: AtomicUsize::new(1),
        })
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.name
    }

    pub(crate) fn creation(&self) -> Creation {
        self.ids.creation()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.ids
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    // Sending.

    /// Sends a message; never waits, never connects. To a process that doesn't exist it is dropped,
    /// as on the BEAM.
    pub(crate) fn send(
        &self,
        from: Option<&Pid>,
        to: &Destination,
        message: &Term,
    ) -> Result<(), Unsent> {
        if to.node() == &self.name {
            self.deliver_local(to, message.clone());
            return Ok(());
        }
        let connection = self.table.up(to.node()).ok_or(Unsent::NoConnection)?;
        let payload = encode_payload(message).map_err(|_| Unsent::TooLarge)?;
        self.push_message(&connection, from, to, &payload)
    }

    /// Sends one message, encoded once, to processes of other nodes, each over this very
    /// connection: when it's gone, the message is dropped even if a newer one is there.
    pub(crate) fn publish<'a>(
        &self,
        from: &Pid,
        to: impl Iterator<Item = (&'a Connection, Destination)>,
        message: &Term,
    ) {
        let payload = match encode_payload(message) {
            Ok(payload) => payload,
            Err(error) => return log::error!("{from}: not sent: {error}"),
        };
        for (connection, to) in to {
            let _ = self.push_message(connection, Some(from), &to, &payload);
        }
    }

    /// Queues an encoded message at a connection.
    pub(crate) fn push_message(
        &self,
        connection: &Connection,
        from: Option<&Pid>,
        to: &Destination,
        payload: &Bytes,
    ) -> Result<(), Unsent> {
        let from = from.unwrap_or(&self.nobody);
        self.pushed(connection.push_send(from, &to.clone().into(), payload))
    }

    fn push_signal(&self, connection: &Connection, signal: &Signal) -> Result<(), Unsent> {
        self.pushed(connection.push_signal(signal))
    }

    fn pushed(&self, push: Push) -> Result<(), Unsent> {
        match push {
            Push::Queued => Ok(()),
            Push::Failed => Err(Unsent::NoConnection),
            Push::Refused => Err(Unsent::TooLarge),
            Push::NodeFull => {
                let all = self.table.all_up();
                if let Some(longest) = all.iter().max_by_key(|c| c.queue().bytes()) {
                    longest.queue().fail(DownReason::Slow);
                }
                Ok(())
            }
        }
    }

    // Receiving.

    /// Does what a signal from a peer asks for. An error closes the connection.
    pub(crate) fn receive(
        &self,
        connection: &Arc<Connection>,
        signal: Signal,
        bytes: usize,
    ) -> Result<(), DownReason> {
        match signal {
            Signal::Send { to, message, .. } => {
                let Some(pid) = self.local_target(&to) else { return Ok(()) };
                let credit = self.credit(connection, bytes)?;
                let origin = Origin::Connection(connection.clone());
                self.deliver(&pid, message, origin, Some(credit));
            }
            Signal::Monitor { from, target, reference } => {
                self.watched_by_peer(connection, from, target, reference)?;
            }
            Signal::Demonitor { reference, .. } => {
                self.monitors.unwatch(&reference, Some(connection.id()));
            }
            Signal::MonitorExit { reference, reason, .. } => {
                // Or the connection could go and come back between the two, and the `Down` be late.
                let _transition = self.transition();
                if let Some(held) = self.monitors.release_over(&reference, connection.id()) {
                    self.deliver_down(reference, held, reason);
                }
            }
            Signal::Link { from, to } => {
                // As on the BEAM: nobody links in another node's name.
                if from.node != *connection.peer() {
                    return Err(DownReason::BadFrame(format!("a link from {from}")));
                }
                self.linked_by_peer(connection, from, to)?;
            }
            Signal::Unlink { id, from, to } => {
                self.links.remove(&to, &from, Some(connection.id()));
                // Always answered, a link or not: the peer keeps the pair until then.
                let ack = Signal::UnlinkAck { id, from: to, to: from };
                let _ = self.push_signal(connection, &ack);
            }
            Signal::UnlinkAck { id, from, to } => self.links.unlink_acknowledged(&to, &from, id),
            Signal::Exit { from, to, reason } => {
                let credit = self.credit(connection, bytes)?;
                // As with `MonitorExit`.
                let _transition = self.transition();
                if self.links.broken(&to, &from, Some(connection.id())) {
                    self.exit_signal(&from, &to, &reason, ExitKind::Link, Some(credit));
                }
            }
            Signal::Exit2 { from, to, reason } => {
                if let Some(to) = self.local_target(&to) {
                    let credit = self.credit(connection, bytes)?;
                    self.exit_signal(&from, &to, &reason, ExitKind::Sent, Some(credit));
                }
            }
            Signal::SpawnRequest { reference, from, .. } => {
                let result = PidOrName::Name(atom!("notsup"));
                let reply = Signal::SpawnReply { reference, to: from, flags: 0, result };
                let _ = self.push_signal(connection, &reply);
            }
            // We never ask a node to spawn, and our processes' group leader is their own affair.
            Signal::SpawnReply { .. } | Signal::GroupLeader { .. } => {}
        }
        Ok(())
    }

    /// What a signal takes up in a mailbox, held against its connection.
    fn credit(&self, connection: &Arc<Connection>, bytes: usize) -> Result<Credit, DownReason> {
        Credit::take(connection, bytes, &self.limits).ok_or(DownReason::Overrun)
    }

    fn linked_by_peer(
        &self,
        connection: &Arc<Connection>,
        from: Pid,
        to: Pid,
    ) -> Result<(), DownReason> {
        let over = connection.id();
        if self.is_alive(&to) {
            self.links.link(&to, &from, Some(over));
            if self.links.count(over) > self.limits.watches {
                return Err(DownReason::TooManyWatches);
            }
            // Either may have ended before the link was there, and then nobody broke it.
            if connection.is_closed() {
                self.links.remove(&to, &from, Some(over));
            }
            if self.is_alive(&to) || !self.links.remove(&to, &from, Some(over)) {
                return Ok(());
            }
        }
        let exit = Signal::Exit { from: to, to: from, reason: atom!("noproc").into() };
        let _ = self.push_signal(connection, &exit);
        Ok(())
    }

    fn watched_by_peer(
        &self,
        connection: &Arc<Connection>,
        from: Pid,
        target: PidOrName,
        reference: Reference,
    ) -> Result<(), DownReason> {
        let watched = self.local_target(&target.clone().into()).filter(|pid| self.is_alive(pid));
        let Some(watched) = watched else {
            self.answer_monitor(connection, from, target, reference, atom!("noproc").into());
            return Ok(());
        };
        let over = Some(connection.id());
        let watch = Watcher {
            pid: from.clone(),
            reference: reference.clone(),
            watched: watched.clone(),
            target: target.clone(),
            over,
        };
        if self.monitors.watch(watch) > self.limits.watches {
            return Err(DownReason::TooManyWatches);
        }
        // Either may have ended before the monitor was there, and then nobody told.
        if connection.is_closed() {
            self.monitors.unwatch(&reference, over);
        }
        if !self.is_alive(&watched) && self.monitors.unwatch(&reference, over).is_some() {
            self.answer_monitor(connection, from, target, reference, atom!("noproc").into());
        }
        Ok(())
    }

    fn answer_monitor(
        &self,
        connection: &Connection,
        watcher: Pid,
        target: PidOrName,
        reference: Reference,
        reason: Term,
    ) {
        let down = Signal::MonitorExit { from: target, to: watcher, reference, reason };
        let _ = self.push_signal(connection, &down);
    }

    // Delivering here.

    fn deliver_local(&self, to: &Destination, message: Term) {
        if let Some(pid) = self.local_target(&to.clone().into()) {
            self.deliver(&pid, message, Origin::Local, None);
        }
    }

    /// The process of ours that is meant, if the name or alias is known; it may have ended.
    fn local_target(&self, target: &Target) -> Option<Pid> {
        match target {
            Target::Pid(pid) => Some(pid.clone()),
            Target::Name(name) => self.registry.whereis(name),
            Target::Alias(alias) => {
                self.aliases.read().expect("no panic under this lock").get(alias).cloned()
            }
        }
    }

    fn deliver(&self, pid: &Pid, message: Term, origin: Origin, credit: Option<Credit>) {
        if let Some((from, reply)) = refused_io(&message) {
            if from.node == self.name {
                self.put(&from, Received::Message { term: reply, origin }, credit);
            } else {
                let _ = self.send(Some(pid), &from.into(), &reply);
            }
            return;
        }
        self.put(pid, Received::Message { term: message, origin }, credit);
    }

    fn put(&self, pid: &Pid, received: Received, credit: Option<Credit>) {
        let processes = self.processes.read().expect("no panic under this lock");
        if let Some(address) = processes.get(pid) {
            // An error means that the process is just being dropped.
            let _ = address.sender.send(Envelope { received, _credit: credit });
        }
    }

    fn deliver_down(&self, reference: Reference, held: Held, reason: Term) {
        self.put(&held.owner, Received::Down { reference, object: held.object, reason }, None);
    }

    // Processes.

    pub(crate) fn add_process(&self, address: Address) -> Pid {
        let pid = self.ids.pid();
        self.processes.write().expect("no panic under this lock").insert(pid.clone(), address);
        if self.table.is_stopped() {
            self.end_process(&pid, &atom!("shutdown").into());
        }
        pid
    }

    pub(crate) fn is_alive(&self, pid: &Pid) -> bool {
        self.processes.read().expect("no panic under this lock").contains_key(pid)
    }

    /// Ends a process and those linked to it; a second time changes nothing.
    pub(crate) fn end_process(&self, pid: &Pid, reason: &Term) {
        // Not by recursion: a chain of links may be of any length.
        let mut ending = vec![(pid.clone(), reason.clone())];
        while let Some((pid, reason)) = ending.pop() {
            for (other, over) in self.end_one(&pid, &reason) {
                if let Some(reason) = self.tell_exit(&pid, &other, over, &reason) {
                    ending.push((other, reason));
                }
            }
        }
    }

    /// Ends a process and tells all but those linked to it, which are returned, each with the
    /// connection of the link.
    fn end_one(&self, pid: &Pid, reason: &Term) -> Vec<(Pid, Option<ConnectionId>)> {
        let address = self.processes.write().expect("no panic under this lock").remove(pid);
        let Some(address) = address else { return Vec::new() };
        let _ = address.state.ended.set(reason.clone());
        drop(address);
        self.registry.forget(pid);
        self.aliases.write().expect("no panic under this lock").retain(|_, owner| owner != pid);
        self.node_watchers.lock().expect("no panic under this lock").retain(|p| p != pid);
        let (watchers, held) = self.monitors.process_ended(pid);
        for (reference, held) in held {
            self.tell_demonitor(reference, held);
        }
        for watcher in watchers {
            self.tell_down(watcher, reason);
        }
        self.links.process_ended(pid)
    }

    fn tell_down(&self, watcher: Watcher, reason: &Term) {
        let Watcher { pid, reference, watched, target, over } = watcher;
        match over.and_then(|id| self.connection(&pid.node, id)) {
            Some(connection) => {
                let reason = reason.clone();
                let down = Signal::MonitorExit { from: target, to: pid, reference, reason };
                let _ = self.pushed(connection.push_down_of(&watched, &down));
            }
            None if over.is_some() => {}
            None => {
                if let Some(held) = self.monitors.release(&reference) {
                    self.deliver_down(reference, held, reason.clone());
                }
            }
        }
    }

    /// Why the other one ends now as well, if it does and is ours.
    fn tell_exit(
        &self,
        ended: &Pid,
        other: &Pid,
        over: Option<ConnectionId>,
        reason: &Term,
    ) -> Option<Term> {
        let Some(over) = over else {
            let linked = self.links.broken(other, ended, None);
            let judge = || self.judge_exit(ended, other, reason, ExitKind::Link, None);
            return linked.then(judge).flatten();
        };
        if let Some(connection) = self.connection(&other.node, over) {
            let exit =
                Signal::Exit { from: ended.clone(), to: other.clone(), reason: reason.clone() };
            let _ = self.push_signal(&connection, &exit);
        }
        None
    }

    fn exit_signal(
        &self,
        from: &Pid,
        to: &Pid,
        reason: &Term,
        kind: ExitKind,
        credit: Option<Credit>,
    ) {
        if let Some(reason) = self.judge_exit(from, to, reason, kind, credit) {
            self.end_process(to, &reason);
        }
    }

    /// Puts an exit signal into the mailbox if the process traps them; else says why the process
    /// ends, if it does.
    fn judge_exit(
        &self,
        from: &Pid,
        to: &Pid,
        reason: &Term,
        kind: ExitKind,
        credit: Option<Credit>,
    ) -> Option<Term> {
        let trap = {
            let processes = self.processes.read().expect("no panic under this lock");
            match processes.get(to) {
                Some(address) => address.state.trap_exit.load(Ordering::Relaxed),
                None => return None,
            }
        };
        if reason.is_atom("kill") && kind == ExitKind::Sent {
            Some(atom!("killed").into())
        } else if trap {
            self.put(to, Received::Exit { from: from.clone(), reason: reason.clone() }, credit);
            None
        } else {
            (!reason.is_atom("normal")).then(|| reason.clone())
        }
    }

    // Names and aliases.

    pub(crate) fn register(&self, name: &Atom, pid: &Pid) -> Result<(), RegisterError> {
        if !self.is_alive(pid) {
            return Err(RegisterError::NoProcess { pid: pid.clone() });
        }
        self.registry.register(name, pid)?;
        if !self.is_alive(pid) {
            self.registry.forget(pid);
            return Err(RegisterError::NoProcess { pid: pid.clone() });
        }
        Ok(())
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn alias(&self, pid: &Pid) -> Reference {
        let alias = self.ids.reference();
        let mut aliases = self.aliases.write().expect("no panic under this lock");
        aliases.insert(alias.clone(), pid.clone());
        drop(aliases);
        // Of a process that has ended nobody would clear it away.
        if !self.is_alive(pid) {
            self.unalias(&alias);
        }
        alias
    }

    pub(crate) fn unalias(&self, alias: &Reference) {
        self.aliases.write().expect("no panic under this lock").remove(alias);
    }

    // Monitors and links of our processes.

    pub(crate) fn monitor(&self, owner: &Pid, object: &Monitored) -> Reference {
        let reference = self.start_monitor(owner, object);
        // A process that has ended doesn't watch, and nobody would clear it away.
        if !self.is_alive(owner) {
            self.demonitor(&reference);
        }
        reference
    }

    fn start_monitor(&self, owner: &Pid, object: &Monitored) -> Reference {
        let reference = self.ids.reference();
        let target = match object {
            Monitored::Pid(pid) => PidOrName::Pid(pid.clone()),
            Monitored::Name(name, _) => PidOrName::Name(name.clone()),
        };
        let held = |over| Held { owner: owner.clone(), object: object.clone(), over };
        if object.node() == &self.name {
            self.monitors.hold(&reference, held(None));
            let watched =
                self.local_target(&target.clone().into()).filter(|pid| self.is_alive(pid));
            if let Some(watched) = &watched {
                self.monitors.watch(Watcher {
                    pid: owner.clone(),
                    reference: reference.clone(),
                    watched: watched.clone(),
                    target,
                    over: None,
                });
            }
            if !watched.is_some_and(|pid| self.is_alive(&pid)) {
                self.monitors.unwatch(&reference, None);
                self.monitor_failed(&reference, atom!("noproc"));
            }
            return reference;
        }
        let connection = self.table.up(object.node());
        self.monitors.hold(&reference, held(connection.as_ref().map(|c| c.id())));
        let sent = connection.is_some_and(|connection| {
            let (from, reference) = (owner.clone(), reference.clone());
            self.push_signal(&connection, &Signal::Monitor { from, target, reference }).is_ok()
        });
        if !sent {
            self.monitor_failed(&reference, atom!("noconnection"));
        }
        reference
    }

    fn monitor_failed(&self, reference: &Reference, reason: Atom) {
        if let Some(held) = self.monitors.release(reference) {
            self.deliver_down(reference.clone(), held, reason.into());
        }
    }

    pub(crate) fn demonitor(&self, reference: &Reference) {
        if let Some(held) = self.monitors.release(reference) {
            self.tell_demonitor(reference.clone(), held);
        }
    }

    fn tell_demonitor(&self, reference: Reference, held: Held) {
        match held.over {
            None => {
                self.monitors.unwatch(&reference, None);
            }
            Some(id) => {
                if let Some(connection) = self.connection(held.object.node(), id) {
                    let target = match held.object {
                        Monitored::Pid(pid) => PidOrName::Pid(pid),
                        Monitored::Name(name, _) => PidOrName::Name(name),
                    };
                    let signal = Signal::Demonitor { from: held.owner, target, reference };
                    let _ = self.push_signal(&connection, &signal);
                }
            }
        }
    }

    pub(crate) fn link(&self, ours: &Pid, other: &Pid) {
        if ours == other || !self.is_alive(ours) {
            return;
        }
        let mut over = None;
        let failed = if other.node == self.name {
            self.links.link(ours, other, None);
            self.links.link(other, ours, None);
            (!self.is_alive(other)).then(|| atom!("noproc"))
        } else {
            match self.table.up(&other.node) {
                None => Some(atom!("noconnection")),
                Some(connection) => {
                    over = Some(connection.id());
                    if !self.links.link(ours, other, over) {
                        return;
                    }
                    let link = Signal::Link { from: ours.clone(), to: other.clone() };
                    let sent = self.push_signal(&connection, &link).is_ok();
                    (!sent && self.links.remove(ours, other, over)).then(|| atom!("noconnection"))
                }
            }
        };
        if let Some(reason) = failed {
            self.links.remove(ours, other, None);
            self.links.remove(other, ours, None);
            self.exit_signal(other, ours, &reason.into(), ExitKind::Link, None);
        } else if !self.is_alive(ours) && self.links.remove(ours, other, over) {
            // It ended before the link was there, and then nobody broke it.
            let noproc = atom!("noproc").into();
            if let Some(reason) = self.tell_exit(ours, other, over, &noproc) {
                self.end_process(other, &reason);
            }
        }
    }

    pub(crate) fn unlink(&self, ours: &Pid, other: &Pid) {
        if other.node == self.name {
            self.links.remove(ours, other, None);
            self.links.remove(other, ours, None);
            return;
        }
        let id = self.next_id() as u64;
        if let Some(over) = self.links.start_unlink(ours, other, id)
            && let Some(connection) = self.connection(&other.node, over)
        {
            let unlink = Signal::Unlink { id, from: ours.clone(), to: other.clone() };
            let _ = self.push_signal(&connection, &unlink);
        }
    }

    /// `exit(To, Reason)`.
    pub(crate) fn exit(&self, from: &Pid, to: &Pid, reason: &Term) {
        if to.node == self.name {
            self.exit_signal(from, to, reason, ExitKind::Sent, None);
        } else if let Some(connection) = self.table.up(&to.node) {
            let exit = Signal::Exit2 {
                from: from.clone(),
                to: Target::Pid(to.clone()),
                reason: reason.clone(),
            };
            let _ = self.push_signal(&connection, &exit);
        }
    }

    // Connections.

    pub(crate) fn new_connection(
        &self,
        peer: NodeName,
        creation: Creation,
        flags: Flags,
    ) -> Arc<Connection> {
        let marks = Marks {
            soft: self.limits.soft_mark,
            hard: self.limits.hard_mark,
            all: self.limits.all_queues,
        };
        let queue = Queue::new(marks, self.queued.clone(), flags);
        let id = ConnectionId(self.next_id() as u64);
        Arc::new(Connection::new(id, peer, creation, flags, queue))
    }

    /// A handshake has ended well. `false` when another attempt has the place.
    pub(crate) fn bring_up(&self, attempt: Attempt, connection: &Arc<Connection>) -> bool {
        let _transition = self.transition();
        if !self.table.bring_up(connection.peer(), attempt, connection) {
            return false;
        }
        log::info!("{}: up, creation {}", connection.peer(), connection.creation());
        for pid in self.node_watchers() {
            self.put(&pid, Received::NodeUp(connection.clone()), None);
        }
        self.tell_observers(&NodeEvent::Up {
            node: connection.peer().clone(),
            visible: connection.is_visible(),
        });
        true
    }

    /// The connection to a node, if it's up and all who watch nodes have been told so.
    pub(crate) fn up_and_told(&self, peer: &NodeName) -> Option<Arc<Connection>> {
        let _transition = self.transition();
        self.table.up(peer)
    }

    /// Closes a connection: every `Down` and exit signal it owes, then `NodeDown`; all of it before
    /// anything of the next connection to that node. A second time changes nothing.
    pub(crate) fn close(&self, connection: &Connection, reason: &DownReason) {
        let _transition = self.transition();
        self.close_locked(connection, reason);
    }

    /// The end of the node: closes all connections, ends all observers and processes. There will
    /// be no others.
    pub(crate) fn stop(&self) {
        let transition = self.transition();
        self.table.stop();
        for connection in self.table.all_up() {
            self.close_locked(&connection, &DownReason::Stopped);
        }
        self.observers.lock().expect("no panic under this lock").clear();
        drop(transition);
        self.end_all_processes();
    }

    /// Ends all processes with reason `shutdown`, in the order of their pids.
    pub(crate) fn end_all_processes(&self) {
        let processes = self.processes.read().expect("no panic under this lock");
        let mut all: Vec<_> = processes.keys().cloned().collect();
        drop(processes);
        all.sort_unstable();
        let reason = atom!("shutdown").into();
        for pid in all {
            self.end_process(&pid, &reason);
        }
    }

    fn transition(&self) -> MutexGuard<'_, ()> {
        self.transition.lock().expect("no panic under this lock")
    }

    fn close_locked(&self, connection: &Connection, reason: &DownReason) {
        if !connection.mark_closed(reason) {
            return;
        }
        self.table.remove(connection);
        let level = if reason.is_fault() { log::Level::Warn } else { log::Level::Info };
        log::log!(level, "{}: down, {reason}", connection.peer());
        let noconnection = Term::from(atom!("noconnection"));
        for (reference, held) in self.monitors.connection_closed(connection.id()) {
            self.deliver_down(reference, held, noconnection.clone());
        }
        for (ours, other) in self.links.connection_closed(connection.id()) {
            self.exit_signal(&other, &ours, &noconnection, ExitKind::Link, None);
        }
        for pid in self.node_watchers() {
            self.put(&pid, Received::NodeDown(connection.peer().clone()), None);
        }
        self.tell_observers(&NodeEvent::Down {
            node: connection.peer().clone(),
            reason: reason.clone(),
        });
    }

    /// A node with which we have a connection has proved that it starts anew: closes the old one
    /// and gives its place to the attempt.
    pub(crate) fn take_over(&self, peer: &NodeName, attempt: Attempt) -> bool {
        let _transition = self.transition();
        if let Some(old) = self.table.up(peer) {
            self.close_locked(&old, &DownReason::Replaced);
        }
        self.table.take_over(peer, attempt)
    }

    /// What `nodes()` is.
    pub(crate) fn visible_nodes(&self) -> Vec<NodeName> {
        let all = self.table.all_up();
        all.iter().filter(|c| c.is_visible()).map(|c| c.peer().clone()).collect()
    }

    fn connection(&self, peer: &NodeName, id: ConnectionId) -> Option<Arc<Connection>> {
        self.table.up(peer).filter(|connection| connection.id() == id)
    }

    // Observers of nodes.

    pub(crate) fn monitor_nodes(&self, pid: &Pid) {
        let _transition = self.transition();
        let mut watchers = self.node_watchers.lock().expect("no panic under this lock");
        if watchers.contains(pid) || !self.is_alive(pid) {
            return;
        }
        watchers.push(pid.clone());
        drop(watchers);
        for connection in self.table.all_up() {
            self.put(pid, Received::NodeUp(connection), None);
        }
    }

    pub(crate) fn observe(&self) -> mpsc::UnboundedReceiver<NodeEvent> {
        let _transition = self.transition();
        let (sender, receiver) = mpsc::unbounded_channel();
        for connection in self.table.all_up() {
            let (node, visible) = (connection.peer().clone(), connection.is_visible());
            let _ = sender.send(NodeEvent::Up { node, visible });
        }
        if !self.table.is_stopped() {
            let mut observers = self.observers.lock().expect("no panic under this lock");
            // Those who left are seen here, or where there are no events their number would grow.
            observers.retain(|observer| !observer.is_closed());
            observers.push(sender);
        }
        receiver
    }

    fn tell_observers(&self, event: &NodeEvent) {
        let mut observers = self.observers.lock().expect("no panic under this lock");
        observers.retain(|observer| observer.send(event.clone()).is_ok());
    }

    fn node_watchers(&self) -> Vec<Pid> {
        self.node_watchers.lock().expect("no panic under this lock").clone()
    }

    fn next_id(&self) -> usize {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ExitKind {
    /// A linked process has ended.
    Link,
    /// Somebody called `exit/2`; only then `kill` is special.
    Sent,
}

/// The answer to `{io_request, From, ReplyAs, Request}`: none of our processes is a file, and a
/// caller that gets no answer waits for ever.
fn refused_io(message: &Term) -> Option<(Pid, Term)> {
    let [Term::Pid(from), reply_as, _] = message.tagged("io_request")? else { return None };
    let error = tuple![atom!("error"), atom!("enotsup")];
    Some((from.clone(), tuple![atom!("io_reply"), reply_as, error]))
}

//! From a destination to a mailbox or a connection: the only look-up there is, and what every signal
//! does when it arrives.
//!
//! Locks: `transition` is held while a connection comes up or goes down, so that observers see `Down`s,
//! `NodeDown`, `NodeUp` in this order and never mixed. Under it any of the others may be taken; the
//! others are held for a look-up only, never while something is sent.

mod connections;
mod exit;
mod link;
mod monitor;
mod receive;
mod spawn;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use super::NodeEvent;
use super::aliases::{AliasEnd, Aliases};
use super::config::Limits;
use super::connection::table::Table;
use super::connection::{Connection, Credit, DownReason, Push, encode_payload};
use super::ids::Ids;
use super::links::Links;
use super::monitors::Monitors;
use super::process::{Address, Envelope, Mail, Origin, Received};
use super::quiet::Quiet;
use super::registry::{RegisterError, Registry};
use super::sought::AllSought;
use super::spawn::{Spawner, Spawns};
use super::stats::Closings;
use crate::term::{Atom, Creation, Destination, NodeName, Pid, Reference, Term};
use crate::wire::signal::{Signal, Target};
use crate::{atom, tuple};

/// The inside of a node, shared by its tasks.
#[derive(Debug)]
pub(crate) struct Router {
    name: NodeName,
    limits: Limits,
    ids: Ids,
    processes: RwLock<FxHashMap<Pid, Address>>,
    registry: Registry,
    aliases: Aliases,
    monitors: Monitors,
    links: Links,
    spawns: Spawns,
    /// Runs what other nodes ask us to spawn. Without one we refuse all.
    spawner: OnceLock<Arc<dyn Spawner>>,
    table: Table,
    /// Who isn't connected and should be.
    sought: AllSought,
    /// See the head of this file.
    transition: Mutex<()>,
    node_watchers: Mutex<Vec<Pid>>,
    observers: Mutex<Vec<mpsc::UnboundedSender<NodeEvent>>>,
    queued: Arc<AtomicUsize>,
    closings: Closings,
    next_id: AtomicUsize,
    quiet: Quiet,
    /// The sender of messages that no process sends; it never was alive.
    nobody: Pid,
}

/// Whoever gets a message, over the very connection that is meant.
#[derive(Debug)]
pub(crate) struct Recipient {
    over: Arc<Connection>,
    to: Target,
}

impl Recipient {
    pub(crate) fn new(over: Arc<Connection>, to: impl Into<Destination>) -> Self {
        Self { over, to: to.into().into() }
    }
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
            aliases: Aliases::default(),
            monitors: Monitors::default(),
            links: Links::default(),
            spawns: Spawns::default(),
            spawner: OnceLock::new(),
            table: Table::default(),
            sought: AllSought::default(),
            transition: Mutex::default(),
            node_watchers: Mutex::default(),
            observers: Mutex::default(),
            queued: Arc::default(),
            closings: Closings::default(),
            next_id: AtomicUsize::new(1),
            quiet: Quiet::default(),
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

    pub(crate) fn sought(&self) -> &AllSought {
        &self.sought
    }

    /// For lines of the log that a peer can cause.
    pub(crate) fn quiet(&self) -> &Quiet {
        &self.quiet
    }

    /// Connections that have closed.
    pub(crate) fn closings(&self) -> &Closings {
        &self.closings
    }

    /// Bytes in the queues of all connections.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
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
    /// connection: when it's gone, the message is dropped even if a newer one is there. One that is too
    /// large to be sent ends the connections. Gives a connection that can't keep up, if there's one.
    pub(crate) fn publish<'a>(
        &self,
        from: &Pid,
        to: impl IntoIterator<Item = &'a Recipient>,
        message: &Term,
    ) -> Option<Arc<Connection>> {
        let payload = encode_payload(message)
            .inspect_err(|error| log::error!("{from}: a message is too large: {error}"));
        let mut crowded = None;
        for Recipient { over: connection, to } in to {
            let push = match &payload {
                Ok(payload) => connection.push_send(from, to, payload),
                Err(_) => Push::Refused,
            };
            match push {
                Push::Crowded if crowded.is_none() => crowded = Some(connection.clone()),
                Push::Refused => connection.queue().fail(DownReason::TooLarge),
                _ => {}
            }
            let _ = self.pushed(push);
        }
        crowded
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
            Push::Queued | Push::Crowded => Ok(()),
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

    // Delivering here.

    fn deliver_local(&self, to: &Destination, message: Term) {
        if let Some(pid) = self.receiver(&to.clone().into()) {
            self.deliver(&pid, message, Origin::Local, None);
        }
    }

    /// The process of ours that is meant, if the name or alias is known; it may have ended.
    fn local_target(&self, target: &Target) -> Option<Pid> {
        match target {
            Target::Pid(pid) => Some(pid.clone()),
            Target::Name(name) => self.registry.whereis(name),
            Target::Alias(alias) => self.aliases.owner(alias),
        }
    }

    /// As [`local_target`](Self::local_target), for a message: an alias may end by it.
    fn receiver(&self, target: &Target) -> Option<Pid> {
        let Target::Alias(alias) = target else { return self.local_target(target) };
        let (owner, end) = self.aliases.take(alias)?;
        if end == AliasEnd::ReplyDemonitor {
            self.demonitor(alias);
        }
        Some(owner)
    }

    /// Delivers to a name what has come to another process of ours. `false` if nobody has the name.
    pub(crate) fn pass_on(
        &self,
        name: &Atom,
        message: Term,
        origin: Origin,
        credit: Option<Credit>,
    ) -> bool {
        let pid = self.registry.whereis(name);
        pid.is_some_and(|pid| {
            self.deliver(&pid, message, origin, credit);
            true
        })
    }

    fn deliver(&self, pid: &Pid, message: Term, origin: Origin, credit: Option<Credit>) {
        if self.refuse_io(pid, &message) {
            return;
        }
        self.put(pid, Received::Message { term: message, origin }, credit);
    }

    /// Answers `{io_request, From, ReplyAs, Request}`, if the message is one and the process doesn't
    /// serve them: a caller that gets no answer waits for ever.
    pub(crate) fn refuse_io(&self, pid: &Pid, message: &Term) -> bool {
        let Some([Term::Pid(from), reply_as, _]) = message.tagged("io_request") else {
            return false;
        };
        if self.serves_io(pid) {
            return false;
        }
        let error = tuple![atom!("error"), atom!("enotsup")];
        let reply = tuple![atom!("io_reply"), reply_as, error];
        let _ = self.send(Some(pid), &from.into(), &reply);
        true
    }

    fn serves_io(&self, pid: &Pid) -> bool {
        let processes = self.processes.read().expect("no panic under this lock");
        processes.get(pid).is_some_and(|address| address.state.serves_io.load(Ordering::Relaxed))
    }

    fn put(&self, pid: &Pid, received: Received, credit: Option<Credit>) {
        let processes = self.processes.read().expect("no panic under this lock");
        if let Some(address) = processes.get(pid) {
            // An error means that the process is just being dropped.
            let _ = address.sender.send(Mail::One(Envelope { received, credit }));
        }
    }

    /// The process of ours that is meant, if it reads messages itself.
    pub(super) fn reader_of_bytes(&self, target: &Target) -> Option<mpsc::UnboundedSender<Mail>> {
        let pid = match target {
            Target::Pid(pid) => pid,
            Target::Name(name) => &self.registry.whereis(name)?,
            // It may end with the first message; and what comes by it is an answer, one of one.
            Target::Alias(_) => return None,
        };
        let processes = self.processes.read().expect("no panic under this lock");
        let address = processes.get(pid)?;
        address.reads_bytes.then(|| address.sender.clone())
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

    /// How many there are.
    pub(crate) fn process_count(&self) -> usize {
        self.processes.read().expect("no panic under this lock").len()
    }

    pub(crate) fn set_group_leader(&self, leader: &Pid, of: &Pid) {
        if of.node == self.name {
            let processes = self.processes.read().expect("no panic under this lock");
            if let Some(address) = processes.get(of) {
                address.state.set_group_leader(leader);
            }
        } else if let Some(connection) = self.table.up(&of.node) {
            let signal = Signal::GroupLeader { leader: leader.clone(), to: of.clone() };
            let _ = self.push_signal(&connection, &signal);
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

    pub(crate) fn alias(&self, pid: &Pid, end: AliasEnd) -> Reference {
        let alias = self.ids.reference();
        self.aliases.add(&alias, pid, end);
        // Of a process that has ended nobody would clear it away.
        if !self.is_alive(pid) {
            self.unalias(&alias);
        }
        alias
    }

    pub(crate) fn unalias(&self, alias: &Reference) {
        self.aliases.remove(alias);
    }

    fn next_id(&self) -> usize {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

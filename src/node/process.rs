//! A process: a pid with a mailbox, owned by whoever spawned it.
//!
//! There is no code behind it that could be scheduled or killed: a `Process` is a place to receive
//! at. Dropping it is its exit with reason `normal`, in a panic with `panic`. An exit signal that isn't trapped ends it as on
//! the BEAM: monitors and links hear of it at once, and [`Process::receive`] says `None` from then on.
//!
//! A mailbox has no place limit, since a reader that waited would freeze the sender's node. Its bound
//! is in bytes per connection: see [`Limits::unhandled`](super::Limits::unhandled).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Notify, mpsc};

use super::aliases::AliasEnd;
use super::connection::{Connection, Credit};
use super::router::{Router, Unsent};
use super::spawn::SpawnRequest;
use crate::term::{Atom, Destination, NodeName, Pid, Reference, Term};
use crate::wire::Messages;
use crate::{atom, tuple};

/// What comes out of a mailbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Received {
    /// A message, as `receive` matches it.
    Message {
        /// What was sent.
        term: Term,
        /// Where it came from.
        origin: Origin,
    },
    /// `{'DOWN', Reference, process, Object, Reason}`: something monitored has ended.
    Down {
        /// What [`Process::monitor`] returned.
        reference: Reference,
        /// What was monitored, as it was named.
        object: Monitored,
        /// `noproc`, `noconnection`, or why it ended.
        reason: Term,
    },
    /// `{'EXIT', From, Reason}`: an exit signal, trapped.
    Exit {
        /// Who ended, or who called `exit/2`.
        from: Pid,
        /// Why.
        reason: Term,
    },
    /// `{spawn_reply, Reference, ok | error, Pid | Reason}`: the answer to
    /// [`Process::spawn_request`].
    SpawnReply {
        /// What [`Process::spawn_request`] returned.
        reference: Reference,
        /// The new process, or why there is none: `notsup`, `noconnection`, `system_limit` ...
        result: Result<Pid, Atom>,
    },
    /// `{nodeup, Node}`; only after [`Process::monitor_nodes`]. With the connection that is up.
    NodeUp(Arc<Connection>),
    /// `{nodedown, Node}`; only after [`Process::monitor_nodes`], and after every `Down` of that
    /// node.
    NodeDown(NodeName),
}

impl Received {
    /// The message an Erlang process would have got.
    pub fn into_term(self) -> Term {
        match self {
            Self::Message { term, .. } => term,
            Self::Down { reference, object, reason } => {
                tuple![atom!("DOWN"), reference, atom!("process"), object.term(), reason]
            }
            Self::Exit { from, reason } => tuple![atom!("EXIT"), from, reason],
            Self::SpawnReply { reference, result: Ok(pid) } => {
                tuple![atom!("spawn_reply"), reference, atom!("ok"), pid]
            }
            Self::SpawnReply { reference, result: Err(reason) } => {
                tuple![atom!("spawn_reply"), reference, atom!("error"), reason]
            }
            Self::NodeUp(connection) => tuple![atom!("nodeup"), connection.peer()],
            Self::NodeDown(node) => tuple![atom!("nodedown"), node],
        }
    }
}

/// Where a message came from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A process of this node.
    Local,
    /// A connection, which may be gone by now.
    Connection(Arc<Connection>),
}

impl Origin {
    /// The node at the other end, `None` for our own.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Local => None,
            Self::Connection(connection) => Some(connection.peer()),
        }
    }

    /// Whether the connection the message came over has closed since.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Local => false,
            Self::Connection(connection) => connection.is_closed(),
        }
    }
}

/// What a monitor watches.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Monitored {
    /// A process.
    Pid(Pid),
    /// Whoever was registered under the name on the node when the monitor was made.
    Name(Atom, NodeName),
}

impl Monitored {
    /// The node it is on.
    pub fn node(&self) -> &NodeName {
        match self {
            Self::Pid(pid) => &pid.node,
            Self::Name(_, node) => node,
        }
    }

    /// As it stands in a `'DOWN'` message: `Pid` or `{Name, Node}`.
    pub fn term(&self) -> Term {
        match self {
            Self::Pid(pid) => pid.into(),
            Self::Name(name, node) => tuple![name, node],
        }
    }
}

impl From<&Pid> for Monitored {
    fn from(pid: &Pid) -> Self {
        Self::Pid(pid.clone())
    }
}

impl From<Pid> for Monitored {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl From<(Atom, NodeName)> for Monitored {
    fn from((name, node): (Atom, NodeName)) -> Self {
        Self::Name(name, node)
    }
}

impl From<(&Atom, &NodeName)> for Monitored {
    fn from((name, node): (&Atom, &NodeName)) -> Self {
        Self::Name(name.clone(), node.clone())
    }
}

/// A process of this node: its pid and its mailbox. Made by [`Node::spawn`](super::Node::spawn).
///
/// All that is sent to it is received in the order it came, but for requests of Erlang's I/O protocol,
/// from this node or another: see [`receive_io_requests`](Self::receive_io_requests).
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    router: Arc<Router>,
    mailbox: Mailbox,
    state: Arc<ProcessState>,
}

/// Where a process receives.
#[derive(Debug)]
pub(crate) struct Mailbox {
    mail: mpsc::UnboundedReceiver<Mail>,
    state: Arc<ProcessState>,
}

/// What lies in a mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    One(Envelope),
    /// Only for a process that reads its messages itself.
    Batch(Batch),
}

/// Messages of a connection that came one right after the other, not decoded yet.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) messages: Messages,
    pub(crate) connection: Arc<Connection>,
    /// The bytes they hold against the connection.
    pub(crate) credit: Credit,
}

/// The half of a process that others reach.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) sender: mpsc::UnboundedSender<Mail>,
    pub(crate) state: Arc<ProcessState>,
    /// Whether it reads messages of other nodes itself.
    pub(crate) reads_bytes: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ProcessState {
    pub(crate) trap_exit: AtomicBool,
    /// Whether `exit(Pid, kill)` is a signal as any other.
    pub(crate) unkillable: AtomicBool,
    /// Whether requests for input and output are messages as any other.
    pub(crate) serves_io: AtomicBool,
    /// `None` until somebody gives it one.
    group_leader: Mutex<Option<Pid>>,
    /// The reason it ended with.
    ended: OnceLock<Term>,
    /// Told when it ends.
    end: Notify,
}

impl ProcessState {
    fn group_leader(&self) -> Option<Pid> {
        self.group_leader.lock().expect("no panic under this lock").clone()
    }

    pub(crate) fn set_group_leader(&self, leader: &Pid) {
        *self.group_leader.lock().expect("no panic under this lock") = Some(leader.clone());
    }

    /// The process has ended; a second time changes nothing.
    pub(crate) fn end(&self, reason: &Term) {
        let _ = self.ended.set(reason.clone());
        self.end.notify_waiters();
    }
}

/// A message with the bytes it holds against its connection.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) received: Received,
    /// Given back when the envelope is opened or dropped.
    pub(crate) credit: Option<Credit>,
}

impl Process {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        let (sender, mail) = mpsc::unbounded_channel();
        let state = Arc::new(ProcessState::default());
        let address = Address { sender, state: state.clone(), reads_bytes: false };
        let pid = router.add_process(address);
        let mailbox = Mailbox { mail, state: state.clone() };
        Self { pid, router, mailbox, state }
    }

    /// A process that reads the messages of other nodes itself, and its mailbox apart from it: the
    /// process alone receives nothing.
    pub(crate) fn new_apart(router: Arc<Router>) -> (Self, Mailbox) {
        let (sender, mail) = mpsc::unbounded_channel();
        let state = Arc::new(ProcessState::default());
        let address = Address { sender, state: state.clone(), reads_bytes: true };
        let pid = router.add_process(address);
        let mailbox = Mailbox { mail, state: state.clone() };
        let nothing = Mailbox { mail: mpsc::unbounded_channel().1, state: state.clone() };
        (Self { pid, router, mailbox: nothing, state }, mailbox)
    }

    /// Its pid, valid in the whole cluster.
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// The next message; `None` once an exit signal has ended the process.
    ///
    /// Cancel safe.
    pub async fn receive(&mut self) -> Option<Received> {
        self.receive_sealed().await.map(|envelope| envelope.received)
    }

    /// As [`receive`](Self::receive), with the bytes the message had on the wire; 0 for one of this
    /// node.
    pub(crate) async fn receive_sized(&mut self) -> Option<(Received, usize)> {
        let Envelope { received, credit } = self.receive_sealed().await?;
        let bytes = credit.map_or(0, |credit| credit.bytes());
        Some((received, bytes))
    }

    /// The next message if one is there.
    pub fn try_receive(&mut self) -> Option<Received> {
        self.try_receive_sealed().map(|envelope| envelope.received)
    }

    /// As [`receive`](Self::receive), for who puts messages aside: their bytes count as unhandled
    /// until the envelope is dropped.
    pub(crate) async fn receive_sealed(&mut self) -> Option<Envelope> {
        loop {
            // A batch is never here.
            if let Mail::One(envelope) = self.mailbox.receive().await? {
                return Some(envelope);
            }
        }
    }

    /// As [`try_receive`](Self::try_receive), for who puts messages aside.
    pub(crate) fn try_receive_sealed(&mut self) -> Option<Envelope> {
        match self.mailbox.try_receive()? {
            Mail::One(envelope) => Some(envelope),
            Mail::Batch(_) => None,
        }
    }

    /// Resolves when an exit signal ends the process, at once if one has. Cancel safe.
    pub(crate) async fn ended(&self) {
        let told = self.state.end.notified();
        if self.state.ended.get().is_none() {
            told.await;
        }
    }

    /// Why an exit signal ended the process; `None` while it lives.
    pub fn exit_reason(&self) -> Option<&Term> {
        self.state.ended.get()
    }

    /// Sends with this process as the sender. Never waits and never connects: `false` when there is
    /// no connection, or it is being shed. See [`Node::send`](super::Node::send) for the other way.
    pub fn send(&self, to: impl Into<Destination>, message: impl Into<Term>) -> bool {
        self.router.send(Some(&self.pid), &to.into(), &message.into()).is_ok()
    }

    /// Watches a process: one [`Received::Down`] with this reference will follow, at once when
    /// there is no such process (`noproc`) or no connection (`noconnection`).
    pub fn monitor(&self, object: impl Into<Monitored>) -> Reference {
        self.router.monitor(&self.pid, &object.into())
    }

    /// As [`monitor`](Self::monitor), with a reference that is an alias as well: the first message
    /// sent to it arrives here and ends both alias and monitor, and so does the `Down`. Whatever
    /// comes later is dropped: what a call needs. `{alias, reply_demonitor}` of `monitor/3`.
    pub fn monitor_alias(&self, object: impl Into<Monitored>) -> Reference {
        self.router.monitor_alias(&self.pid, &object.into())
    }

    /// Stops watching. A `Down` that is in the mailbox already stays there.
    pub fn demonitor(&self, reference: &Reference) {
        self.router.demonitor(reference);
    }

    /// Links to a process: when one ends, the other gets an exit signal.
    pub fn link(&self, other: &Pid) {
        self.router.link(&self.pid, other);
    }

    /// Takes a link back. No exit signal of it arrives from now on.
    pub fn unlink(&self, other: &Pid) {
        self.router.unlink(&self.pid, other);
    }

    /// Whether exit signals become [`Received::Exit`] instead of ending the process. Default no.
    pub fn trap_exit(&self, trap: bool) {
        self.state.trap_exit.store(trap, Ordering::Relaxed);
    }

    /// From now on no exit signal ends it, `kill` neither; they are received, as trapped ones are.
    pub(crate) fn outlive_signals(&self) {
        self.trap_exit(true);
        self.state.unkillable.store(true, Ordering::Relaxed);
    }

    /// Whether `{io_request, From, ReplyAs, Request}` is received, as a group leader or a file must.
    /// Default no: then it never arrives, and `From` is told `{error, enotsup}` at once, since it
    /// waits for an answer and few processes have one.
    pub fn receive_io_requests(&self, receive: bool) {
        self.state.serves_io.store(receive, Ordering::Relaxed);
    }

    /// Its group leader, `group_leader/0`: whoever was given to it, from anywhere, by
    /// [`Node::set_group_leader`](super::Node::set_group_leader) or as it was spawned; before that
    /// itself.
    pub fn group_leader(&self) -> Pid {
        self.state.group_leader().unwrap_or_else(|| self.pid.clone())
    }

    /// Asks a node to start a process, as `spawn_request/5`. Never connects. One
    /// [`Received::SpawnReply`] with this reference follows; a monitor that was asked for has the
    /// same reference.
    pub fn spawn_request(&self, request: SpawnRequest) -> Reference {
        self.router.spawn_request(&self.pid, request).0
    }

    /// As [`spawn_request`](Self::spawn_request), once there's room: the arguments may be large.
    pub(crate) async fn spawn_request_soon(
        &self,
        request: SpawnRequest,
    ) -> (Reference, Result<(), Unsent>) {
        let connection = self.router.table().up(&request.node);
        let _room = match &connection {
            Some(connection) => connection.queue().room().await,
            None => None,
        };
        self.router.spawn_request(&self.pid, request)
    }

    /// An alias of this process: messages sent to the reference arrive here until
    /// [`unalias`](Self::unalias).
    pub fn alias(&self) -> Reference {
        self.router.alias(&self.pid, AliasEnd::Explicit)
    }

    /// An alias that ends by the first message that comes by it, `alias([reply])`.
    pub fn alias_once(&self) -> Reference {
        self.router.alias(&self.pid, AliasEnd::Reply)
    }

    /// Ends an alias; what is sent to it later is dropped.
    pub fn unalias(&self, alias: &Reference) {
        self.router.unalias(alias);
    }

    /// From now on [`Received::NodeUp`] and [`Received::NodeDown`] arrive here, beginning with one
    /// `NodeUp` for each node connected now. `NodeDown` comes after every `Down` of that node, and
    /// before anything of the next connection to it.
    pub fn monitor_nodes(&self) {
        self.router.monitor_nodes(&self.pid);
    }

    /// Ends the process with a reason other than `normal`.
    pub fn exit(self, reason: impl Into<Term>) {
        self.router.end_process(&self.pid, &reason.into());
    }

    /// What others reach of it.
    pub(crate) fn state(&self) -> &ProcessState {
        &self.state
    }

    /// The node's inside, for those who run a process.
    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }
}

impl Mailbox {
    /// What comes next; `None` once an exit signal has ended the process. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Option<Mail> {
        if self.state.ended.get().is_some() {
            return None;
        }
        let mail = self.mail.recv().await?;
        self.state.ended.get().is_none().then_some(mail)
    }

    /// What comes next, if it's here.
    pub(crate) fn try_receive(&mut self) -> Option<Mail> {
        if self.state.ended.get().is_some() {
            return None;
        }
        self.mail.try_recv().ok()
    }

    /// How much there is.
    pub(crate) fn len(&self) -> usize {
        self.mail.len()
    }
}

/// The end of a process that wasn't ended otherwise: exit with reason `normal`, or `panic` if that is
/// what it's dropped by.
impl Drop for Process {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { atom!("panic") } else { atom!("normal") };
        self.router.end_process(&self.pid, &reason.into());
    }
}

//! A node of the cluster: connections to other nodes, and processes that send, receive, monitor and
//! link across them.
//!
//! What arrives goes from the connection's reader straight into the mailbox it is for; what is sent
//! goes from the sender straight into the connection's queue. There is no task in the middle. The
//! services other nodes expect (`net_kernel`, `global_name_server`) are ordinary processes, started
//! by [`kernel`](crate::kernel).
//!
//! Bytes that are no term close their connection, as on the BEAM. A term that Erlang has and we don't
//! read, being nested deeper than [`MAX_DEPTH`](crate::wire::MAX_DEPTH) or with an integer of more
//! than [`MAX_INTEGER`](crate::wire::MAX_INTEGER) bytes, is dropped instead, with a warning once a
//! minute, since the same peer would come back and send it again. A call whose request is such a term
//! does close it: its caller may wait for ever. Arguments of a spawn request are answered by `badarg`,
//! exit reasons become the atom `undecodable`. What nobody gets isn't read at all.

mod aliases;
mod config;
mod connection;
mod cookie;
mod ids;
mod links;
mod listener;
mod monitors;
mod process;
mod quiet;
mod registry;
mod resolve;
pub(crate) mod router;
mod sought;
mod spawn;
mod stats;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::wire::signal::too_large;
pub use config::{Limits, NodeConfig, Visibility};
pub(crate) use connection::handshake;
pub use connection::handshake::{HandshakeError, Step as HandshakeStep};
pub(crate) use connection::setup::missing_flags;
pub use connection::{Connection, Direction, DownReason, Transfer};
pub(crate) use connection::{Credit, bad_frame};
pub use cookie::{Cookie, CookieError};
pub(crate) use process::{Batch, Envelope, Mail, Mailbox};
pub use process::{Monitored, Origin, Process, Received};
pub(crate) use quiet::Quiet;
pub use registry::RegisterError;
pub(crate) use registry::{Leaving, Legacy};
pub use sought::Sought;
pub use spawn::SpawnRequest;
pub(crate) use spawn::{Order, Spawner};
pub use stats::{Closed, ConnectionStats, NodeStats, Traffic};
pub use tls::TlsError;
#[cfg(feature = "tls")]
pub use tls::{NameCheck, Side as TlsSide, Tls, TlsConfigError, TlsOptions, TlsVersion, Verify};

use crate::epmd::EpmdError;
use crate::term::{Atom, Creation, Destination, NodeName, Pid, Reference, Term};
use crate::wire::Flags;
use connection::encode_payload;
use connection::setup::Identity;
use router::Router;

/// A running node. Clones are the same node; it stops when the last one is dropped, politely when
/// [`stop`](Self::stop) is called. Either way its processes end, and so do their tasks.
#[derive(Clone, Debug)]
pub struct Node(Arc<Running>);

#[derive(Debug)]
struct Running {
    identity: Arc<Identity>,
    port: u16,
    /// Ends the listener and all connections.
    cancel: CancellationToken,
}

impl Node {
    /// Starts a bare node: it listens, is registered in EPMD and answers handshakes, but has no
    /// services. Users call [`crate::start`].
    pub(crate) async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let (lookup, port) = (config.lookup(), config.own_port());
        let cookie = match config.cookie {
            Some(cookie) => cookie,
            None => Cookie::find()?,
        };
        let router = Router::new(config.name.clone(), config.limits.in_reason());
        let identity = Arc::new(Identity::new(
            router,
            config.visibility,
            cookie,
            config.cookies,
            lookup,
            config.transport,
        ));
        let cancel = CancellationToken::new();
        let port = listener::start(
            &identity,
            listener::Listen { address: config.listen, port, embedded_epmd: config.embedded_epmd },
            cancel.clone(),
        )
        .await?;
        Ok(Self(Arc::new(Running { identity, port, cancel })))
    }

    /// Our name.
    pub fn name(&self) -> &NodeName {
        self.router().name()
    }

    /// This start of the node, part of its pids.
    pub fn creation(&self) -> Creation {
        self.router().creation()
    }

    /// The TCP port other nodes dial.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Connects to a node; at once if it's connected already.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], within [`Limits::setup_time`] twice.
    pub async fn connect<N>(&self, node: N) -> Result<(), ConnectError>
    where
        N: TryInto<NodeName>,
        ConnectError: From<N::Error>,
    {
        self.0.identity.connect(&node.try_into()?).await.map(drop)
    }

    /// Closes the connection to a node; `false` if there was none.
    pub fn disconnect(&self, node: &NodeName) -> bool {
        match self.router().table().up(node) {
            Some(connection) => {
                self.router().close(&connection, &DownReason::Disconnected);
                true
            }
            None => false,
        }
    }

    /// The nodes connected now, visible and hidden, sorted.
    pub fn nodes(&self) -> Vec<NodeName> {
        self.router().table().all_up().iter().map(|c| c.peer().clone()).collect()
    }

    /// The nodes that are looked for and aren't connected: seeds, those that were connected before, and those
    /// that others or a source have named. Sorted by name.
    pub fn sought(&self) -> Vec<Sought> {
        self.router().sought().get()
    }

    /// The large messages that are on their way now, those above [`Limits::soft_mark`]: mostly snapshots of
    /// scopes.
    pub fn transfers(&self) -> Vec<Transfer> {
        let all = self.router().table().all_up();
        all.iter().flat_map(|connection| connection.transfers()).collect()
    }

    /// Each node that comes up or goes down from now on, after one `Up` for each connected now.
    pub fn events(&self) -> NodeEvents {
        NodeEvents(self.router().observe())
    }

    /// What the node and its connections have carried so far. Crosses no task; costs a look at each
    /// connection, so ask as often as somebody looks, not for each message.
    pub fn stats(&self) -> NodeStats {
        self.router().stats()
    }

    /// A new process.
    pub fn spawn(&self) -> Process {
        Process::new(self.router().clone())
    }

    /// Sends a message, connecting first if need be, and waiting while more than
    /// [`Limits::soft_mark`] bytes are queued for that node. That it returns doesn't say that the
    /// process exists or got it; monitor to know.
    ///
    /// # Errors
    ///
    /// [`SendError`] when the message hasn't left.
    pub async fn send(
        &self,
        to: impl Into<Destination>,
        message: impl Into<Term>,
    ) -> Result<(), SendError> {
        self.send_from(None, &to.into(), &message.into()).await
    }

    pub(crate) async fn send_from(
        &self,
        from: Option<&Pid>,
        to: &Destination,
        message: &Term,
    ) -> Result<(), SendError> {
        let router = self.router();
        if to.node() == router.name() {
            let _ = router.send(from, to, message);
            return Ok(());
        }
        let connection = match router.table().up(to.node()) {
            Some(connection) => connection,
            None => self.0.identity.connect(to.node()).await?,
        };
        let gone = || SendError::NoConnection { node: to.node().clone() };
        let _room = connection.queue().room().await.ok_or_else(gone)?;
        let too_large = || SendError::TooLarge { to: to.clone() };
        let payload = encode_payload(message).map_err(|_| too_large())?;
        router.push_message(&connection, from, to, &payload).map_err(|unsent| match unsent {
            router::Unsent::NoConnection => gone(),
            router::Unsent::TooLarge => too_large(),
        })
    }

    /// Sends a message, encoded once, to processes of connected nodes, waiting for room at each as
    /// [`send`](Self::send) does. Says how many bytes it has, and for how many it was queued: those
    /// whose connection is gone are passed over.
    pub(crate) async fn send_to_all<'a>(
        &self,
        from: &Pid,
        to: impl Iterator<Item = &'a Pid>,
        message: &Term,
    ) -> Result<(usize, usize), SendError> {
        let router = self.router();
        let too_large = |to: &Pid| SendError::TooLarge { to: to.into() };
        let payload = encode_payload(message).map_err(|_| too_large(from))?;
        // All at once: who has no room delays nobody else.
        let pushed = futures::future::join_all(to.map(async |to| {
            let Some(connection) = router.table().up(&to.node) else { return Ok(false) };
            let Some(_room) = connection.queue().room().await else { return Ok(false) };
            match router.push_message(&connection, Some(from), &to.into(), &payload) {
                Ok(()) => Ok(true),
                Err(router::Unsent::NoConnection) => Ok(false),
                Err(router::Unsent::TooLarge) => Err(too_large(to)),
            }
        }));
        let mut queued = 0;
        for pushed in pushed.await {
            queued += usize::from(pushed?);
        }
        Ok((payload.len(), queued))
    }

    /// Sends the exit signal of `exit(To, Reason)`.
    pub fn exit(&self, from: &Process, to: &Pid, reason: impl Into<Term>) {
        self.router().exit(from.pid(), to, &reason.into());
    }

    /// Gives a process, here or elsewhere, a group leader: `group_leader(Leader, Pid)`. Never
    /// connects.
    pub fn set_group_leader(&self, leader: &Pid, of: &Pid) {
        self.router().set_group_leader(leader, of);
    }

    /// Registers a process of this node under a name.
    ///
    /// # Errors
    ///
    /// [`RegisterError`] when the name is taken or the process isn't alive here.
    pub fn register(&self, name: impl Into<Atom>, pid: &Pid) -> Result<(), RegisterError> {
        self.router().register(&name.into(), pid)
    }

    /// Frees a name; `false` if nobody had it.
    pub fn unregister(&self, name: &Atom) -> bool {
        self.router().registry().unregister(name)
    }

    /// Who has a name.
    pub fn whereis(&self, name: &Atom) -> Option<Pid> {
        self.router().registry().whereis(name)
    }

    /// Whether a process of this node is alive.
    pub fn is_alive(&self, pid: &Pid) -> bool {
        self.router().is_alive(pid)
    }

    /// A new reference, unlike any other.
    pub fn make_ref(&self) -> Reference {
        self.router().ids().reference()
    }

    /// Stops the node politely: its name leaves EPMD and nobody connects to it any more; its
    /// processes end with reason `shutdown`, so that other nodes get their `DOWN`s and exit signals;
    /// then the connections close. Takes at most a second.
    ///
    /// For all clones: from now on nothing can be sent, [`connect`](Self::connect) fails, and
    /// [`spawn`](Self::spawn) makes processes that have ended.
    pub async fn stop(self) {
        // First the door: who loses us looks for us at once.
        self.0.cancel.cancel();
        let router = self.router();
        router.table().stop();
        router.end_all_processes();
        let connections = router.table().all_up();
        for connection in &connections {
            connection.queue().finish();
        }
        let all_closed = futures::future::join_all(connections.iter().map(|c| c.closed()));
        let _ = tokio::time::timeout(Duration::from_secs(1), all_closed).await;
        self.0.end();
    }

    /// A hold that doesn't keep the node running.
    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.0))
    }

    /// Resolves when the node stops.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.0.identity.router
    }
}

impl Running {
    fn end(&self) {
        self.cancel.cancel();
        self.identity.router.stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// How many bytes a message has on the wire; 0 for one that can't be sent.
pub(crate) fn encoded_size(message: &Term) -> usize {
    encode_payload(message).map_or(0, |payload| payload.len())
}

/// A node that may have been dropped, for tasks that serve it.
#[derive(Clone, Debug)]
pub(crate) struct WeakNode(std::sync::Weak<Running>);

impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        self.0.upgrade().map(Node)
    }

    /// As [`Node::connect`], without keeping the node running while it waits.
    pub(crate) async fn connect(&self, peer: &NodeName) -> Result<(), ConnectError> {
        let identity = match self.0.upgrade() {
            Some(running) => running.identity.clone(),
            None => return Err(ConnectError::Stopped { node: peer.clone() }),
        };
        identity.connect(peer).await.map(drop)
    }
}

/// A node came or went.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A connection is up.
    Up {
        /// The node.
        node: NodeName,
        /// Whether it is in `nodes()`, not in `nodes(hidden)`.
        visible: bool,
        /// What both ends agreed on.
        flags: Flags,
    },
    /// It is closed.
    Down {
        /// The node.
        node: NodeName,
        /// Why.
        reason: DownReason,
    },
}

/// The events of [`Node::events`]; a stream that ends with the node.
#[derive(Debug)]
pub struct NodeEvents(mpsc::UnboundedReceiver<NodeEvent>);

impl NodeEvents {
    /// The next event.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        self.0.recv().await
    }
}

impl futures::Stream for NodeEvents {
    type Item = NodeEvent;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<NodeEvent>> {
        self.0.poll_recv(context)
    }
}

/// Why a node couldn't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No cookie was given, and none found.
    #[error(transparent)]
    Cookie(#[from] CookieError),
    /// The port to listen at couldn't be had.
    #[error("can't listen at {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// EPMD has another node of this name.
    #[error("the name {node} is taken: another node of that name runs on this host")]
    NameTaken {
        /// Our name.
        node: NodeName,
    },
    /// EPMD couldn't be used, nor an own one started.
    #[error("the name couldn't be registered")]
    Epmd {
        /// EPMD's port.
        port: u16,
        /// Why.
        source: EpmdError,
    },
}

/// Why a connection to a node couldn't be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text isn't a node name.
    #[error(transparent)]
    BadName(#[from] crate::term::BadNodeName),
    /// It's our own name.
    #[error("{node} is this node itself")]
    Ourselves {
        /// The name.
        node: NodeName,
    },
    /// EPMD on the host knows no node of this name. Nothing was sent to the node.
    #[error("no node {node} in its host's EPMD")]
    NoSuchNode {
        /// The name.
        node: NodeName,
    },
    /// EPMD on the host can't be asked.
    #[error("EPMD of {} can't be asked for {node}", node.host())]
    Epmd {
        /// The name.
        node: NodeName,
        /// Why.
        source: Arc<EpmdError>,
    },
    /// Our own resolver knows no such node.
    #[error("nothing is known of where {node} is")]
    Unresolved {
        /// The name.
        node: NodeName,
    },
    /// Our own resolver failed.
    #[error("where {node} is couldn't be found out")]
    Resolver {
        /// The name.
        node: NodeName,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The cookies differ; a BEAM closes after our challenge reply and says no more.
    #[error("{node} has another cookie")]
    BadCookie {
        /// The name.
        node: NodeName,
    },
    /// The node refused us by status `not_allowed`.
    #[error("{node} refused us: it has a list of allowed nodes, or lacks a flag of ours")]
    NotAllowed {
        /// The name.
        node: NodeName,
    },
    /// Another node answered at the port EPMD told.
    #[error("at the port of {node} another node answered, {found}")]
    WrongName {
        /// The name.
        node: NodeName,
        /// Who answered.
        found: NodeName,
    },
    /// The node and we didn't come to terms about TLS.
    #[error("no TLS connection to {node}")]
    Tls {
        /// The name.
        node: NodeName,
        /// Why.
        source: TlsError,
    },
    /// The handshake failed otherwise.
    #[error("handshake with {node} failed")]
    Handshake {
        /// The name.
        node: NodeName,
        /// How.
        source: Arc<HandshakeError>,
    },
    /// The node didn't answer in time.
    #[error("{node} didn't answer in time")]
    Timeout {
        /// The name.
        node: NodeName,
    },
    /// Our node has stopped.
    #[error("this node has stopped and doesn't connect to {node}")]
    Stopped {
        /// The name.
        node: NodeName,
    },
    /// The connection closed as soon as it was there.
    #[error("the connection to {node} closed at once")]
    Closed {
        /// The name.
        node: NodeName,
    },
    /// The socket failed.
    #[error("connection to {node} failed")]
    Io {
        /// The name.
        node: NodeName,
        /// How.
        source: Arc<io::Error>,
    },
}

impl From<std::convert::Infallible> for ConnectError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why a message didn't leave.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No connection could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection closed before the message was queued.
    #[error("the connection to {node} closed")]
    NoConnection {
        /// The node.
        node: NodeName,
    },
    /// The message is larger than a frame may be, 256 MiB.
    #[error("the message to {to} is larger than 256 MiB")]
    TooLarge {
        /// Who was to get it.
        to: Destination,
    },
}

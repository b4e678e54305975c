//! One authenticated connection to a node: what both its tasks and the router share.
//!
//! A connection is up, then closed, once and for good; a new one to the same node is another
//! `Connection` with another id. `Router::close` is the only way to close one, so that all `Down`s
//! and the `NodeDown` come before anything of the next.

pub(crate) mod handshake;
mod queue;
mod reader;
pub(super) mod setup;
pub(super) mod socket;
pub(super) mod table;
mod tick;
mod transfer;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub(crate) use queue::{Marks, Push, Queue};
pub(crate) use reader::bad_frame;
pub use transfer::{Direction, Transfer};

use self::socket::Socket;
use self::transfer::Underway;
use super::config::Limits;
use super::router::Router;
use super::stats::{Tally, Traffic};
use crate::term::{Creation, NodeName, Pid, Term};
use crate::wire::signal::{Signal, Target};
use crate::wire::{EncodeError, Flags};

/// Tells one connection from the next; never used twice in one start of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// A connection to a node, as messages remember where they came from.
pub struct Connection {
    id: ConnectionId,
    peer: NodeName,
    creation: Creation,
    flags: Flags,
    queue: Queue,
    closed: AtomicBool,
    /// Ends the reader and the writer. Each ends the other, even by a panic: a socket nobody reads
    /// freezes the peer.
    cancel: CancellationToken,
    /// Bytes received and not yet handled: of messages up to the soft mark, and of larger ones.
    unhandled: [AtomicUsize; 2],
    /// Large messages on their way, out and in.
    underway: [Underway; 2],
    received: Tally,
    /// Bytes only; the queue counts the signals.
    sent: Tally,
    /// When the peer was last heard, in milliseconds since `born`.
    heard: AtomicU64,
    born: Instant,
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        peer: NodeName,
        creation: Creation,
        flags: Flags,
        queue: Queue,
    ) -> Self {
        Self {
            id,
            peer,
            creation,
            flags,
            queue,
            closed: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            unhandled: Default::default(),
            underway: Default::default(),
            received: Tally::default(),
            sent: Tally::default(),
            heard: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The node at the other end.
    pub fn peer(&self) -> &NodeName {
        &self.peer
    }

    /// The start of the node at the other end.
    pub fn creation(&self) -> Creation {
        self.creation
    }

    /// Whether each end is in the other's `nodes()`; it is hidden if either end wants so.
    pub fn is_visible(&self) -> bool {
        self.flags.contains(Flags::PUBLISHED)
    }

    /// Whether it has been closed, by either end.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Resolves when it has been closed.
    pub(crate) async fn closed(&self) {
        self.cancel.cancelled().await;
    }

    /// What both ends agreed on.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Queues a message for a process over there. The payload is `131` and a term.
    pub(crate) fn push_send(&self, from: &Pid, to: &Target, payload: &Bytes) -> Push {
        self.queue.push_message(from, to, payload)
    }

    /// Queues any other signal.
    pub(crate) fn push_signal(&self, signal: &Signal) -> Push {
        self.queue.push_signal(signal.sender(), signal)
    }

    /// Queues a `DOWN` of who was monitored by name, in order with what that process has sent.
    pub(crate) fn push_down_of(&self, ended: &Pid, down: &Signal) -> Push {
        self.queue.push_signal(Some(ended), down)
    }

    /// Marks the connection closed and ends its tasks. `false` if that was done before.
    ///
    /// Only for the router, which tells everybody.
    pub(crate) fn mark_closed(&self, reason: &DownReason) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        if first {
            self.queue.fail(reason.clone());
            self.cancel.cancel();
        }
        first
    }

    fn unhandled(&self, large: bool) -> &AtomicUsize {
        let [small, huge] = &self.unhandled;
        if large { huge } else { small }
    }

    fn underway(&self, direction: Direction) -> &Underway {
        let [out, into] = &self.underway;
        match direction {
            Direction::Sending => out,
            Direction::Receiving => into,
        }
    }

    /// The large messages that are on their way now.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = Transfer> {
        let all = [Direction::Sending, Direction::Receiving].into_iter();
        all.filter_map(|direction| {
            let (done, all) = self.underway(direction).get();
            (all > 0).then(|| Transfer { node: self.peer.clone(), direction, done, all })
        })
    }

    /// What has come, and what has gone.
    pub(super) fn traffic(&self) -> (Traffic, Traffic) {
        let signals = self.queue.signals();
        (self.received.traffic(), Traffic { signals, ..self.sent.traffic() })
    }

    pub(super) fn unhandled_bytes(&self) -> usize {
        self.unhandled.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn up_for(&self) -> Duration {
        self.born.elapsed()
    }

    pub(super) fn silent_for(&self) -> Duration {
        self.last_heard().elapsed()
    }

    /// The peer was heard: data or a tick.
    fn hear(&self) {
        let now = self.born.elapsed().as_millis() as u64;
        self.heard.store(now, Ordering::Relaxed);
    }

    /// When the peer was last heard.
    fn last_heard(&self) -> Instant {
        self.born + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} to {}", self.id.0, self.peer)
    }
}

/// Bytes of a message that are in some mailbox, held against the connection it came over.
#[derive(Debug)]
pub(crate) struct Credit {
    connection: Arc<Connection>,
    bytes: usize,
    large: bool,
}

impl Credit {
    /// Takes the bytes; `None` when too many are unhandled already. Large messages have a bound of
    /// their own, of which one alone may be as large as it likes: a large one that waits must not make
    /// the next small one too much.
    pub(crate) fn take(
        connection: &Arc<Connection>,
        bytes: usize,
        limits: &Limits,
    ) -> Option<Self> {
        let large = bytes > limits.soft_mark;
        let limit = if large { limits.unhandled_large } else { limits.unhandled };
        let before = connection.unhandled(large).fetch_add(bytes, Ordering::Relaxed);
        let credit = Self { connection: connection.clone(), bytes, large };
        (before == 0 || before + bytes <= limit).then_some(credit)
    }

    /// Takes off a part, for one message of several.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { connection: self.connection.clone(), bytes, large: self.large }
    }

    /// How many bytes are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they are held against.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.connection.unhandled(self.large).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why a connection closed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DownReason {
    /// The peer closed it, or the network did.
    ConnectionClosed,
    /// Nothing was heard of the peer for the tick time and a quarter.
    TickTimeout,
    /// The peer took our messages too slowly: a queue over its mark, or no byte for the stall time.
    Slow,
    /// A scope had something for the peer that is larger than a message may be,
    /// [`MAX_MESSAGE`](crate::wire::MAX_MESSAGE): it can't go on as if it had been said.
    TooLarge,
    /// We handled the peer's messages too slowly: too many unhandled bytes.
    Overrun,
    /// The peer sent what is no frame or no signal.
    BadFrame(String),
    /// The peer holds too many monitors or links on our processes.
    TooManyWatches,
    /// The peer has started anew, or says that its end is gone.
    Replaced,
    /// [`Node::disconnect`](super::Node::disconnect).
    Disconnected,
    /// Our node has stopped.
    Stopped,
}

impl DownReason {
    /// All there are, texts left out.
    pub(crate) const ALL: [Self; 10] = [
        Self::ConnectionClosed,
        Self::TickTimeout,
        Self::Slow,
        Self::TooLarge,
        Self::Overrun,
        Self::BadFrame(String::new()),
        Self::TooManyWatches,
        Self::Replaced,
        Self::Disconnected,
        Self::Stopped,
    ];

    /// One word, of a set that is known beforehand: `slow`, `bad_frame`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection_closed",
            Self::TickTimeout => "net_tick_timeout",
            Self::Slow => "slow",
            Self::TooLarge => "message_too_large",
            Self::Overrun => "overrun",
            Self::BadFrame(_) => "bad_frame",
            Self::TooManyWatches => "too_many_watches",
            Self::Replaced => "replaced",
            Self::Disconnected => "disconnected",
            Self::Stopped => "stopped",
        }
    }

    /// Whether somebody should look at one of the two ends.
    pub(crate) fn is_fault(&self) -> bool {
        match self {
            Self::TickTimeout
            | Self::Slow
            | Self::TooLarge
            | Self::Overrun
            | Self::BadFrame(_)
            | Self::TooManyWatches => true,
            Self::ConnectionClosed | Self::Replaced | Self::Disconnected | Self::Stopped => false,
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::BadFrame(what) => write!(f, ": {what}"),
            _ => Ok(()),
        }
    }
}

/// Encodes a message once, for any number of peers.
pub(crate) fn encode_payload(message: &Term) -> Result<Bytes, EncodeError> {
    // An update or a call mostly fits.
    let mut payload = Vec::with_capacity(128);
    crate::wire::encode(message, &mut payload)?;
    Ok(payload.into())
}

/// Starts the two tasks of a connection. They end when it is closed, and close it when the socket
/// fails, the peer falls silent or sends nonsense.
fn start(router: &Arc<Router>, connection: &Arc<Connection>, socket: Socket) {
    let (read, write) = socket.into_split();
    tokio::spawn(reader::run(router.clone(), connection.clone(), read));
    tokio::spawn(writer::run(router.clone(), connection.clone(), write));
}

//! What a node and its connections have carried so far, for those who watch over it.
//!
//! Counting must cost nothing: a connection's counters are touched once for all that one read or write of its
//! socket brings, and what can be known otherwise (queues, places in the table) is looked at only when somebody
//! asks. So the numbers of one snapshot needn't be of the same instant.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::connection::{Connection, DownReason};
use super::router::Router;
use crate::term::{Creation, NodeName};
use crate::wire::Flags;

/// A node at one moment; from [`Node::stats`](super::Node::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeStats {
    /// The connections that are up, sorted by node.
    pub connections: Vec<ConnectionStats>,
    /// How many connections have closed since the node started, for every reason there is.
    pub closed: Vec<Closed>,
    /// Bytes queued for all nodes together, which sockets haven't accepted yet.
    pub queued_bytes: usize,
    /// Processes of the node that are alive.
    pub processes: usize,
}

/// A connection at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// The node at the other end.
    pub node: NodeName,
    /// The start of that node.
    pub creation: Creation,
    /// Whether each end is in the other's `nodes()`.
    pub visible: bool,
    /// What both ends agreed on.
    pub flags: Flags,
    /// Since it came up.
    pub up_for: Duration,
    /// Since the peer was last heard, if only by a tick.
    pub silent_for: Duration,
    /// What has come from the peer, ticks included in the bytes.
    pub received: Traffic,
    /// Bytes the socket has taken, ticks included, and signals that were queued for it.
    pub sent: Traffic,
    /// Bytes of our signals that the socket hasn't accepted yet.
    pub queued_bytes: usize,
    /// Bytes of the peer's signals that are in some mailbox of ours.
    pub unhandled_bytes: usize,
}

/// What went one way over a connection since it came up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes on the socket; with TLS, before encryption.
    pub bytes: u64,
    /// Messages and other signals; one in fragments counts once.
    pub signals: u64,
}

/// How many connections have closed for one reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Closed {
    /// [`DownReason::name`].
    pub reason: &'static str,
    /// Whether we gave the peer up, by what should be looked at: it was shed.
    pub is_fault: bool,
    /// How many.
    pub count: u64,
}

/// Counts what goes one way.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    signals: AtomicU64,
}

impl Tally {
    /// Adds a batch.
    pub(crate) fn add(&self, bytes: usize, signals: u64) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.signals.fetch_add(signals, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            bytes: self.bytes.load(Ordering::Relaxed),
            signals: self.signals.load(Ordering::Relaxed),
        }
    }
}

/// Counts closed connections, by [`DownReason::name`].
#[derive(Debug, Default)]
pub(crate) struct Closings(Mutex<FxHashMap<&'static str, u64>>);

impl Closings {
    pub(crate) fn count(&self, reason: &DownReason) {
        *self.counts().entry(reason.name()).or_default() += 1;
    }

    fn all(&self) -> Vec<Closed> {
        let counts = self.counts();
        let closed = |reason: &DownReason| Closed {
            reason: reason.name(),
            is_fault: reason.is_fault(),
            count: counts.get(reason.name()).copied().unwrap_or_default(),
        };
        DownReason::ALL.iter().map(closed).collect()
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, FxHashMap<&'static str, u64>> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl ConnectionStats {
    fn of(connection: &Connection) -> Self {
        let (received, sent) = connection.traffic();
        Self {
            node: connection.peer().clone(),
            creation: connection.creation(),
            visible: connection.is_visible(),
            flags: connection.flags(),
            up_for: connection.up_for(),
            silent_for: connection.silent_for(),
            received,
            sent,
            queued_bytes: connection.queue().bytes(),
            unhandled_bytes: connection.unhandled_bytes(),
        }
    }
}

impl Router {
    /// See [`NodeStats`].
    pub(crate) fn stats(&self) -> NodeStats {
        let connections = self.table().all_up();
        NodeStats {
            connections: connections.iter().map(|up| ConnectionStats::of(up)).collect(),
            closed: self.closings().all(),
            queued_bytes: self.queued_bytes(),
            processes: self.process_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom;
    use crate::node::NodeEvent;
    use crate::node::tests::{LIMIT, Pair, pair};

    fn closed(stats: &NodeStats, reason: &DownReason) -> u64 {
        let known = stats.closed.iter().find(|closed| closed.reason == reason.name());
        known.map_or(0, |closed| closed.count)
    }

    #[tokio::test]
    async fn what_is_sent_on_one_side_is_received_on_the_other() {
        let Pair { a, b, _epmd } = pair().await;
        let mut process = b.spawn();
        let before = a.stats().connections[0].sent;
        for _ in 0..10 {
            a.send(process.pid(), atom!("hello")).await.unwrap();
        }
        for _ in 0..10 {
            tokio::time::timeout(LIMIT, process.receive()).await.unwrap().unwrap();
        }

        // Counted with the rest of its batch, when the last of it is delivered.
        let counted = async {
            while b.stats().connections[0].received.signals < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, counted).await.unwrap();
        let (at_a, at_b) = (a.stats(), b.stats());
        let (sent, received) = (at_a.connections[0].sent, at_b.connections[0].received);
        assert_eq!(at_a.connections[0].node, *b.name());
        assert_eq!(sent.signals - before.signals, 10);
        assert!(sent.bytes - before.bytes >= 10 * 20, "{sent:?}");
        assert_eq!(at_a.queued_bytes, 0);
        assert!(received.bytes >= sent.bytes, "{received:?} {sent:?}");
        assert!(at_b.processes >= 1 && at_b.connections[0].up_for < LIMIT);
    }

    #[tokio::test]
    async fn each_end_is_counted_once_by_its_reason() {
        let Pair { a, b, _epmd } = pair().await;
        let mut events = b.events();
        assert_eq!(a.stats().closed.len(), DownReason::ALL.len());
        assert!(a.disconnect(b.name()));
        let down = async {
            loop {
                if let Some(NodeEvent::Down { reason, .. }) = events.next().await {
                    return reason;
                }
            }
        };
        let reason = tokio::time::timeout(LIMIT, down).await.unwrap();

        assert_eq!(closed(&a.stats(), &DownReason::Disconnected), 1);
        assert_eq!(closed(&b.stats(), &reason), 1);
        assert_eq!(a.stats().closed.iter().map(|closed| closed.count).sum::<u64>(), 1);
        assert!(a.stats().connections.is_empty());
    }
}

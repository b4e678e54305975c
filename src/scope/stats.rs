//! What a scope tells those who watch over it.

use crate::engine::{Counters, DataPublisher, Engine, Exchanged, PeerInfo};
use crate::term::NodeName;

/// A scope at one moment; from [`Scope::stats`](super::Scope::stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScopeStats {
    /// All known peers, sorted by pid, those whose data isn't here yet among them.
    pub peers: Vec<PeerInfo>,
    /// Nodes for which somebody waits by [`Scope::ready`](super::Scope::ready), sorted.
    pub awaited: Vec<NodeName>,
    /// Subscribers in this process and elsewhere.
    pub subscribers: usize,
    /// What was taken and given.
    pub exchanged: Exchanged,
    /// What was refused.
    pub refused: Counters,
}

impl ScopeStats {
    pub(super) fn of<P: DataPublisher>(engine: &Engine<P>, awaited: Vec<NodeName>) -> Self {
        Self {
            peers: engine.peers().collect(),
            awaited,
            subscribers: engine.subscriber_count(),
            exchanged: engine.exchanged(),
            refused: engine.counters(),
        }
    }
}

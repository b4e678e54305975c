//! What the connections of an EPMD share: who is registered, and who may stay connected.
//!
//! Everything here is given back by a drop: a [`Registered`] frees its name, a [`Place`] its place.
//! So a connection's task may end wherever it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::NodeInfo;

/// Most open connections. Above it the one that has waited longest without a request is closed;
/// if all are registered nodes, the new one is.
pub(super) const MAX_CONNECTIONS: usize = 4096;

/// Creations below are kept for nodes that can't tell more than 1, 2 and 3 apart.
const FIRST_CREATION: u32 = 4;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    /// Registered nodes; each has one open connection.
    nodes: BTreeMap<String, NodeInfo>,
    /// Connections that stand for no node, the oldest first. To drop a sender is to close one.
    idle: BTreeMap<u64, oneshot::Sender<()>>,
    next_place: u64,
    next_creation: u32,
}

impl Default for Shared {
    fn default() -> Self {
        // Started at the time of day, as OTP's epmd does: after a restart of this EPMD no node gets
        // a creation that one of the same name had before.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Self(Mutex::new(State {
            nodes: BTreeMap::new(),
            idle: BTreeMap::new(),
            next_place: 0,
            next_creation: (seconds as u32).max(FIRST_CREATION),
        }))
    }
}

impl State {
    pub(super) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(name)
    }

    /// By name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle.len()
    }
}

impl Shared {
    /// For a few lines, never across an `.await`; there is no second lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's right to be open while it stands for no node.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Place {
    /// `None` when every place is taken by a registered node.
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Self> {
        let mut state = shared.lock();
        if state.nodes.len() + state.idle.len() >= MAX_CONNECTIONS {
            state.idle.pop_first()?;
        }
        let number = state.next_place;
        state.next_place += 1;
        let (evict, evicted) = oneshot::channel();
        state.idle.insert(number, evict);
        Some(Self { shared: Arc::clone(shared), number, evicted })
    }

    /// Resolves when the place is given to somebody else.
    pub(super) async fn evicted(&mut self) {
        // Nothing is ever sent: the sender's drop is the message.
        let _ = (&mut self.evicted).await;
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().idle.remove(&self.number);
    }
}

/// A registered name; dropping it frees the name.
#[derive(Debug)]
pub(super) struct Registered {
    shared: Arc<Shared>,
    name: String,
    creation: u32,
}

impl Registered {
    /// `None` when the name is taken.
    pub(super) fn new(shared: &Arc<Shared>, node: NodeInfo) -> Option<Self> {
        let mut state = shared.lock();
        if state.nodes.contains_key(&node.name) {
            return None;
        }
        let creation = state.next_creation;
        state.next_creation = creation.checked_add(1).unwrap_or(FIRST_CREATION);
        let name = node.name.clone();
        state.nodes.insert(name.clone(), node);
        Some(Self { shared: Arc::clone(shared), name, creation })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn creation(&self) -> u32 {
        self.creation
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.lock().nodes.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::NodeKind;
    use super::*;

    #[test]
    fn creations_start_over_above_the_small_ones() {
        let shared: Arc<Shared> = Arc::default();
        shared.lock().next_creation = u32::MAX;
        let [a, b] = ["a", "b"].map(|name| {
            Registered::new(&shared, NodeInfo::new(name, 1, NodeKind::Visible)).unwrap()
        });
        assert_eq!((a.creation, b.creation), (u32::MAX, FIRST_CREATION));
    }

    #[test]
    fn when_all_places_are_nodes_the_new_connection_is_refused() {
        let shared: Arc<Shared> = Arc::default();
        let _nodes: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|n| {
                Registered::new(&shared, NodeInfo::new(&n.to_string(), 1, NodeKind::Visible))
                    .unwrap()
            })
            .collect();
        assert!(Place::take(&shared).is_none());
    }
}

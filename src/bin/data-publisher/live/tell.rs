//! What happens, told as it does: nodes, peers, and what changes in the scope.
//!
//! A scope may change a hundred thousand times a second, and nobody reads that fast. So each second has room for a
//! number of changes, and those beyond are counted: `skipped`. Nodes and peers are always told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_publisher::Node;
use data_publisher::node::NodeEvent;
use data_publisher::scope::PeerEvent;
use data_publisher::wire::Flags;
use tokio::sync::broadcast;

use super::event::{Happened, cut};
use super::source::{Changes, Source};

/// Changes told in a second.
const ROOM: u32 = 100;

/// Events that are there for who comes later.
pub(super) const RECENT: usize = 200;

/// Events a reader may be behind before it misses some.
const BEHIND: usize = 1024;

/// Where events go.
#[derive(Clone, Debug)]
pub(super) struct Told {
    sender: broadcast::Sender<Arc<Happened>>,
    recent: Arc<Mutex<VecDeque<Arc<Happened>>>>,
}

impl Default for Told {
    fn default() -> Self {
        Self { sender: broadcast::channel(BEHIND).0, recent: Arc::default() }
    }
}

impl Told {
    fn tell(&self, happened: Happened) {
        let happened = Arc::new(happened);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(happened.clone());
        // With the lock held, so that nobody sees it twice or never. An error means that nobody listens.
        let _ = self.sender.send(happened);
    }

    /// The last events, oldest first, and those that come.
    pub(super) fn listen(&self) -> (Vec<Arc<Happened>>, broadcast::Receiver<Arc<Happened>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.sender.subscribe())
    }
}

/// Tells until the node or the scope ends.
pub(super) async fn run(node: Node, source: Source, changes: Changes, told: Told) {
    let mut changes = changes;
    let (mut nodes, mut peers) = (node.events(), source.peer_events());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut room, mut skipped) = (ROOM, 0_u64);
    loop {
        tokio::select! {
            biased;
            event = nodes.next() => match event {
                Some(event) => told.tell(of_node(&event)),
                None => return,
            },
            event = peers.next() => match event {
                Some(event) => {
                    if let Some(event) = of_peer(&event) {
                        told.tell(event);
                    }
                }
                None => return,
            },
            _ = second.tick() => {
                if skipped > 0 {
                    let detail = format!("{skipped} more changes");
                    told.tell(Happened::new("skipped", None, String::new(), detail));
                }
                (room, skipped) = (ROOM, 0);
            }
            change = changes.next() => match change {
                Some(change) if room > 0 => {
                    room -= 1;
                    told.tell(change.told());
                }
                Some(_) => skipped += 1,
                None => return,
            },
        }
    }
}

fn of_node(event: &NodeEvent) -> Happened {
    match event {
        NodeEvent::Up { node, visible, flags } => {
            let kind = if *visible { "visible" } else { "hidden" };
            let detail = format!("{kind}, {}", agreed(*flags));
            Happened::new("node_up", Some(node), node.to_string(), detail)
        }
        NodeEvent::Down { node, reason } => {
            Happened::new("node_down", Some(node), node.to_string(), cut(reason))
        }
        _ => Happened::new("node", None, String::new(), String::new()),
    }
}

fn of_peer(event: &PeerEvent) -> Option<Happened> {
    Some(match event {
        PeerEvent::Up { pid, version } => {
            let detail = format!("version {}", cut(&version.0));
            Happened::new("peer_up", Some(&pid.node), pid.to_string(), detail)
        }
        PeerEvent::Down { pid, reason } => {
            Happened::new("peer_down", Some(&pid.node), pid.to_string(), cut(reason))
        }
        _ => return None,
    })
}

/// What not every connection has, in words.
pub(super) fn agreed(flags: Flags) -> String {
    let words = [
        (Flags::DIST_HDR_ATOM_CACHE, "atom cache"),
        (Flags::FRAGMENTS, "fragments"),
        (Flags::SPAWN, "spawn"),
        (Flags::ALTACT_SIG, "priority"),
    ];
    let agreed = words.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word);
    agreed.collect::<Vec<_>>().join(", ")
}

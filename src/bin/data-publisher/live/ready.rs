//! Whether every connected peer has answered.
//!
//! A node that comes up is waited for until its scope has answered, or nobody has the scope's name there; one that
//! says nothing at all, for 30 s (see [`Scope::ready`](data_publisher::scope::Scope::ready)).

use data_publisher::Node;
use data_publisher::node::NodeEvent;
use tokio::sync::watch;

use super::source::Source;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readiness {
    /// Somebody hasn't answered.
    Waiting,
    /// All have.
    Ready,
    /// The scope has ended.
    Stopped,
}

/// Ends with the node or the scope.
pub(super) async fn run(node: Node, source: Source, state: watch::Sender<Readiness>) {
    // The stream of peers is here for its end, which is the scope's.
    let (mut events, mut peers) = (node.events(), source.peer_events());
    let mut is_waiting = true;
    loop {
        tokio::select! {
            // News first: who asks before it knows of a node doesn't wait for that.
            biased;
            event = events.next() => match event {
                Some(NodeEvent::Up { .. }) => {
                    is_waiting = true;
                    state.send_replace(Readiness::Waiting);
                }
                Some(_) => {}
                None => break,
            },
            peer = peers.next() => {
                if peer.is_none() {
                    break;
                }
            }
            ready = source.ready(), if is_waiting => {
                if ready.is_err() {
                    break;
                }
                is_waiting = false;
                state.send_replace(Readiness::Ready);
            }
        }
    }
    state.send_replace(Readiness::Stopped);
}

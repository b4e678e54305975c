//! How a target is, as it sees itself: what it holds open, what runs in it, and which connections it has lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use data_publisher::node::NodeEvent;
use data_publisher::{Node, atom, tuple};
use tokio::runtime::Handle;

/// Allows `dp_bench:health(bench)`: `{FileDescriptors, Tasks, ConnectionsLost}`.
pub(crate) fn allow(node: &Node) {
    let lost = Arc::new(AtomicU64::new(0));
    let (mut events, seen) = (node.events(), lost.clone());
    // Ends with the node.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if matches!(event, NodeEvent::Down { .. }) {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    node.rpc().allow(atom!("dp_bench"), atom!("health"), 1, move |_| {
        let lost = lost.load(Ordering::Relaxed);
        async move {
            let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let tasks = Handle::current().metrics().num_alive_tasks();
            Ok(tuple![files as u64, tasks as u64, lost])
        }
    });
}

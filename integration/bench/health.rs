//! How a target is, as it sees itself: what it holds open, what runs in it, which connections it has lost, and what is
//! still to be written.

use data_publisher::{Node, atom, tuple};
use tokio::runtime::Handle;

/// Allows `dp_bench:health(bench)`: `{FileDescriptors, Tasks, ConnectionsLost, QueuedBytes}`.
pub(crate) fn allow(node: &Node) {
    let looked_at = node.clone();
    node.rpc().allow(atom!("dp_bench"), atom!("health"), 1, move |_| {
        let stats = looked_at.stats();
        async move {
            let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            let tasks = Handle::current().metrics().num_alive_tasks();
            let lost: u64 = stats.closed.iter().map(|closed| closed.count).sum();
            Ok(tuple![files as u64, tasks as u64, lost, stats.queued_bytes as u64])
        }
    });
}

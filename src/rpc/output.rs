//! Where the output of functions goes that we call on other nodes: to the `user` of their node.
//!
//! Their group leader is a process of ours, one for each connection, that passes on what they ask of
//! it; `user` then answers them itself. So nobody needs to be asked for the pid of `user` first.

use std::sync::Arc;

use crate::atom;
use crate::node::{Connection, Node, Process, Received, SpawnRequest};
use crate::term::{Destination, NodeName};

/// Sends the output of a process we ask for to the `user` of its node.
pub(super) fn to_user(node: &Node, to: &NodeName, request: SpawnRequest) -> SpawnRequest {
    let router = node.router();
    // Not connected: nobody will need it.
    let Some(connection) = router.table().up(to) else { return request };
    if let Some(leader) = router.known_leader(&connection) {
        return request.group_leader(leader);
    }
    let process = node.spawn();
    process.trap_exit(true);
    process.receive_io_requests(true);
    let leader = process.pid().clone();
    router.set_known_leader(&connection, leader.clone());
    tokio::spawn(pass_on(process, connection));
    request.group_leader(leader)
}

/// Ends with the connection.
async fn pass_on(mut process: Process, connection: Arc<Connection>) {
    let user = (atom!("user"), connection.peer().clone());
    process.monitor(user.clone());
    let user = Destination::from(user);
    loop {
        let received = tokio::select! {
            () = connection.closed() => return,
            received = process.receive() => received,
        };
        match received {
            Some(Received::Message { term, .. }) if term.tagged("io_request").is_some() => {
                process.send(user.clone(), term);
            }
            // It has no `user`, as our own nodes: what is asked is refused from now on.
            Some(Received::Down { reason, .. }) if reason.is_atom("noproc") => {
                process.receive_io_requests(false);
            }
            // The next call has a new one.
            Some(Received::Down { .. }) | None => return,
            Some(_) => {}
        }
    }
}

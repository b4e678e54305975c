//! Connections that come up and go down, and who is told.

use std::sync::{Arc, MutexGuard};

use tokio::sync::mpsc;

use super::Router;
use super::exit::ExitKind;
use crate::atom;
use crate::node::NodeEvent;
use crate::node::connection::table::Attempt;
use crate::node::connection::{Connection, ConnectionId, DownReason, Marks, Queue};
use crate::node::process::Received;
use crate::term::{Creation, NodeName, Pid, Term};
use crate::wire::Flags;

impl Router {
    pub(crate) fn new_connection(
        &self,
        peer: NodeName,
        creation: Creation,
        flags: Flags,
    ) -> Arc<Connection> {
        let marks = Marks {
            soft: self.limits.soft_mark,
            hard: self.limits.hard_mark,
            all: self.limits.all_queues,
        };
        let queue = Queue::new(marks, self.queued.clone(), flags);
        let id = ConnectionId(self.next_id() as u64);
        Arc::new(Connection::new(id, peer, creation, flags, queue))
    }

    /// A handshake has ended well. `false` when another attempt has the place.
    pub(crate) fn bring_up(&self, attempt: Attempt, connection: &Arc<Connection>) -> bool {
        let _transition = self.transition();
        if !self.table.bring_up(connection.peer(), attempt, connection) {
            return false;
        }
        let (peer, creation) = (connection.peer(), connection.creation());
        log::info!(node:% = peer, creation = creation.0; "{peer}: up, creation {creation}");
        for pid in self.node_watchers() {
            self.put(&pid, Received::NodeUp(connection.clone()), None);
        }
        self.tell_observers(&node_up(connection));
        true
    }

    /// The connection to a node, if it's up and all who watch nodes have been told so.
    pub(crate) fn up_and_told(&self, peer: &NodeName) -> Option<Arc<Connection>> {
        let _transition = self.transition();
        self.table.up(peer)
    }

    /// Closes a connection: every `Down` and exit signal it owes, then `NodeDown`; all of it before
    /// anything of the next connection to that node. A second time changes nothing.
    pub(crate) fn close(&self, connection: &Connection, reason: &DownReason) {
        let _transition = self.transition();
        self.close_locked(connection, reason);
    }

    /// The end of the node: closes all connections, ends all observers and processes. There will
    /// be no others.
    pub(crate) fn stop(&self) {
        let transition = self.transition();
        self.table.stop();
        for connection in self.table.all_up() {
            self.close_locked(&connection, &DownReason::Stopped);
        }
        self.observers.lock().expect("no panic under this lock").clear();
        drop(transition);
        self.end_all_processes();
    }

    pub(super) fn transition(&self) -> MutexGuard<'_, ()> {
        self.transition.lock().expect("no panic under this lock")
    }

    pub(super) fn close_locked(&self, connection: &Connection, reason: &DownReason) {
        if !connection.mark_closed(reason) {
            return;
        }
        self.table.remove(connection);
        self.closings.count(reason);
        let peer = connection.peer();
        if !reason.is_fault() {
            log::info!(node:% = peer, reason:%; "{peer}: down, {reason}");
        } else if let Some(more) = self.quiet.allows(peer.as_str(), reason.name()) {
            log::warn!(node:% = peer, reason:%; "{peer}: down, {reason}{more}");
        }
        let noconnection = Term::from(atom!("noconnection"));
        for (reference, held) in self.monitors.connection_closed(connection.id()) {
            self.deliver_down(reference, held, noconnection.clone(), None);
        }
        for (ours, other) in self.links.connection_closed(connection.id()) {
            self.exit_signal(&other, &ours, &noconnection, ExitKind::Link, None);
        }
        for (reference, owner) in self.spawns.connection_closed(connection.id()) {
            let result = Err(atom!("noconnection"));
            self.put(&owner, Received::SpawnReply { reference, result }, None);
        }
        for pid in self.node_watchers() {
            self.put(&pid, Received::NodeDown(connection.peer().clone()), None);
        }
        self.tell_observers(&NodeEvent::Down {
            node: connection.peer().clone(),
            reason: reason.clone(),
        });
    }

    /// A node with which we have a connection has proved that it starts anew: closes the old one
    /// and gives its place to the attempt.
    pub(crate) fn take_over(&self, peer: &NodeName, attempt: Attempt) -> bool {
        let _transition = self.transition();
        if let Some(old) = self.table.up(peer) {
            self.close_locked(&old, &DownReason::Replaced);
        }
        self.table.take_over(peer, attempt)
    }

    /// What `nodes()` is.
    pub(crate) fn visible_nodes(&self) -> Vec<NodeName> {
        let all = self.table.all_up();
        all.iter().filter(|c| c.is_visible()).map(|c| c.peer().clone()).collect()
    }

    pub(super) fn connection(&self, peer: &NodeName, id: ConnectionId) -> Option<Arc<Connection>> {
        self.table.up(peer).filter(|connection| connection.id() == id)
    }

    pub(crate) fn monitor_nodes(&self, pid: &Pid) {
        let _transition = self.transition();
        let mut watchers = self.node_watchers.lock().expect("no panic under this lock");
        if watchers.contains(pid) || !self.is_alive(pid) {
            return;
        }
        watchers.push(pid.clone());
        drop(watchers);
        for connection in self.table.all_up() {
            self.put(pid, Received::NodeUp(connection), None);
        }
    }

    pub(crate) fn observe(&self) -> mpsc::UnboundedReceiver<NodeEvent> {
        let _transition = self.transition();
        let (sender, receiver) = mpsc::unbounded_channel();
        for connection in self.table.all_up() {
            let _ = sender.send(node_up(&connection));
        }
        if !self.table.is_stopped() {
            let mut observers = self.observers.lock().expect("no panic under this lock");
            // Those who left are seen here, or where there are no events their number would grow.
            observers.retain(|observer| !observer.is_closed());
            observers.push(sender);
        }
        receiver
    }

    pub(super) fn tell_observers(&self, event: &NodeEvent) {
        let mut observers = self.observers.lock().expect("no panic under this lock");
        observers.retain(|observer| observer.send(event.clone()).is_ok());
    }

    pub(super) fn node_watchers(&self) -> Vec<Pid> {
        self.node_watchers.lock().expect("no panic under this lock").clone()
    }
}

fn node_up(connection: &Connection) -> NodeEvent {
    let (visible, flags) = (connection.is_visible(), connection.flags());
    NodeEvent::Up { node: connection.peer().clone(), visible, flags }
}

//! What every signal of a peer does when it arrives.

use std::sync::Arc;

use super::Router;
use super::exit::ExitKind;
use super::spawn::Asked;
use crate::node::connection::{Connection, Credit, DownReason};
use crate::node::process::Origin;
use crate::wire::signal::Signal;

impl Router {
    /// Does what a signal from a peer asks for. An error closes the connection.
    pub(crate) fn receive(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        signal: Signal,
        bytes: usize,
    ) -> Result<(), DownReason> {
        match signal {
            Signal::Send { to, message, .. } => {
                let Some(pid) = self.receiver(&to) else { return Ok(()) };
                let credit = self.credit(connection, bytes)?;
                let origin = Origin::Connection(connection.clone());
                self.deliver(&pid, message, origin, Some(credit));
            }
            Signal::Monitor { from, target, reference } => {
                self.watched_by_peer(connection, from, target, reference)?;
            }
            Signal::Demonitor { reference, .. } => {
                self.monitors.unwatch(&reference, Some(connection.id()));
            }
            Signal::MonitorExit { reference, reason, .. } => {
                // Or the connection could go and come back between the two, and the `Down` be late.
                let _transition = self.transition();
                if let Some(held) = self.monitors.release_over(&reference, connection.id()) {
                    self.deliver_down(reference, held, reason);
                }
            }
            Signal::Link { from, to } => {
                // As on the BEAM: nobody links in another node's name.
                if from.node != *connection.peer() {
                    return Err(DownReason::BadFrame(format!("a link from {from}")));
                }
                self.linked_by_peer(connection, from, to)?;
            }
            Signal::Unlink { id, from, to } => {
                self.links.remove(&to, &from, Some(connection.id()));
                // Always answered, a link or not: the peer keeps the pair until then.
                let ack = Signal::UnlinkAck { id, from: to, to: from };
                let _ = self.push_signal(connection, &ack);
            }
            Signal::UnlinkAck { id, from, to } => self.links.unlink_acknowledged(&to, &from, id),
            Signal::Exit { from, to, reason } => {
                let credit = self.credit(connection, bytes)?;
                // As with `MonitorExit`.
                let _transition = self.transition();
                if self.links.broken(&to, &from, Some(connection.id())) {
                    self.exit_signal(&from, &to, &reason, ExitKind::Link, Some(credit));
                }
            }
            Signal::Exit2 { from, to, reason } => {
                if let Some(to) = self.local_target(&to) {
                    let credit = self.credit(connection, bytes)?;
                    self.exit_signal(&from, &to, &reason, ExitKind::Sent, Some(credit));
                }
            }
            Signal::SpawnRequest { reference, from, group_leader, mfa, options, args } => {
                let credit = self.credit(connection, bytes)?;
                let asked = Asked { reference, from, group_leader, mfa, options, args, credit };
                self.spawn_requested(connection, asked)?;
            }
            Signal::SpawnReply { reference, flags, result, .. } => {
                self.spawn_replied(connection, reference, flags, result);
            }
            Signal::GroupLeader { leader, to } => {
                if to.node == self.name {
                    self.set_group_leader(&leader, &to);
                }
            }
        }
        Ok(())
    }

    /// What a signal takes up in a mailbox, held against its connection.
    pub(super) fn credit(
        &self,
        connection: &Arc<Connection>,
        bytes: usize,
    ) -> Result<Credit, DownReason> {
        Credit::take(connection, bytes, &self.limits).ok_or(DownReason::Overrun)
    }
}

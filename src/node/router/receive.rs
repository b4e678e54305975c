//! What every signal of a peer does when it arrives.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Router;
use super::exit::ExitKind;
use super::spawn::Asked;
use crate::node::connection::{Connection, Credit, DownReason, bad_frame};
use crate::node::process::{Batch, Mail, Origin};
use crate::term::{Pieces as _, Term};
use crate::wire::signal::Payload;
use crate::wire::{Message, Messages, Signal, Target};

/// A batch for a process that reads messages itself, to which messages are still added.
pub(crate) struct Filling {
    to: mpsc::UnboundedSender<Mail>,
    messages: Messages,
    bytes: usize,
}

/// Whether the message is `{'$gen_call', From, Request}`: if it isn't answered, its sender may wait
/// for ever, unless the connection closes.
fn is_call(payload: &Payload<'_>) -> bool {
    let Some(mut pieces) = payload.pieces() else { return false };
    pieces.tuple() == Some(3) && pieces.word("$gen_call").is_some()
}

/// Messages.
impl Router {
    /// Delivers a message, or keeps it with those before it that go to the same process. Other signals
    /// of the connection must wait until those are [delivered](Self::deliver_batch). An error closes
    /// the connection.
    ///
    /// A message for nobody is dropped unread; so is one that is beyond our limits, but for a call.
    pub(crate) fn receive_message(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        message: &Message<'_>,
        filling: &mut Option<Filling>,
    ) -> Result<(), DownReason> {
        if message.alike
            && let Some(Filling { messages, bytes, .. }) = filling
        {
            messages.push(&message.payload, true);
            *bytes += message.bytes;
            return Ok(());
        }
        self.deliver_batch(connection, filling.take())?;
        if let Some(to) = self.reader_of_bytes(message.to) {
            let mut messages = Messages::default();
            messages.push(&message.payload, false);
            *filling = Some(Filling { to, messages, bytes: message.bytes });
            return Ok(());
        }
        // What nobody gets needn't be read.
        let target = self.local_target(message.to).filter(|target| self.is_alive(target));
        let Some(pid) = target else { return Ok(()) };
        let term = match message.payload.decode() {
            Ok(term) => term,
            Err(error) if error.is_beyond_limits() && !is_call(&message.payload) => {
                let DownReason::BadFrame(what) = bad_frame(&error) else { return Ok(()) };
                self.warn_beyond_limits(
                    connection,
                    &format!("a message to {pid} is dropped: {what}"),
                );
                return Ok(());
            }
            Err(error) => return Err(bad_frame(&error)),
        };
        self.message(connection, message.to, term, message.bytes)
    }

    /// Logs that a peer has sent what Erlang has and we don't read; now and then, if it does so often.
    pub(crate) fn warn_beyond_limits(&self, connection: &Connection, text: &str) {
        self.quiet.warn(connection.peer().as_str(), "beyond limits", text);
    }

    fn message(
        &self,
        connection: &Arc<Connection>,
        to: &Target,
        message: Term,
        bytes: usize,
    ) -> Result<(), DownReason> {
        let Some(pid) = self.receiver(to) else { return Ok(()) };
        let credit = self.credit(connection, bytes)?;
        self.deliver(&pid, message, Origin::Connection(connection.clone()), Some(credit));
        Ok(())
    }

    /// Delivers what was kept.
    pub(crate) fn deliver_batch(
        &self,
        connection: &Arc<Connection>,
        filling: Option<Filling>,
    ) -> Result<(), DownReason> {
        let Some(Filling { to, messages, bytes }) = filling else { return Ok(()) };
        let credit = self.credit(connection, bytes)?;
        let connection = connection.clone();
        // An error means that the process is just being dropped.
        let _ = to.send(Mail::Batch(Batch { messages, connection, credit }));
        Ok(())
    }
}

impl Router {
    /// Does what a signal from a peer asks for. An error closes the connection.
    pub(crate) fn receive(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        signal: Signal,
        bytes: usize,
    ) -> Result<(), DownReason> {
        match signal {
            Signal::Send { to, message, .. } => self.message(connection, &to, message, bytes)?,
            Signal::Monitor { from, target, reference } => {
                self.watched_by_peer(connection, from, target, reference)?;
            }
            Signal::Demonitor { reference, .. } => {
                self.monitors.unwatch(&reference, Some(connection.id()));
            }
            Signal::MonitorExit { reference, reason, .. } => {
                let credit = self.credit(connection, bytes)?;
                // Or the connection could go and come back between the two, and the `Down` be late.
                let _transition = self.transition();
                if let Some(held) = self.monitors.release_over(&reference, connection.id()) {
                    self.deliver_down(reference, held, reason, Some(credit));
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
                self.links.unlink_by_peer(&to, &from, connection.id());
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

//! Links, both ends.

use std::sync::Arc;

use super::Router;
use super::exit::ExitKind;
use crate::atom;
use crate::node::connection::{Connection, DownReason};
use crate::term::Pid;
use crate::wire::signal::Signal;

impl Router {
    pub(super) fn linked_by_peer(
        &self,
        connection: &Arc<Connection>,
        from: Pid,
        to: Pid,
    ) -> Result<(), DownReason> {
        let over = connection.id();
        if self.is_alive(&to) {
            self.links.link_by_peer(&to, &from, over);
            if self.links.count(over) > self.limits.watches {
                return Err(DownReason::TooManyWatches);
            }
            // Either may have ended before the link was there, and then nobody broke it.
            if connection.is_closed() {
                self.links.remove(&to, &from, Some(over));
            }
            if self.is_alive(&to) || !self.links.remove(&to, &from, Some(over)) {
                return Ok(());
            }
        }
        let exit = Signal::Exit { from: to, to: from, reason: atom!("noproc").into() };
        let _ = self.push_signal(connection, &exit);
        Ok(())
    }

    pub(crate) fn link(&self, ours: &Pid, other: &Pid) {
        if ours == other || !self.is_alive(ours) {
            return;
        }
        let mut over = None;
        let failed = if other.node == self.name {
            self.links.link(ours, other, None);
            self.links.link(other, ours, None);
            (!self.is_alive(other)).then(|| atom!("noproc"))
        } else {
            match self.table.up(&other.node) {
                None => Some(atom!("noconnection")),
                Some(connection) => {
                    over = Some(connection.id());
                    if !self.links.link(ours, other, over) {
                        return;
                    }
                    let link = Signal::Link { from: ours.clone(), to: other.clone() };
                    let sent = self.push_signal(&connection, &link).is_ok();
                    (!sent && self.links.remove(ours, other, over)).then(|| atom!("noconnection"))
                }
            }
        };
        if let Some(reason) = failed {
            self.links.remove(ours, other, None);
            self.links.remove(other, ours, None);
            self.exit_signal(other, ours, &reason.into(), ExitKind::Link, None);
        } else if !self.is_alive(ours) && self.links.remove(ours, other, over) {
            // It ended before the link was there, and then nobody broke it.
            let noproc = atom!("noproc").into();
            if let Some(reason) = self.tell_exit(ours, other, over, &noproc) {
                self.end_process(other, &reason);
            }
        }
    }

    pub(crate) fn unlink(&self, ours: &Pid, other: &Pid) {
        if other.node == self.name {
            self.links.remove(ours, other, None);
            self.links.remove(other, ours, None);
            return;
        }
        let id = self.next_id() as u64;
        if let Some(over) = self.links.start_unlink(ours, other, id)
            && let Some(connection) = self.connection(&other.node, over)
        {
            let unlink = Signal::Unlink { id, from: ours.clone(), to: other.clone() };
            let _ = self.push_signal(&connection, &unlink);
        }
    }
}

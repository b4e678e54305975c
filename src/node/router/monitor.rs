//! Monitors, both ends.

use std::sync::Arc;

use super::{Router, Unsent};
use crate::atom;
use crate::node::aliases::AliasEnd;
use crate::node::connection::{Connection, Credit, DownReason};
use crate::node::monitors::{Held, Watcher};
use crate::node::process::{Monitored, Received};
use crate::term::{Atom, Pid, Reference, Term};
use crate::wire::signal::{PidOrName, Signal};

impl Router {
    pub(super) fn watched_by_peer(
        &self,
        connection: &Arc<Connection>,
        from: Pid,
        target: PidOrName,
        reference: Reference,
    ) -> Result<(), DownReason> {
        let watched = self.local_target(&target.clone().into()).filter(|pid| self.is_alive(pid));
        let Some(watched) = watched else {
            self.answer_monitor(connection, from, target, reference, atom!("noproc").into());
            return Ok(());
        };
        let over = Some(connection.id());
        let watch = Watcher {
            pid: from.clone(),
            reference: reference.clone(),
            watched: watched.clone(),
            target: target.clone(),
            over,
        };
        if self.monitors.watch(watch) > self.limits.watches {
            return Err(DownReason::TooManyWatches);
        }
        // Either may have ended before the monitor was there, and then nobody told.
        if connection.is_closed() {
            self.monitors.unwatch(&reference, over);
        }
        if !self.is_alive(&watched) && self.monitors.unwatch(&reference, over).is_some() {
            self.answer_monitor(connection, from, target, reference, atom!("noproc").into());
        }
        Ok(())
    }

    pub(super) fn answer_monitor(
        &self,
        connection: &Connection,
        watcher: Pid,
        target: PidOrName,
        reference: Reference,
        reason: Term,
    ) {
        let down = Signal::MonitorExit { from: target, to: watcher, reference, reason };
        let _ = self.push_signal(connection, &down);
    }

    pub(crate) fn monitor(&self, owner: &Pid, object: &Monitored) -> Reference {
        let reference = self.ids.reference();
        self.start_monitor(owner, object, &reference, false);
        // A process that has ended doesn't watch, and nobody would clear it away.
        if !self.is_alive(owner) {
            self.demonitor(&reference);
        }
        reference
    }

    /// A monitor whose reference is an alias as well, until the first message that comes by it or
    /// the `DOWN`; the other of the two is then not delivered.
    pub(crate) fn monitor_alias(&self, owner: &Pid, object: &Monitored) -> Reference {
        let reference = self.alias(owner, AliasEnd::ReplyDemonitor);
        self.start_monitor(owner, object, &reference, true);
        if !self.is_alive(owner) {
            self.demonitor(&reference);
        }
        reference
    }

    pub(super) fn start_monitor(
        &self,
        owner: &Pid,
        object: &Monitored,
        reference: &Reference,
        alias: bool,
    ) {
        let target = match object {
            Monitored::Pid(pid) => PidOrName::Pid(pid.clone()),
            Monitored::Name(name, _) => PidOrName::Name(name.clone()),
        };
        let held = |over| Held { owner: owner.clone(), object: object.clone(), over, alias };
        if object.node() == &self.name {
            self.monitors.hold(reference, held(None));
            let watched =
                self.local_target(&target.clone().into()).filter(|pid| self.is_alive(pid));
            if let Some(watched) = &watched {
                self.monitors.watch(Watcher {
                    pid: owner.clone(),
                    reference: reference.clone(),
                    watched: watched.clone(),
                    target,
                    over: None,
                });
            }
            if !watched.is_some_and(|pid| self.is_alive(&pid)) {
                self.monitors.unwatch(reference, None);
                self.monitor_failed(reference, atom!("noproc"));
            }
            return;
        }
        let connection = self.table.up(object.node());
        self.monitors.hold(reference, held(connection.as_ref().map(|c| c.id())));
        let sent = connection.is_some_and(|connection| {
            let (from, reference) = (owner.clone(), reference.clone());
            self.push_signal(&connection, &Signal::Monitor { from, target, reference }).is_ok()
        });
        if !sent {
            self.monitor_failed(reference, atom!("noconnection"));
        }
    }

    pub(super) fn monitor_failed(&self, reference: &Reference, reason: Atom) {
        if let Some(held) = self.monitors.release(reference) {
            self.deliver_down(reference.clone(), held, reason.into(), None);
        }
    }

    pub(crate) fn demonitor(&self, reference: &Reference) {
        if let Some(held) = self.monitors.release(reference) {
            self.tell_demonitor(reference.clone(), held);
        }
    }

    pub(super) fn tell_demonitor(&self, reference: Reference, held: Held) {
        if held.alias {
            self.aliases.remove(&reference);
        }
        match held.over {
            None => {
                self.monitors.unwatch(&reference, None);
            }
            Some(id) => {
                if let Some(connection) = self.connection(held.object.node(), id) {
                    let target = match held.object {
                        Monitored::Pid(pid) => PidOrName::Pid(pid),
                        Monitored::Name(name, _) => PidOrName::Name(name),
                    };
                    let signal = Signal::Demonitor { from: held.owner, target, reference };
                    let _ = self.push_signal(&connection, &signal);
                }
            }
        }
    }

    pub(super) fn tell_down(&self, watcher: Watcher, reason: &Term) {
        let Watcher { pid, reference, watched, target, over } = watcher;
        match over.and_then(|id| self.connection(&pid.node, id)) {
            Some(connection) => {
                let reason = reason.clone();
                let mut down = Signal::MonitorExit { from: target, to: pid, reference, reason };
                let push = |down: &Signal| self.pushed(connection.push_down_of(&watched, down));
                if push(&down) == Err(Unsent::TooLarge) && down.shorten() {
                    let _ = push(&down);
                }
            }
            None if over.is_some() => {}
            None => {
                if let Some(held) = self.monitors.release(&reference) {
                    self.deliver_down(reference, held, reason.clone(), None);
                }
            }
        }
    }

    pub(super) fn deliver_down(
        &self,
        reference: Reference,
        held: Held,
        reason: Term,
        credit: Option<Credit>,
    ) {
        if held.alias {
            self.aliases.remove(&reference);
        }
        let down = Received::Down { reference, object: held.object, reason };
        self.put(&held.owner, down, credit);
    }
}

//! Spawn requests, both ways.

use std::sync::Arc;

use super::{Router, Unsent};
use crate::atom;
use crate::node::connection::{Connection, Credit, DownReason};
use crate::node::monitors::{Held, Watcher};
use crate::node::process::{Monitored, Process, Received};
use crate::node::spawn::{Order, Pending, SpawnRequest, Spawner, read_options};
use crate::term::{Atom, Pid, Reference, Term};
use crate::wire::signal::{PidOrName, Signal};

/// Flags of a reply.
const LINKED: u32 = 1;
const MONITORED: u32 = 2;

/// What a peer's request says.
pub(super) struct Asked {
    pub(super) reference: Reference,
    pub(super) from: Pid,
    pub(super) group_leader: Pid,
    pub(super) mfa: (Atom, Atom, u8),
    pub(super) options: Term,
    pub(super) args: Term,
    pub(super) credit: Credit,
}

impl Router {
    /// Who runs what other nodes ask for; `make` is asked the first time.
    pub(crate) fn spawner(&self, make: impl FnOnce() -> Arc<dyn Spawner>) -> &Arc<dyn Spawner> {
        self.spawner.get_or_init(make)
    }

    /// A peer wants a process. It gets a pid, even if that process ends at once, as on the BEAM.
    pub(super) fn spawn_requested(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        asked: Asked,
    ) -> Result<(), DownReason> {
        let Asked { reference, from, group_leader, mfa, options, args, credit } = asked;
        if from.node != *connection.peer() {
            return Err(DownReason::BadFrame(format!("a spawn request from {from}")));
        }
        let reply = |flags: u32, result: PidOrName| {
            let (reference, to) = (reference.clone(), from.clone());
            let signal = Signal::SpawnReply { reference, to, flags, result };
            let _ = self.push_signal(connection, &signal);
        };
        let refuse = |why: Atom| {
            reply(0, why.into());
            Ok(())
        };
        let Some(spawner) = self.spawner.get() else { return refuse(atom!("notsup")) };
        let Some((link, monitor)) = read_options(&options) else { return refuse(atom!("badopt")) };
        let (module, function, arity) = mfa;
        let args = match args {
            Term::List(args) if args.len() == usize::from(arity) => args,
            _ => return refuse(atom!("badarg")),
        };
        let Some(place) = spawner.admit() else { return refuse(atom!("system_limit")) };

        let process = Process::new(self.clone());
        process.state().set_group_leader(&group_leader);
        let (pid, over) = (process.pid().clone(), connection.id());
        let mut flags = 0;
        if link {
            flags |= LINKED;
            self.links.link(&pid, &from, Some(over));
        }
        if monitor {
            flags |= MONITORED;
            let most = self.monitors.watch(Watcher {
                pid: from.clone(),
                reference: reference.clone(),
                watched: pid.clone(),
                target: PidOrName::Pid(pid.clone()),
                over: Some(over),
            });
            if most > self.limits.watches {
                return Err(DownReason::TooManyWatches);
            }
        }
        if self.links.count(over) > self.limits.watches {
            return Err(DownReason::TooManyWatches);
        }
        // It may have closed before these were there, and then nobody cleared them away.
        if connection.is_closed() {
            self.links.remove(&pid, &from, Some(over));
            self.monitors.unwatch(&reference, Some(over));
        }
        // Before the end of the process, which may be near.
        reply(flags, pid.into());
        spawner.run(Order { module, function, args, hold: (credit, place) }, process);
        Ok(())
    }

    /// Asks another node for a process. That the request hasn't left is told here, and to the owner.
    pub(crate) fn spawn_request(
        &self,
        owner: &Pid,
        request: SpawnRequest,
    ) -> (Reference, Result<(), Unsent>) {
        let reference = self.ids.reference();
        let connection = self.table.up(&request.node);
        let sent = match &connection {
            None => Err(Unsent::NoConnection),
            Some(connection) => self.push_spawn_request(connection, &reference, owner, request),
        };
        // If it has closed meanwhile, either it's told by that, or here.
        let untold = || match &connection {
            None => true,
            Some(connection) => self.spawns.take(&reference, connection.id()).is_some(),
        };
        if let Err(unsent) = sent
            && untold()
        {
            let reason = match unsent {
                Unsent::NoConnection => atom!("noconnection"),
                Unsent::TooLarge => atom!("system_limit"),
            };
            let reply = Received::SpawnReply { reference: reference.clone(), result: Err(reason) };
            self.put(owner, reply, None);
        }
        (reference, sent)
    }

    fn push_spawn_request(
        &self,
        connection: &Connection,
        reference: &Reference,
        owner: &Pid,
        request: SpawnRequest,
    ) -> Result<(), Unsent> {
        let SpawnRequest { node: _, module, function, args, link, monitor, group_leader } = request;
        let over = connection.id();
        self.spawns.add(reference, Pending { owner: owner.clone(), link, monitor, over });
        let arity = u8::try_from(args.len()).map_err(|_| Unsent::TooLarge)?;
        let options = [link.then(|| atom!("link")), monitor.then(|| atom!("monitor"))];
        let request = Signal::SpawnRequest {
            reference: reference.clone(),
            from: owner.clone(),
            group_leader: group_leader.unwrap_or_else(|| owner.clone()),
            mfa: (module, function, arity),
            options: Term::list_of(options.into_iter().flatten().map(Term::from)),
            args: Term::List(args),
        };
        self.push_signal(connection, &request)
    }

    /// A peer has answered a request of ours: its link and its monitor hold from now on.
    pub(super) fn spawn_replied(
        &self,
        connection: &Connection,
        reference: Reference,
        flags: u32,
        result: PidOrName,
    ) {
        // Or the connection could go between the look and the entry, and nobody would clear it away.
        let transition = self.transition();
        let over = connection.id();
        let Some(pending) = self.spawns.take(&reference, over) else { return };
        let owner = pending.owner;
        let result = match result {
            PidOrName::Pid(pid) => Ok(pid),
            PidOrName::Name(reason) => Err(reason),
        };
        let Ok(pid) = &result else {
            return self.put(&owner, Received::SpawnReply { reference, result }, None);
        };
        let monitored = pending.monitor && flags & MONITORED != 0;
        let linked = pending.link && flags & LINKED != 0;
        if monitored {
            let object = Monitored::Pid(pid.clone());
            let held = Held { owner: owner.clone(), object, over: Some(over), alias: false };
            self.monitors.hold(&reference, held);
        }
        if linked {
            self.links.link(&owner, pid, Some(over));
        }
        drop(transition);
        let pid = pid.clone();
        let reply = Received::SpawnReply { reference: reference.clone(), result };
        self.put(&owner, reply, None);
        // Who asked has ended: nobody else would tell the new process.
        if !self.is_alive(&owner) {
            if monitored {
                self.demonitor(&reference);
            }
            if linked && self.links.remove(&owner, &pid, Some(over)) {
                let _ = self.tell_exit(&owner, &pid, Some(over), &atom!("noproc").into());
            }
        }
    }

    /// The group leader for processes asked for over a connection, if one lives.
    pub(crate) fn known_leader(&self, connection: &Connection) -> Option<Pid> {
        self.spawns.leader(connection.id()).filter(|leader| self.is_alive(leader))
    }

    pub(crate) fn set_known_leader(&self, connection: &Connection, leader: Pid) {
        self.spawns.set_leader(connection.id(), leader);
        // As with all that is kept for a connection.
        if connection.is_closed() {
            self.spawns.forget_leader(connection.id());
        }
    }
}

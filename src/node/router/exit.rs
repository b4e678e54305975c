//! How processes end, and who hears of it.

use std::sync::atomic::Ordering;

use super::{Router, Unsent};
use crate::atom;
use crate::node::connection::{Connection, ConnectionId, Credit};
use crate::node::process::Received;
use crate::term::{Pid, Term};
use crate::wire::signal::{Signal, Target};

impl Router {
    /// Ends a process and those linked to it; a second time changes nothing.
    pub(crate) fn end_process(&self, pid: &Pid, reason: &Term) {
        // Not by recursion: a chain of links may be of any length.
        let mut ending = vec![(pid.clone(), reason.clone())];
        while let Some((pid, reason)) = ending.pop() {
            for (other, over) in self.end_one(&pid, &reason) {
                if let Some(reason) = self.tell_exit(&pid, &other, over, &reason) {
                    ending.push((other, reason));
                }
            }
        }
    }

    /// Ends a process and tells all but those linked to it, which are returned, each with the
    /// connection of the link.
    pub(super) fn end_one(&self, pid: &Pid, reason: &Term) -> Vec<(Pid, Option<ConnectionId>)> {
        let address = self.processes.write().expect("no panic under this lock").remove(pid);
        let Some(address) = address else { return Vec::new() };
        address.state.end(reason);
        drop(address);
        self.registry.forget(pid);
        self.aliases.forget(pid);
        self.node_watchers.lock().expect("no panic under this lock").retain(|p| p != pid);
        let (watchers, held) = self.monitors.process_ended(pid);
        for (reference, held) in held {
            self.tell_demonitor(reference, held);
        }
        for watcher in watchers {
            self.tell_down(watcher, reason);
        }
        self.links.process_ended(pid)
    }

    /// Why the other one ends now as well, if it does and is ours.
    pub(super) fn tell_exit(
        &self,
        ended: &Pid,
        other: &Pid,
        over: Option<ConnectionId>,
        reason: &Term,
    ) -> Option<Term> {
        let Some(over) = over else {
            let linked = self.links.broken(other, ended, None);
            let judge = || self.judge_exit(ended, other, reason, ExitKind::Link, None);
            return linked.then(judge).flatten();
        };
        if let Some(connection) = self.connection(&other.node, over) {
            let exit =
                Signal::Exit { from: ended.clone(), to: other.clone(), reason: reason.clone() };
            self.push_end(&connection, exit);
        }
        None
    }

    /// Queues an exit signal, with another reason if its own can't be sent: who waits for it has nothing
    /// else to wait for.
    fn push_end(&self, connection: &Connection, mut exit: Signal) {
        if self.push_signal(connection, &exit) == Err(Unsent::TooLarge) && exit.shorten() {
            let _ = self.push_signal(connection, &exit);
        }
    }

    pub(super) fn exit_signal(
        &self,
        from: &Pid,
        to: &Pid,
        reason: &Term,
        kind: ExitKind,
        credit: Option<Credit>,
    ) {
        if let Some(reason) = self.judge_exit(from, to, reason, kind, credit) {
            self.end_process(to, &reason);
        }
    }

    /// Puts an exit signal into the mailbox if the process traps them; else says why the process
    /// ends, if it does.
    pub(super) fn judge_exit(
        &self,
        from: &Pid,
        to: &Pid,
        reason: &Term,
        kind: ExitKind,
        credit: Option<Credit>,
    ) -> Option<Term> {
        let (trap, unkillable) = {
            let processes = self.processes.read().expect("no panic under this lock");
            let state = &processes.get(to)?.state;
            (state.trap_exit.load(Ordering::Relaxed), state.unkillable.load(Ordering::Relaxed))
        };
        if reason.is_atom("kill") && kind == ExitKind::Sent && !unkillable {
            Some(atom!("killed").into())
        } else if trap {
            self.put(to, Received::Exit { from: from.clone(), reason: reason.clone() }, credit);
            None
        } else {
            (!reason.is_atom("normal")).then(|| reason.clone())
        }
    }

    /// `exit(To, Reason)`.
    pub(crate) fn exit(&self, from: &Pid, to: &Pid, reason: &Term) {
        if to.node == self.name {
            self.exit_signal(from, to, reason, ExitKind::Sent, None);
        } else if let Some(connection) = self.table.up(&to.node) {
            let exit = Signal::Exit2 {
                from: from.clone(),
                to: Target::Pid(to.clone()),
                reason: reason.clone(),
            };
            self.push_end(&connection, exit);
        }
    }

    /// Ends all processes with reason `shutdown`, in the order of their pids.
    pub(crate) fn end_all_processes(&self) {
        let processes = self.processes.read().expect("no panic under this lock");
        let mut all: Vec<_> = processes.keys().cloned().collect();
        drop(processes);
        all.sort_unstable();
        let reason = atom!("shutdown").into();
        for pid in all {
            self.end_process(&pid, &reason);
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ExitKind {
    /// A linked process has ended.
    Link,
    /// Somebody called `exit/2`; only then `kill` is special.
    Sent,
}

//! One step of an engine: what is fed to it, and what becomes of what it says.

use std::rc::Rc;

use super::cluster::{Cluster, read, scope, write};
use super::data::message_text;
use super::network::{Signal, Watch};
use crate::atom;
use crate::engine::{Action, DataPublisher, Input, MonitorId};
use crate::term::{Destination, Pid, Term};
use crate::wire::Payload;

/// What the one who asked gets at once.
pub(super) struct Answers<P: DataPublisher> {
    pub(super) changed: Option<bool>,
    pub(super) initial: Option<P::Initial>,
}

impl<P: DataPublisher> Cluster<P> {
    /// Has a scope take something in, does what it says, and checks it. Nothing happens where none runs.
    pub(super) fn feed(&mut self, i: usize, input: Input<P>) -> Answers<P> {
        let answers = self.handle(i, input);
        self.check_step(i);
        answers
    }

    /// As [`feed`](Self::feed), without a check.
    pub(super) fn handle(&mut self, i: usize, input: Input<P>) -> Answers<P> {
        let mut actions = Vec::new();
        if let Some(running) = &mut self.nodes[i].scope {
            running.engine.handle(input, &mut actions);
        }
        self.perform(i, actions)
    }

    /// A scope takes over what the one before has left.
    pub(super) fn restore(&mut self, i: usize, left: &P::LocalData) {
        let mut actions = Vec::new();
        if let Some(running) = &mut self.nodes[i].scope {
            running.engine.restore(left, &mut actions);
        }
        self.perform(i, actions);
        self.check_same(i, left);
        self.check_step(i);
    }

    fn perform(&mut self, i: usize, actions: Vec<Action<P>>) -> Answers<P> {
        let mut answers = Answers { changed: None, initial: None };
        let Some(me) = self.nodes[i].scope.as_ref().map(|running| running.engine.me().clone())
        else {
            return answers;
        };
        for action in actions {
            match action {
                Action::Send { to, message } => self.post(i, &me, &[to], &message),
                Action::Publish { peers, message } => {
                    let peers: Vec<Destination> = peers.iter().map(Destination::from).collect();
                    self.post(i, &me, &peers, &message);
                }
                Action::Monitor { id, pid } => self.watch(i, &me, id, pid),
                Action::Demonitor { id } => {
                    self.network.end_watches(|watch| watch.watcher == me && watch.monitor == id);
                }
                Action::After { delay, timer } => {
                    let due = self.now() + delay;
                    if let Some(running) = &mut self.nodes[i].scope {
                        running.timers.insert((due, timer));
                    }
                }
                Action::Notify { subscriber, event } => {
                    let Some(running) = &mut self.nodes[i].scope else { continue };
                    if let Some(heard) = running.heard.get(&subscriber) {
                        heard.borrow_mut().push(event);
                    } else {
                        self.laws.hear(running, subscriber, event);
                    }
                }
                Action::Subscribed { subscriber, initial } => {
                    let Some(running) = &mut self.nodes[i].scope else { continue };
                    match running.followers.get_mut(&subscriber) {
                        Some(follower) => *follower = Some(initial),
                        None => answers.initial = Some(initial),
                    }
                }
                Action::Updated { changed, .. } => answers.changed = Some(changed),
                Action::PeerUp { .. } | Action::PeerDown { .. } => {}
            }
        }
        answers
    }

    /// Sends a message, encoded once.
    pub(super) fn post(&mut self, i: usize, from: &Pid, to: &[Destination], message: &Term) {
        let bytes = write(message);
        for to in to {
            let node = match to {
                Destination::Pid(pid) => &pid.node,
                Destination::Name(_, node) => node,
                Destination::Alias(alias) => alias.node(),
            };
            let there = self.nodes.iter().position(|known| known.name == *node);
            if let Some(j) = there {
                let (from, to, bytes) = (from.clone(), to.clone(), Rc::clone(&bytes));
                self.network.send(i, j, Signal::Message { from, to, bytes });
            }
        }
    }

    fn watch(&mut self, i: usize, me: &Pid, monitor: MonitorId, pid: Pid) {
        let on = self.nodes.iter().position(|node| node.name == pid.node);
        let watcher = me.clone();
        match on.filter(|j| *j == i || self.network.is_up(i, *j)) {
            Some(on) if self.nodes[on].is_alive(&pid) => {
                self.network.watch(Watch { at: i, watcher, monitor, on, pid });
            }
            Some(on) => {
                let reason = atom!("noproc");
                self.network.send(on, i, Signal::Down { watcher, monitor, pid, reason });
            }
            None => {
                let reason = atom!("noconnection");
                self.network.send(i, i, Signal::Down { watcher, monitor, pid, reason });
            }
        }
    }

    pub(super) fn deliver_at(&mut self, from: usize, to: usize) -> bool {
        let Some(signal) = self.network.take(from, to) else { return false };
        self.delivered += 1;
        match signal {
            Signal::Down { watcher, monitor, pid, reason } => {
                if self.scope_pid(to) == Some(&watcher) {
                    let reason = reason.into();
                    self.feed(to, Input::Down { monitor, pid, reason });
                }
            }
            Signal::Message { from: sender, to: target, bytes } => {
                let is_for_scope = match &target {
                    Destination::Name(name, _) => *name == scope(),
                    Destination::Pid(pid) => self.scope_pid(to) == Some(pid),
                    Destination::Alias(_) => false,
                };
                if is_for_scope {
                    self.hear(from, to, &sender, &bytes);
                } else if let Destination::Pid(pid) = &target
                    && let Some(mailbox) = self.nodes[to].processes.get_mut(pid)
                {
                    mailbox.push(read(&bytes));
                }
            }
        }
        self.check_pair(from, to);
        true
    }

    /// A scope takes in a message. Of two, one is taken from its bytes, as on a connection, and the other
    /// read as a term, as where something about it is unusual: both have to mean the same.
    fn hear(&mut self, from: usize, to: usize, sender: &Pid, bytes: &[u8]) {
        let (message, name) = (read(bytes), self.nodes[from].name.clone());
        if self.story.is_some() {
            let [from, to] = [from, to].map(|k| self.nodes[k].label.clone());
            self.tell(|| format!("{from} to {to}: {}", message_text(&message)));
        }
        let Some(running) = &mut self.nodes[to].scope else { return };
        let before = running.engine.counters();
        let mut actions = Vec::new();
        let payload = Payload::of_term(bytes);
        let mut pieces = payload.pieces().filter(|_| self.delivered.is_multiple_of(2));
        let is_taken = pieces
            .as_mut()
            .is_some_and(|pieces| running.engine.handle_pieces(&name, pieces, &mut actions));
        if !is_taken {
            let message = message.clone();
            running.engine.handle(Input::Message { from: name, message }, &mut actions);
        }
        let after = running.engine.counters();
        if !self.nodes.iter().any(|node| node.processes.contains_key(sender)) {
            self.check_understood(to, sender, &message, before, after);
        }
        self.perform(to, actions);
        self.check_step(to);
    }

    pub(super) fn scope_pid(&self, i: usize) -> Option<&Pid> {
        self.nodes[i].scope.as_ref().map(|running| running.engine.me())
    }
}

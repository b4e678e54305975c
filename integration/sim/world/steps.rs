//! One step of a scope: what it takes out of its inbox, and what becomes of what it says.

use std::time::Duration;

use data_publisher::engine::{Action, CallerId, Engine, Input, MonitorId, SubscriberId};
use data_publisher::term::{Destination, Pid, Term};

use super::network::Signal;
use super::{ALL, Item, Met, Mutant, Narrow, Scope, World};
use crate::subject::{Beam, Data, Out, Runs, Subject};

/// How long a peer that sent what can't be read has to be left alone before it's asked again.
const RETRY: Duration = Duration::from_secs(30);

/// Longer than anything that arrives is on its way or waits.
const LONG: Duration = Duration::from_secs(10);

/// What an engine does something for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// The `discover` of a peer, which may have to be introduced to us.
    Greeting,
    /// Its local data.
    Data,
    Other,
}

impl<S: Subject> World<S> {
    pub(super) fn step(&mut self, i: usize) {
        if self.nodes[i].slow && !self.heals && !self.random.chance(5) {
            self.met(Met::Slow);
            return;
        }
        self.step_now(i);
    }

    pub(super) fn step_now(&mut self, i: usize) {
        let Some(item) = self.nodes[i].inbox.pop_front() else { return };
        match self.nodes[i].scope {
            Some(Scope::Rust(_)) => self.step_rust(i, item),
            Some(Scope::Beam(_)) => self.step_beam(i, item),
            None => {}
        }
    }

    fn step_rust(&mut self, i: usize, item: Item<S>) {
        let input = match item {
            Item::NodeUp { node: j, connection } => {
                self.check_order(i, j);
                self.nodes[i].handled.insert(j, connection);
                Input::NodeUp(self.nodes[j].name().clone())
            }
            Item::NodeDown(j) => {
                self.nodes[i].handled.remove(&j);
                Input::NodeDown(self.nodes[j].name().clone())
            }
            Item::Message { from, connection, message, is_garbage } => {
                if self.nodes[i].ends.get(&from) != Some(&connection) {
                    self.met(Met::LateMessage);
                    return;
                }
                if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
                    rust.garbage += u64::from(is_garbage);
                }
                Input::Message { from: self.nodes[from].name().clone(), message }
            }
            Item::Down { reference, target, reason } => {
                Input::Down { monitor: MonitorId(reference), pid: target, reason: reason.into() }
            }
            Item::Update(update) => Input::Update { update, caller: CallerId(0) },
        };
        if self.mutant.is_some() {
            self.feed_mutant(i, input);
        } else {
            self.feed(i, input);
        }
        self.check_unreadable(i);
    }

    pub(super) fn feed(&mut self, i: usize, input: Input<S::Publisher>) {
        let text = (self.log.is_some() || self.hash.is_some()).then(|| input_text::<S>(&input));
        let cause = match &input {
            Input::Message { message, .. } if message.tagged("discover").is_some() => {
                Cause::Greeting
            }
            Input::Message { message, .. } if message.tagged("$gen_cast").is_some() => Cause::Data,
            _ => Cause::Other,
        };
        self.run_engine(i, cause, text, |engine, actions| engine.handle(input, actions));
    }

    /// As the scope's task does it at its start.
    pub(super) fn restore(&mut self, i: usize, left: &Data<S>) {
        if self.mutant == Some(Mutant::NothingRestored) {
            return;
        }
        if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
            rust.is_silent = self.mutant == Some(Mutant::RestoredInSilence);
        }
        let text = Some(format!("restore {:?}", S::marks(left)));
        self.run_engine(i, Cause::Other, text, |engine, actions| engine.restore(left, actions));
    }

    pub(super) fn run_engine(
        &mut self,
        i: usize,
        cause: Cause,
        text: Option<String>,
        run: impl FnOnce(&mut Engine<S::Publisher>, &mut Vec<Action<S::Publisher>>),
    ) {
        let mut actions = std::mem::take(&mut self.actions);
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        let me = rust.engine.me().clone();
        let known: Option<Vec<Pid>> =
            self.mutant.map(|_| rust.engine.peers().map(|peer| peer.pid).collect());
        run(&mut rust.engine, &mut actions);
        rust.engine.check();
        self.remember(i, &me, &actions);
        if let Some(text) = text {
            self.note(|_| format!("{me}: {text}"));
        }
        if let Some(known) = known {
            self.mutate(i, cause, &known, &mut actions);
        }
        for action in actions.drain(..) {
            self.act(i, &me, cause, action);
        }
        self.actions = actions;
        self.check_step(i);
    }

    /// What the node owns now, and in between, is what others may show of it.
    fn remember(&mut self, i: usize, me: &Pid, actions: &[Action<S::Publisher>]) {
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let Some(past) = self.scopes.get_mut(me) else { return };
        for action in actions {
            if let Action::Publish { message, .. } = action
                && let Some(last) = past.states.last()
                && let Some(mark) = S::mark_between(message, last[0])
            {
                past.states.push([mark; 2]);
            }
        }
        let marks = S::marks(rust.engine.local_data());
        if past.states.last() != Some(&marks) {
            past.states.push(marks);
        }
    }

    fn act(&mut self, i: usize, me: &Pid, cause: Cause, action: Action<S::Publisher>) {
        if self.log.is_some() || self.hash.is_some() {
            let text = action_text::<S>(&action);
            self.note(|_| format!("    {text}"));
        }
        match action {
            Action::Send { to, message } => {
                if cause != Cause::Greeting {
                    self.check_asked(i, &to, &message);
                }
                self.send_checked(i, &to, message);
            }
            Action::Publish { peers, message } => {
                assert!(!peers.is_empty(), "published to nobody");
                for peer in &*peers {
                    self.send_checked(i, &Destination::from(peer), message.clone());
                }
            }
            Action::Monitor { id, pid } => self.watch(i, me, id.0, &pid),
            Action::Demonitor { id } => {
                // `Down` and `Demonitor` may cross: then the engine ignores the former.
                if let Some(watch) = self.nodes[i].watching.remove(&id.0) {
                    self.unwatch(i, me, id.0, &watch);
                }
            }
            Action::After { delay, timer } => {
                let due = self.now + delay;
                if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
                    rust.timers.push((due, timer));
                }
            }
            Action::Notify { subscriber, event } => {
                let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
                rust.heard = true;
                match &mut rust.narrow {
                    _ if subscriber == ALL => S::hear(&mut rust.told, event),
                    Some(narrow) if subscriber == narrow.subscriber => {
                        S::hear(&mut narrow.told, event);
                    }
                    _ => panic!("{subscriber:?} isn't subscribed any more"),
                }
            }
            Action::Subscribed { subscriber, initial } => {
                let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
                rust.heard = true;
                match &mut rust.narrow {
                    Some(narrow) if subscriber == narrow.subscriber => {
                        narrow.told = S::first(&narrow.key, initial);
                    }
                    _ => rust.told = S::first(&S::all(), initial),
                }
            }
            Action::PeerUp { peer, .. } => {
                let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
                let is_other = |known: &Pid| known.node == peer.node && *known != peer;
                if rust.engine.peers().any(|known| is_other(&known.pid)) {
                    self.met(Met::TwoOfNode);
                }
            }
            Action::Updated { .. } | Action::PeerDown { .. } => {}
        }
    }

    /// Somebody else wants to hear of one key; whoever did before doesn't any more.
    pub(super) fn subscribe(&mut self, i: usize) {
        let key = self.subject.draw_key(self.nodes.len(), &mut self.random);
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        rust.subscriptions += 1;
        let subscriber = SubscriberId(rust.subscriptions);
        let narrow = Narrow { key: key.clone(), subscriber, told: S::Told::default() };
        if let Some(Narrow { subscriber, .. }) = rust.narrow.take() {
            self.feed(i, Input::Unsubscribe { subscriber });
        }
        if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
            rust.narrow = Some(narrow);
        }
        self.feed(i, Input::Subscribe { key, subscriber });
    }

    /// A `discover` to a peer that hasn't greeted us asks it for its data again.
    fn check_asked(&mut self, i: usize, to: &Destination, message: &Term) {
        let Destination::Pid(pid) = to else { return };
        if message.tagged("discover").is_none() {
            return;
        }
        let now = self.now;
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        if let Some(before) = rust.asked.insert(pid.clone(), now) {
            let pause = now.saturating_sub(before);
            assert!(pause >= RETRY, "{pid} is asked again after {pause:?}");
        }
    }

    /// Nothing leaves that its receiver doesn't understand.
    fn send_checked(&mut self, i: usize, to: &Destination, message: Term) {
        let Some(j) = self.node_of(to.node()) else { panic!("sent to a node nobody knows") };
        let Runs::Rust(edition) = &self.nodes[i].role else { return };
        let receiver = match to {
            Destination::Pid(pid) => {
                let Some(past) = self.scopes.get(pid) else { panic!("sent to {pid}") };
                Some(&past.role)
            }
            _ => None,
        };
        assert!(
            self.subject.allows(edition, receiver, &message),
            "{} ({edition:?}) sends {receiver:?} {message}",
            self.nodes[i].name()
        );
        let by_engine = match self.mutant {
            Some(Mutant::SendsOverNewerConnection) => &self.nodes[i].ends,
            _ => &self.nodes[i].handled,
        };
        let Some(connection) = by_engine.get(&j).copied() else { return };
        let signal = match to {
            Destination::Pid(pid) => Signal::ToPid(pid.clone(), message),
            _ => Signal::ToName(message),
        };
        self.send(i, j, connection, signal);
    }

    fn step_beam(&mut self, i: usize, item: Item<S>) {
        if let Item::Message { from, connection, .. } = &item
            && self.nodes[i].ends.get(from) != Some(connection)
        {
            self.met(Met::LateOnBeam);
        }
        let Some(Scope::Beam(beam)) = &mut self.nodes[i].scope else { return };
        let me = beam.me().clone();
        match item {
            Item::NodeUp { node: j, .. } => {
                let hello = beam.hello();
                if let Some(connection) = self.nodes[i].ends.get(&j).copied() {
                    self.send(i, j, connection, Signal::ToName(hello));
                }
                return;
            }
            Item::NodeDown(_) => return,
            Item::Message { from, message, .. } => {
                if let Err(crash) = beam.message(&message) {
                    let sender = &self.nodes[from];
                    assert!(!sender.is_rust(), "{} killed {me}: {crash}", sender.name());
                    self.stop_scope(i);
                    self.start_scope(i);
                    return;
                }
            }
            Item::Down { reference, target, .. } => beam.down(reference, &target),
            Item::Update(update) => beam.update(&update),
        }
        let Some(Scope::Beam(beam)) = &mut self.nodes[i].scope else { return };
        for out in beam.take_out() {
            match out {
                Out::Send(pid, message) => {
                    let Some(j) = self.node_of(&pid.node) else { continue };
                    if let Some(connection) = self.nodes[i].ends.get(&j).copied() {
                        self.send(i, j, connection, Signal::ToPid(pid, message));
                    }
                }
                Out::Monitor(reference, pid) => self.watch(i, &me, reference, &pid),
                Out::Demonitor(reference) => {
                    if let Some(watch) = self.nodes[i].watching.remove(&reference) {
                        self.unwatch(i, &me, reference, &watch);
                    }
                }
            }
        }
    }

    /// Time passes until a timer is due, no matter what else could have happened meanwhile; but in
    /// [`LONG`] everything arrives that does.
    pub(super) fn fire_timer(&mut self, i: usize) {
        let count = match &self.nodes[i].scope {
            Some(Scope::Rust(rust)) => rust.timers.len(),
            _ => 0,
        };
        let place = self.random.below(count);
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        if count == 0 {
            return;
        }
        let (due, timer) = rust.timers.swap_remove(place);
        if due >= self.now + LONG {
            self.settle(&mut 0);
        }
        self.now = self.now.max(due);
        self.feed(i, Input::Timer(timer));
    }
}

fn input_text<S: Subject>(input: &Input<S::Publisher>) -> String {
    match input {
        Input::NodeUp(node) => format!("node up {node}"),
        Input::NodeDown(node) => format!("node down {node}"),
        Input::Message { from, message } => format!("from {from}: {message:?}"),
        Input::Down { monitor, pid, reason } => format!("down {monitor:?} {pid} {reason}"),
        Input::Timer(timer) => format!("{timer:?}"),
        Input::Update { update, .. } => format!("update {update:?}"),
        Input::Subscribe { key, .. } => format!("subscribe {key:?}"),
        Input::Unsubscribe { subscriber } => format!("unsubscribe {subscriber:?}"),
    }
}

fn action_text<S: Subject>(action: &Action<S::Publisher>) -> String {
    match action {
        Action::Send { to, message } => format!("to {to}: {message:?}"),
        Action::Publish { peers, message } => format!("to {peers:?}: {message:?}"),
        Action::Monitor { id, pid } => format!("monitor {id:?} {pid}"),
        Action::Demonitor { id } => format!("demonitor {id:?}"),
        Action::After { delay, timer } => format!("after {delay:?} {timer:?}"),
        Action::Notify { subscriber, event } => format!("notify {subscriber:?} {event:?}"),
        Action::Subscribed { .. } => "subscribed".into(),
        Action::Updated { changed, .. } => format!("updated {changed}"),
        Action::PeerUp { peer, version } => format!("peer up {peer} {}", version.0),
        Action::PeerDown { peer, reason } => format!("peer down {peer} {reason}"),
    }
}

//! What a scope does with what happens: inputs into the engine, its actions out to the router. The only
//! place where the two meet.
//!
//! It stands behind a lock, which the scope's task takes for what comes by mail, and who updates the
//! local data takes for that, if it's free: a task hop costs more than the update. Nothing waits in
//! here, for a peer least of all: a message that can't be queued is lost with its connection, and
//! that connection's end brings a fresh start.

mod received;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ready::Ready;
use super::stats::ScopeStats;
use super::{Command, Item, Notice, PeerEvent, Subscription, SubscriptionId};
use crate::engine::{
    Action, CallerId, DataPublisher, Engine, EngineOptions, Input, MonitorId, SharedView,
    SubscriberId, TimerId, Version, Wire,
};
use crate::gen_server::{Shown, Sys};
use crate::node::router::Recipient;
use crate::node::{Connection, Envelope, Mail, Mailbox, Monitored, Process};
use crate::term::{Atom, Destination, Map, NodeName, Pid, Reference, Term};
use crate::{atom, map};

/// Messages handled between two looks at the clock and at the commands.
const TURN: usize = 256;

/// So many timers are kept whether they still run or not.
const TIMERS: usize = 1024;

/// Who updates from outside of the task waits under this name; the others count up from 1.
const NOW: CallerId = CallerId(0);

/// A scope that runs, for its task and its handles. Empty once it has ended.
pub(super) struct Shared<P: DataPublisher>(Mutex<Option<Running<P>>>);

/// An update that is done.
#[derive(Default)]
pub(super) struct Updated {
    /// Whether it changed anything.
    pub(super) changed: bool,
    /// A peer to wait for before the next one.
    pub(super) crowded: Option<Arc<Connection>>,
}

/// How an update went that didn't want to wait.
pub(super) enum Now<U> {
    Done(Updated),
    /// The task has to do it.
    Later(U),
    /// The publisher has panicked.
    Panicked,
}

impl<P: DataPublisher> Shared<P> {
    pub(super) fn new(running: Running<P>) -> Self {
        Self(Mutex::new(Some(running)))
    }

    /// For the task. A panic in there is the end of the scope, so there's nobody to see what it left.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Running<P>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes our own local data, if nobody else is at it.
    pub(super) fn update_now(&self, update: P::Update) -> Now<P::Update> {
        let Ok(mut running) = self.0.try_lock() else { return Now::Later(update) };
        match running.as_mut().filter(|running| running.is_free()) {
            Some(running) => running.update_now(update),
            None => Now::Later(update),
        }
    }
}

pub(super) struct Running<P: DataPublisher> {
    process: Process,
    sys: Sys,
    /// Whether it has what the one before has left.
    begun: bool,
    /// The publisher has panicked: the task ends as soon as it hears of it.
    broken: bool,
    /// What handles asked while the scope was suspended.
    postponed: VecDeque<Command<P>>,
    /// Calls that came over connections which can't take the replies yet, in their order.
    calls: FxHashMap<NodeName, (Arc<Connection>, VecDeque<Envelope>)>,
    /// Set once the scope shall end.
    ending: Option<End>,
    engine: Engine<P>,
    standalone: bool,
    actions: Vec<Action<P>>,
    /// The connections the engine knows of. What it says goes over these and no newer ones: to
    /// a peer that has lost us in between, an update may be deadly.
    connections: FxHashMap<NodeName, Arc<Connection>>,
    /// To whom it spoke last, over some of these; `None` once they have changed.
    audience: Option<Audience>,
    monitors: FxHashMap<MonitorId, (Reference, Pid)>,
    references: FxHashMap<Reference, MonitorId>,
    timers: BinaryHeap<Reverse<(Instant, TimerId)>>,
    callers: FxHashMap<CallerId, oneshot::Sender<Updated>>,
    /// The answer to [`NOW`].
    updated: Updated,
    /// A peer that can't keep up with what was published last.
    crowded: Option<Arc<Connection>>,
    subscribers: FxHashMap<SubscriberId, Subscriber<P>>,
    subscriptions: FxHashMap<SubscriptionId, SubscriberId>,
    /// Subscriptions that lag: what they are to, and where to.
    lagging: FxHashMap<SubscriptionId, (P::Subscription, mpsc::Sender<Item<P>>)>,
    peers: Vec<(Pid, Version)>,
    peer_events: Vec<mpsc::UnboundedSender<PeerEvent>>,
    ready: Ready,
    commands: mpsc::WeakUnboundedSender<Command<P>>,
    runtime: runtime::Handle,
    next_id: u64,
}

/// Peers, and the connections to them.
struct Audience {
    peers: Arc<[Pid]>,
    to: Vec<Recipient>,
}

impl Audience {
    fn new(peers: Arc<[Pid]>, connections: &FxHashMap<NodeName, Arc<Connection>>) -> Self {
        let to = peers.iter().filter_map(|pid| {
            let over = connections.get(&pid.node)?.clone();
            Some(Recipient::new(over, pid))
        });
        Self { to: to.collect(), peers }
    }

    fn is_of(&self, peers: &Arc<[Pid]>) -> bool {
        Arc::ptr_eq(&self.peers, peers)
    }
}

/// Why a scope ends that isn't ended by an exit signal or by its last handle.
pub(super) enum End {
    Stopped(oneshot::Sender<()>),
    Terminated(Term),
}

struct Subscriber<P: DataPublisher> {
    id: SubscriptionId,
    key: P::Subscription,
    sender: mpsc::Sender<Item<P>>,
    /// Where its first snapshot goes.
    first: Option<First<P>>,
}

enum First<P: DataPublisher> {
    Answer(oneshot::Sender<(P::Initial, Subscription<P>)>, mpsc::Receiver<Item<P>>),
    Resumed(mpsc::OwnedPermit<Item<P>>),
}

impl<P: DataPublisher> Running<P> {
    pub(super) fn new(
        process: Process,
        name: Atom,
        publisher: P,
        options: EngineOptions,
        commands: mpsc::WeakUnboundedSender<Command<P>>,
    ) -> Self {
        let standalone = options.standalone;
        if !standalone {
            process.monitor_nodes();
        }
        let engine = Engine::new(name, process.pid().clone(), publisher, options);
        Self {
            process,
            sys: Sys::default(),
            begun: false,
            broken: false,
            postponed: VecDeque::new(),
            calls: FxHashMap::default(),
            ending: None,
            engine,
            standalone,
            actions: Vec::new(),
            connections: FxHashMap::default(),
            audience: None,
            monitors: FxHashMap::default(),
            references: FxHashMap::default(),
            timers: BinaryHeap::new(),
            callers: FxHashMap::default(),
            updated: Updated::default(),
            crowded: None,
            subscribers: FxHashMap::default(),
            subscriptions: FxHashMap::default(),
            lagging: FxHashMap::default(),
            peers: Vec::new(),
            peer_events: Vec::new(),
            ready: Ready::default(),
            commands,
            runtime: runtime::Handle::current(),
            next_id: 0,
        }
    }

    /// What readers read.
    pub(super) fn view(&self) -> &SharedView<P::GlobalView> {
        self.engine.shared_view()
    }

    /// How many timers are kept, those that the engine has stopped among them.
    #[cfg(test)]
    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// From now on it works, with what the one before has left.
    pub(super) fn begin(&mut self, left: Option<&P::LocalData>) {
        if let Some(left) = left {
            self.run(|engine, actions| engine.restore(left, actions));
        }
        self.begun = true;
    }

    /// Ends the engine; the process lives on until it's dropped.
    pub(super) fn end(self) -> (Process, P::LocalData) {
        (self.process, self.engine.stop())
    }

    /// Handles what has come, up to a turn of it.
    pub(super) fn turn(&mut self, mailbox: &mut Mailbox) {
        let mut handled = 0;
        while handled < TURN {
            if let Some(envelope) = self.sys.next() {
                self.open(envelope);
                handled += 1;
            } else if let Some(mail) = mailbox.try_receive() {
                handled += self.take(mail);
            } else {
                break;
            }
        }
        while !self.sys.is_suspended()
            && let Some(command) = self.postponed.pop_front()
        {
            self.obey(command, mailbox);
        }
    }

    /// Why it shall end, if it shall.
    pub(super) fn ending(&mut self) -> Option<End> {
        self.ending.take()
    }

    /// Whether what waited while the scope was suspended is to be handled.
    pub(super) fn has_next(&self) -> bool {
        self.sys.has_next()
    }

    /// When [`ring`](Self::ring) has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let next_timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let next_timer = next_timer.into_iter().chain(self.ready.next_due()).min();
        next_timer.filter(|_| !self.sys.is_suspended())
    }

    /// A command, which waits if the scope is suspended.
    pub(super) fn command(&mut self, command: Command<P>, mailbox: &mut Mailbox) {
        // A call that waits for its answer may be the one that lets the scope go on.
        if self.sys.is_suspended() && !matches!(command, Command::Answer(_)) {
            self.postponed.push_back(command);
        } else {
            self.obey(command, mailbox);
        }
    }

    /// The time of a timer has come.
    pub(super) fn ring(&mut self) {
        let now = Instant::now();
        self.ready.expire(now, &self.process);
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            self.handle(Input::Timer(timer));
        }
    }

    /// Handles what has come by mail; how many messages it was.
    pub(super) fn take(&mut self, mail: Mail) -> usize {
        match mail {
            Mail::One(envelope) => {
                self.open(envelope);
                1
            }
            Mail::Batch(batch) => self.open_batch(batch),
        }
    }
}

/// Updates from outside of the task.
impl<P: DataPublisher> Running<P> {
    fn is_free(&self) -> bool {
        self.begun
            && !self.broken
            && !self.sys.is_suspended()
            && self.postponed.is_empty()
            && self.ending.is_none()
            && self.process.exit_reason().is_none()
    }

    fn update_now(&mut self, update: P::Update) -> Now<P::Update> {
        let timer = self.timers.peek().copied();
        let run = AssertUnwindSafe(|| self.handle(Input::Update { update, caller: NOW }));
        if let Err(panic) = catch_unwind(run) {
            self.broken = true;
            self.tell_task(Command::Panicked(panic));
            return Now::Panicked;
        }
        if self.timers.peek().copied() != timer {
            self.tell_task(Command::Wake);
        }
        Now::Done(std::mem::take(&mut self.updated))
    }

    fn tell_task(&self, command: Command<P>) {
        if let Some(commands) = self.commands.upgrade() {
            let _ = commands.send(command);
        }
    }
}

/// What is asked for, and what is done.
impl<P: DataPublisher> Running<P> {
    fn obey(&mut self, command: Command<P>, mailbox: &mut Mailbox) {
        match command {
            Command::Update { update, answer } => {
                let caller = CallerId(self.fresh());
                self.callers.insert(caller, answer);
                self.handle(Input::Update { update, caller });
            }
            Command::Subscribe { key, answer } => {
                let (sender, items) = mpsc::channel(self.process.router().limits().subscriber);
                let id = SubscriptionId(self.fresh());
                self.subscribe(id, key, sender, First::Answer(answer, items));
            }
            Command::Unsubscribe(id) => {
                self.lagging.remove(&id);
                if let Some(subscriber) = self.subscriptions.remove(&id) {
                    self.subscribers.remove(&subscriber);
                    self.handle(Input::Unsubscribe { subscriber });
                }
            }
            Command::Resume(id, permit) => {
                if let Some((key, sender)) = self.lagging.remove(&id) {
                    self.subscribe(id, key, sender, First::Resumed(permit));
                }
            }
            Command::Peers(answer) => {
                let _ = answer.send(self.peers.clone());
            }
            Command::Stats(answer) => {
                let _ = answer.send(ScopeStats::of(&self.engine, self.ready.awaited()));
            }
            Command::Ready(answer) => {
                // Who waits now was connected before it asked; the news may still be in the mailbox.
                while let Some(envelope) = self.sys.next() {
                    self.open(envelope);
                }
                for _ in 0..mailbox.len() {
                    let Some(mail) = mailbox.try_receive() else { break };
                    self.take(mail);
                }
                let missing = |node: &&NodeName| !self.engine.has_answered(node);
                let nodes = self.connections.keys().filter(missing).cloned().collect();
                let us = (&self.process, self.engine.scope());
                self.ready.wait_for(nodes, answer, us);
            }
            Command::Awaited(answer) => {
                let _ = answer.send(self.ready.awaited());
            }
            Command::PeerEvents(sender) => {
                for (pid, version) in &self.peers {
                    let (pid, version) = (pid.clone(), version.clone());
                    let _ = sender.send(PeerEvent::Up { pid, version });
                }
                // Those who left are seen here, or while no peer comes their number would grow.
                self.peer_events.retain(|sender| !sender.is_closed());
                self.peer_events.push(sender);
            }
            Command::Answer(over) => self.answer(over),
            // The task has stopped, ends or is awake.
            Command::Stop(_) | Command::Panicked(_) | Command::Wake => {}
        }
    }

    fn subscribe(
        &mut self,
        id: SubscriptionId,
        key: P::Subscription,
        sender: mpsc::Sender<Item<P>>,
        first: First<P>,
    ) {
        let subscriber = SubscriberId(self.fresh());
        let entry = Subscriber { id, key: key.clone(), sender, first: Some(first) };
        self.subscriptions.insert(id, subscriber);
        self.subscribers.insert(subscriber, entry);
        self.handle(Input::Subscribe { key, subscriber });
    }

    fn handle(&mut self, input: Input<P>) {
        self.run(|engine, actions| engine.handle(input, actions));
    }

    /// Has the engine do something, and does what it wants done.
    fn run<T>(&mut self, run: impl FnOnce(&mut Engine<P>, &mut Vec<Action<P>>) -> T) -> T {
        let mut actions = std::mem::take(&mut self.actions);
        let done = run(&mut self.engine, &mut actions);
        if actions.is_empty() {
            self.actions = actions;
        } else {
            self.carry_out(actions);
        }
        done
    }

    fn carry_out(&mut self, mut actions: Vec<Action<P>>) {
        let mut lagged = Vec::new();
        for action in actions.drain(..) {
            if let Action::Notify { subscriber, event } = action {
                if !self.notify(subscriber, event)
                    && let Some(entry) = self.subscribers.remove(&subscriber)
                {
                    // Gone at once: what follows here mustn't find room again behind the gap.
                    lagged.push((subscriber, entry));
                }
            } else {
                self.act(action);
            }
        }
        self.actions = actions;
        for (subscriber, entry) in lagged {
            self.suspend(subscriber, entry);
        }
    }

    fn act(&mut self, action: Action<P>) {
        match action {
            Action::Send { to, message } => self.send(to, message),
            Action::Publish { peers, message } => {
                let audience = self.audience.take().filter(|audience| audience.is_of(&peers));
                let audience = audience.unwrap_or_else(|| Audience::new(peers, &self.connections));
                let router = self.process.router();
                let crowded = router.publish(self.process.pid(), &audience.to, &message);
                self.crowded = self.crowded.take().or(crowded);
                self.audience = Some(audience);
            }
            Action::Monitor { id, pid } => {
                let reference = self.process.monitor(Monitored::Pid(pid.clone()));
                self.references.insert(reference.clone(), id);
                self.monitors.insert(id, (reference, pid));
            }
            Action::Demonitor { id } => {
                if let Some((reference, _)) = self.monitors.remove(&id) {
                    self.references.remove(&reference);
                    self.process.demonitor(&reference);
                }
            }
            Action::After { delay, timer } => {
                self.forget_timers();
                self.timers.push(Reverse((Instant::now() + delay, timer)));
            }
            // Handled by the caller.
            Action::Notify { .. } => {}
            Action::Subscribed { subscriber, initial } => self.subscribed(subscriber, initial),
            Action::Updated { caller, changed } => {
                let updated = Updated { changed, crowded: self.crowded.take() };
                if caller == NOW {
                    self.updated = updated;
                } else if let Some(answer) = self.callers.remove(&caller) {
                    let _ = answer.send(updated);
                }
            }
            Action::PeerUp { peer, version } => {
                self.peers.retain(|(pid, _)| *pid != peer);
                let place = self.peers.partition_point(|(pid, _)| *pid < peer);
                self.peers.insert(place, (peer.clone(), version.clone()));
                self.tell_peer_event(&PeerEvent::Up { pid: peer, version });
            }
            Action::PeerDown { peer, reason } => {
                self.peers.retain(|(pid, _)| *pid != peer);
                self.tell_peer_event(&PeerEvent::Down { pid: peer, reason });
            }
        }
    }

    /// Makes room among the timers: the engine doesn't say which of them it has stopped, and a peer
    /// could have it start any number.
    fn forget_timers(&mut self) {
        let Self { timers, engine, .. } = self;
        if timers.len() < TIMERS.max(timers.capacity()) {
            return;
        }
        timers.retain(|Reverse((_, timer))| engine.is_running(*timer));
        // So that the next time isn't soon, if most of them run.
        timers.reserve(timers.len().max(TIMERS));
    }

    fn send(&self, to: Destination, message: Term) {
        // A standalone scope knows of no connections; it only ever answers.
        if self.standalone || to.node() == &self.process.pid().node {
            self.process.send(to, message);
        } else if let Some(connection) = self.connections.get(to.node()) {
            let to = Recipient::new(connection.clone(), to);
            let _ = self.process.router().publish(self.process.pid(), [&to], &message);
        }
    }

    fn tell_peer_event(&mut self, event: &PeerEvent) {
        self.peer_events.retain(|sender| sender.send(event.clone()).is_ok());
    }

    fn subscribed(&mut self, subscriber: SubscriberId, initial: P::Initial) {
        let Some(entry) = self.subscribers.get_mut(&subscriber) else { return };
        match entry.first.take() {
            Some(First::Answer(answer, items)) => {
                let commands = self.commands.clone();
                // An asker that is gone drops the subscription, which unsubscribes.
                let _ = answer.send((initial, Subscription { id: entry.id, items, commands }));
            }
            Some(First::Resumed(permit)) => {
                permit.send(Notice::Lagged(initial));
            }
            None => {}
        }
    }

    /// `false` when the subscriber has no room.
    fn notify(&self, subscriber: SubscriberId, event: P::Event) -> bool {
        let Some(entry) = self.subscribers.get(&subscriber) else { return true };
        !matches!(
            entry.sender.try_send(Notice::Event(event)),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    /// A subscriber is too far behind: it gets nothing more until it has taken all it was sent, then
    /// a fresh snapshot. So there's at most one on its way, however slow it is. The waiting task ends
    /// when it has caught up, or when the subscription is dropped.
    fn suspend(&mut self, subscriber: SubscriberId, entry: Subscriber<P>) {
        self.subscriptions.remove(&entry.id);
        self.handle(Input::Unsubscribe { subscriber });
        let all = entry.sender.max_capacity();
        let (scope, quiet) = (self.engine.scope(), self.process.router().quiet());
        if let Some(more) = quiet.allows(scope.as_str(), "a subscriber is behind") {
            log::warn!("{scope}: a subscriber is {all} events behind{more}");
        }
        self.lagging.insert(entry.id, (entry.key, entry.sender.clone()));
        let commands = self.commands.clone();
        self.runtime.spawn(async move {
            let caught_up = entry.sender.reserve_many(all).await.map(drop);
            let permit = entry.sender.try_reserve_owned();
            if let (Ok(()), Ok(permit), Some(commands)) = (caught_up, permit, commands.upgrade()) {
                let _ = commands.send(Command::Resume(entry.id, permit));
            }
        });
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// A scope as `sys:get_state/1` shows it:
/// `#{scope => pg, version => 1, local_data => Data, subscriptions => 2, peers => #{Pid => #{version => 1, synced => true}}}`.
/// The data is written as for a peer of our own version; a peer's version is `undefined` before its
/// `discover`.
fn shown<P: DataPublisher>(engine: &Engine<P>) -> Shown {
    let publisher = engine.publisher();
    let version = engine.version();
    let data = match publisher.translate_local_data(engine.me(), version, engine.local_data()) {
        Wire::Term(data) => data,
        Wire::Plain(messages) => Term::list_of(messages),
    };
    let peers: Map = engine
        .peers()
        .map(|peer| {
            let version =
                peer.version.map_or_else(|| atom!("undefined").into(), |version| version.0);
            (peer.pid.into(), map! { atom!("version") => version, atom!("synced") => peer.synced })
        })
        .collect();
    let state = map! {
        atom!("scope") => engine.scope(),
        atom!("version") => &version.0,
        atom!("local_data") => data,
        atom!("subscriptions") => engine.subscriber_count() as u32,
        atom!("peers") => peers,
    };
    Shown { header: format!("Status for scope {}", engine.scope()), state }
}

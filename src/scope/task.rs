//! Mailbox and commands into the engine, its actions out to the router: the only place where the two
//! meet.
//!
//! The task never waits for a peer: a message that can't be queued is lost with its connection, and
//! that connection's end brings a fresh start. It ends when its process does, when the last handle
//! is dropped, when `sys:terminate/2` asks for it, or when the node stops; dropping the process then
//! tells all peers.
//!
//! While `sys:suspend/1` holds, nothing is handled: messages, news of nodes and commands wait in their
//! order, and what a peer sends counts against its connection until then, as ever.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ready::Ready;
use super::{BEHIND, Command, Item, Notice, PeerEvent, Subscription, SubscriptionId};
use crate::engine::{
    Action, CallerId, DataPublisher, Engine, EngineOptions, Input, MonitorId, SharedView,
    SubscriberId, TimerId, Wire,
};
use crate::gen_server::{Shown, Sys, Verdict};
use crate::node::router::Router;
use crate::node::{Connection, Envelope, Leaving, Legacy, Monitored, Origin, Process, Received};
use crate::term::{Atom, Destination, Map, NodeName, Pid, Reference, Term};
use crate::{atom, map};

/// How long we look for the data of a scope that had our name and still lives: somebody took the name
/// from it.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// Inputs handled between two looks at the clock and at the other queue.
const TURN: usize = 256;

pub(super) struct Task<P: DataPublisher> {
    process: Process,
    sys: Sys,
    /// What handles asked while the scope was suspended.
    postponed: VecDeque<Command<P>>,
    /// Set once the scope shall end.
    ending: Option<End>,
    engine: Engine<P>,
    standalone: bool,
    actions: Vec<Action<P>>,
    /// The connections the engine knows of. What it says goes over these and no newer ones: to
    /// a peer that has lost us in between, an update may be deadly.
    connections: FxHashMap<NodeName, Arc<Connection>>,
    monitors: FxHashMap<MonitorId, (Reference, Pid)>,
    references: FxHashMap<Reference, MonitorId>,
    timers: BinaryHeap<Reverse<(Instant, TimerId)>>,
    callers: FxHashMap<CallerId, oneshot::Sender<bool>>,
    subscribers: FxHashMap<SubscriberId, Subscriber<P>>,
    subscriptions: FxHashMap<SubscriptionId, SubscriberId>,
    /// Subscriptions that lag: what they are to, and where to.
    lagging: FxHashMap<SubscriptionId, (P::Subscription, mpsc::Sender<Item<P>>)>,
    peers: Vec<(Pid, crate::engine::Version)>,
    peer_events: Vec<mpsc::UnboundedSender<PeerEvent>>,
    ready: Ready,
    commands: mpsc::WeakUnboundedSender<Command<P>>,
    next_id: u64,
}

/// What a scope leaves to the next of its name.
struct Left<P: DataPublisher>(P::LocalData);

/// However a scope ends, by a publisher's panic too: its readers see that it has.
struct Readers<V>(SharedView<V>);

impl<V> Drop for Readers<V> {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Why a scope ends that isn't ended by an exit signal or by its last handle.
enum End {
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

/// What the one before has left. A scope whose process has ended ends, too, as soon as the callback
/// it's in returns; so it's waited for, or its data would be nobody's.
async fn last_word(router: Arc<Router>, (pid, mut left): Leaving) -> Option<Legacy> {
    loop {
        match tokio::time::timeout(LAST_WORD, &mut left).await {
            Ok(legacy) => return legacy.ok(),
            Err(_) if router.is_alive(&pid) => return None,
            Err(_) => log::debug!("{pid} hasn't left its data yet"),
        }
    }
}

impl<P: DataPublisher> Task<P> {
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
            postponed: VecDeque::new(),
            ending: None,
            engine,
            standalone,
            actions: Vec::new(),
            connections: FxHashMap::default(),
            monitors: FxHashMap::default(),
            references: FxHashMap::default(),
            timers: BinaryHeap::new(),
            callers: FxHashMap::default(),
            subscribers: FxHashMap::default(),
            subscriptions: FxHashMap::default(),
            lagging: FxHashMap::default(),
            peers: Vec::new(),
            peer_events: Vec::new(),
            ready: Ready::default(),
            commands,
            next_id: 0,
        }
    }

    /// What readers read.
    pub(super) fn view(&self) -> &SharedView<P::GlobalView> {
        self.engine.shared_view()
    }

    /// From what the one before has left to what is left to the next.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command<P>>,
        before: Option<Leaving>,
        after: oneshot::Sender<Legacy>,
    ) {
        let _readers = Readers(self.view().clone());
        if let Some(before) = before
            && let Some(legacy) = last_word(self.process.router().clone(), before).await
            && let Ok(left) = legacy.downcast::<Left<P>>()
        {
            let mut actions = Vec::new();
            self.engine.restore(&left.0, &mut actions);
            self.carry_out(actions);
        }
        let stopped = self.serve(&mut commands).await;
        // Readers see that it's over before peers hear that the scope is gone.
        let _ = after.send(Box::new(Left::<P>(self.engine.stop())));
        match stopped {
            None => drop(self.process),
            Some(End::Stopped(done)) => {
                drop(self.process);
                let _ = done.send(());
            }
            Some(End::Terminated(reason)) => self.process.exit(reason),
        }
    }

    /// Until the scope ends; says who asked for it, if somebody did.
    async fn serve(&mut self, commands: &mut mpsc::UnboundedReceiver<Command<P>>) -> Option<End> {
        loop {
            for _ in 0..TURN {
                let Some(envelope) = self.sys.next().or_else(|| self.process.try_receive_sealed())
                else {
                    break;
                };
                self.open(envelope);
            }
            while !self.sys.is_suspended()
                && let Some(command) = self.postponed.pop_front()
            {
                self.obey(command);
            }
            if self.ending.is_some() {
                return self.ending.take();
            }
            let next_timer = self.timers.peek().map(|Reverse((at, _))| *at);
            let next_timer = next_timer.into_iter().chain(self.ready.next_due()).min();
            let next_timer = next_timer.filter(|_| !self.sys.is_suspended());
            let timer = async {
                match next_timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What waited while the scope was suspended comes before what is in the mailbox.
                () = std::future::ready(()), if self.sys.has_next() => {}
                received = self.process.receive_sealed(), if !self.sys.has_next() => {
                    self.open(received?);
                }
                command = commands.recv() => match command? {
                    Command::Stop(done) => return Some(End::Stopped(done)),
                    command if self.sys.is_suspended() => self.postponed.push_back(command),
                    command => self.obey(command),
                },
                () = timer => self.ring(),
            }
        }
    }

    /// Something received: handled now, answered if `sys` asks, or put aside.
    fn open(&mut self, envelope: Envelope) {
        let Self { sys, process, engine, .. } = self;
        match sys.judge(process, envelope, || shown(engine)) {
            Verdict::Handle(received) => self.take_in(received),
            Verdict::Terminate(reason) => self.ending = Some(End::Terminated(reason)),
            Verdict::Done => {}
        }
    }

    fn take_in(&mut self, received: Received) {
        match received {
            Received::Message { term, origin } => {
                // What a connection that is gone brought is lost with it: its sender starts over.
                if origin.is_gone() {
                    return;
                }
                let from = match &origin {
                    Origin::Local => self.process.pid().node.clone(),
                    Origin::Connection(connection) => connection.peer().clone(),
                };
                // Only a message from there is an answer; looked at only while somebody waits.
                let awaited = self.ready.is_awaited(&from).then(|| from.clone());
                self.handle(Input::Message { from, message: term });
                if let Some(node) = awaited.filter(|node| self.engine.has_answered(node)) {
                    self.ready.settled(&node, &self.process);
                }
            }
            Received::Down { reference, reason, .. } => {
                if let Some(node) = self.ready.node_of(&reference) {
                    return self.ready.settled(&node, &self.process);
                }
                let Some(monitor) = self.references.remove(&reference) else { return };
                let Some((_, pid)) = self.monitors.remove(&monitor) else { return };
                self.handle(Input::Down { monitor, pid, reason });
            }
            Received::NodeUp(connection) => {
                let node = connection.peer().clone();
                self.connections.insert(node.clone(), connection);
                self.handle(Input::NodeUp(node));
            }
            Received::NodeDown(node) => {
                self.connections.remove(&node);
                self.ready.settled(&node, &self.process);
                self.handle(Input::NodeDown(node));
            }
            Received::Exit { .. } | Received::SpawnReply { .. } => {}
        }
    }

    fn obey(&mut self, command: Command<P>) {
        match command {
            Command::Update { update, answer } => {
                let caller = CallerId(self.fresh());
                self.callers.insert(caller, answer);
                self.handle(Input::Update { update, caller });
            }
            Command::Subscribe { key, answer } => {
                let (sender, items) = mpsc::channel(BEHIND);
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
            Command::Ready(answer) => {
                // Who waits now was connected before it asked; the news may still be in the mailbox.
                while let Some(envelope) = self.sys.next() {
                    self.open(envelope);
                }
                for _ in 0..self.process.waiting() {
                    let Some(envelope) = self.process.try_receive_sealed() else { break };
                    self.open(envelope);
                }
                let missing = |node: &&NodeName| !self.engine.has_answered(node);
                let nodes = self.connections.keys().filter(missing).cloned().collect();
                let us = (&self.process, self.engine.scope());
                self.ready.wait_for(nodes, answer, us);
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
            Command::Stop(_) => {}
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

    fn ring(&mut self) {
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

    fn handle(&mut self, input: Input<P>) {
        let mut actions = std::mem::take(&mut self.actions);
        self.engine.handle(input, &mut actions);
        self.carry_out(actions);
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
                let known = |pid: &Pid| {
                    self.connections.get(&pid.node).map(|over| (&**over, Destination::from(pid)))
                };
                let to = peers.iter().filter_map(known);
                self.process.router().publish(self.process.pid(), to, &message);
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
                self.timers.push(Reverse((Instant::now() + delay, timer)));
            }
            // Handled by the caller.
            Action::Notify { .. } => {}
            Action::Subscribed { subscriber, initial } => self.subscribed(subscriber, initial),
            Action::Updated { caller, changed } => {
                if let Some(answer) = self.callers.remove(&caller) {
                    let _ = answer.send(changed);
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

    fn send(&self, to: Destination, message: Term) {
        // A standalone scope knows of no connections; it only ever answers.
        if self.standalone || to.node() == &self.process.pid().node {
            self.process.send(to, message);
        } else if let Some(connection) = self.connections.get(to.node()) {
            let to = std::iter::once((&**connection, to));
            self.process.router().publish(self.process.pid(), to, &message);
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
        log::warn!("{}: a subscriber is {BEHIND} events behind", self.process.pid());
        self.lagging.insert(entry.id, (entry.key, entry.sender.clone()));
        let commands = self.commands.clone();
        tokio::spawn(async move {
            let caught_up = entry.sender.reserve_many(BEHIND).await.map(drop);
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

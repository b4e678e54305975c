//! The engine itself: what each input means.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::{Action, Input, MonitorId, SubscriberId, TimerId};
use super::call::{self, Caller};
use super::message::{self, Envelope};
use super::monitors::{Monitors, Purpose};
use super::peers::Peers;
use super::publisher::{DataPublisher, Effects, PeerMessage, Translated, Version, Wire};
use super::subscribers::Subscribers;
use super::view::{SharedView, ViewGuard};
use crate::term::{Atom, Destination, NodeName, Pid, Reference, Term};
use crate::{atom, tuple};

/// How long a peer whose data couldn't be read is left alone before it's asked again.
const RETRY: Duration = Duration::from_secs(30);
/// How long a peer that sent its data without a `discover` has for it. On one connection the two
/// come together; a peer that takes us for known sends none.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest pause between two greetings of a node that doesn't answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs a publisher: takes what happens, says what to do.
///
/// [`handle`](Self::handle) never panics and never fails, whatever comes in and in whatever order.
/// What it refuses it counts.
pub struct Engine<P: DataPublisher> {
    scope: Atom,
    me: Pid,
    options: EngineOptions,
    publisher: P,
    version: Version,
    local_data: P::LocalData,
    view: SharedView<P::GlobalView>,
    peers: Peers<P::LocalData>,
    /// Nodes we're connected to, and the greeting that is due there.
    nodes: BTreeMap<NodeName, Option<Greeting>>,
    subscribers: Subscribers<P::Subscription>,
    monitors: Monitors,
    timers: Timers,
    counters: Counters,
}

/// What a scope can be told at its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Greet nobody and answer no greeting, `#{standalone => true}` of OTP 29. Default false.
    pub standalone: bool,
}

impl EngineOptions {
    /// Sets [`standalone`](Self::standalone).
    #[must_use]
    pub fn standalone(mut self, standalone: bool) -> Self {
        self.standalone = standalone;
        self
    }
}

/// How often an engine refused something.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Messages whose pid doesn't live on the node of the connection they came over.
    pub spoofed: u64,
    /// Messages of peers that claim to live on our own node.
    pub own: u64,
    /// Updates of unknown peers: late words of a connection that is gone.
    pub strangers: u64,
    /// Updates of peers whose local data isn't here yet; it will hold them.
    pub early: u64,
    /// Peers dismissed because their node claimed too many others after them.
    pub crowded_out: u64,
    /// Messages of peers with content that can't be read.
    pub unreadable: u64,
    /// Messages that neither the engine nor its publisher knows.
    pub unknown: u64,
    /// Calls answered with `{error, badarg}`.
    pub refused_calls: u64,
    /// `Down`s of monitors that don't run.
    pub late_downs: u64,
}

/// What is known of a peer, for those who look at the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerInfo {
    /// Its process.
    pub pid: Pid,
    /// The version its `discover` said; `None` before that.
    pub version: Option<Version>,
    /// Whether its local data is here.
    pub synced: bool,
}

/// A node without a known peer is greeted again after 1, 2, 4 ... 30 s.
#[derive(Debug)]
struct Greeting {
    attempt: u32,
    timer: TimerId,
}

#[derive(Debug)]
enum Due {
    /// Greet this node by name.
    Greet(NodeName),
    /// Ask this peer for its data, if it's still missing.
    Retry(Pid),
    /// Send this peer our data, if it still hasn't asked.
    Answer(Pid),
}

#[derive(Debug, Default)]
struct Timers {
    running: BTreeMap<TimerId, Due>,
    used: u64,
}

impl Timers {
    fn start<P: DataPublisher>(
        &mut self,
        delay: Duration,
        due: Due,
        actions: &mut Vec<Action<P>>,
    ) -> TimerId {
        self.used += 1;
        let timer = TimerId(self.used);
        self.running.insert(timer, due);
        actions.push(Action::After { delay, timer });
        timer
    }
}

impl<P: DataPublisher> Engine<P> {
    /// An engine that knows nobody. `me` is the process registered under the scope's name.
    pub fn new(scope: Atom, me: Pid, mut publisher: P, options: EngineOptions) -> Self {
        Self {
            version: publisher.version(),
            local_data: publisher.init_local_data(),
            view: SharedView::new(publisher.init_global_view(&scope)),
            scope,
            me,
            options,
            publisher,
            peers: Peers::default(),
            nodes: BTreeMap::new(),
            subscribers: Subscribers::default(),
            monitors: Monitors::default(),
            timers: Timers::default(),
            counters: Counters::default(),
        }
    }

    /// Takes in what happened and appends what to do, in order.
    pub fn handle(&mut self, input: Input<P>, actions: &mut Vec<Action<P>>) {
        match input {
            Input::NodeUp(node) => self.node_up(&node, actions),
            Input::NodeDown(node) => self.node_down(&node, actions),
            Input::Message { from, message } => self.message(&from, &message, actions),
            Input::Down { monitor, pid, reason } => self.down(monitor, &pid, reason, actions),
            Input::Timer(timer) => self.timer(timer, actions),
            Input::Update { update, caller } => {
                let changed = self.update(update, actions);
                actions.push(Action::Updated { caller, changed });
            }
            Input::Subscribe { key, subscriber } => {
                let initial = self.publisher.new_subscription(&key, &self.view());
                self.subscribers.add(subscriber, key);
                actions.push(Action::Subscribed { subscriber, initial });
            }
            Input::Unsubscribe { subscriber } => self.subscribers.remove(subscriber),
        }
    }

    /// Takes over the local data that a predecessor of this engine has left, see
    /// [`stop`](Self::stop): the update that makes it out of our own.
    pub fn restore(&mut self, data: &P::LocalData, actions: &mut Vec<Action<P>>) {
        if let Some(update) = self.publisher.data_diff(&self.local_data, data) {
            self.update(update, actions);
        }
    }

    /// Ends the engine. The local data is for a successor, to publish it anew.
    pub fn stop(mut self) -> P::LocalData {
        if let Some(view) = self.view.take() {
            self.publisher.stop_global_view(view);
        }
        self.local_data
    }

    /// The scope's name.
    pub fn scope(&self) -> &Atom {
        &self.scope
    }

    /// The scope's process.
    pub fn me(&self) -> &Pid {
        &self.me
    }

    /// The publisher.
    pub fn publisher(&self) -> &P {
        &self.publisher
    }

    /// What readers see.
    ///
    /// # Panics
    ///
    /// When a callback has panicked on the view, or the view was taken from the readers.
    pub fn view(&self) -> ViewGuard<'_, P::GlobalView> {
        self.view.read().expect("the engine runs")
    }

    /// The view for readers elsewhere.
    pub fn shared_view(&self) -> &SharedView<P::GlobalView> {
        &self.view
    }

    /// Whether somebody who runs the scope on this node has answered us: with its data, even if we
    /// can't read that.
    pub fn has_answered(&self, node: &NodeName) -> bool {
        self.peers.of_node(node).any(|(_, peer)| peer.synced || peer.retry.is_some())
    }

    /// What this node publishes.
    pub fn local_data(&self) -> &P::LocalData {
        &self.local_data
    }

    /// All known peers, in the order of their pids.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> {
        self.peers.iter().map(|(pid, peer)| PeerInfo {
            pid: pid.clone(),
            version: peer.version.clone(),
            synced: peer.synced,
        })
    }

    /// The data of a peer, if it's known and its data is here.
    pub fn peer_data(&self, peer: &Pid) -> Option<&P::LocalData> {
        self.peers.get(peer).filter(|peer| peer.synced).map(|peer| &peer.data)
    }

    /// The data the view is made of besides our own: for each node that of its youngest peer.
    pub fn shown(&self) -> impl Iterator<Item = (&Pid, &P::LocalData)> {
        self.peers
            .all_shown()
            .filter_map(|(_, pid)| self.peers.get(pid).map(|peer| (pid, &peer.data)))
    }

    /// The monitors that run, in the order they were started.
    pub fn monitors(&self) -> impl Iterator<Item = (MonitorId, &Pid)> {
        self.monitors.all().map(|(id, pid, _)| (id, pid))
    }

    /// How many subscribers there are, in this process and elsewhere.
    pub fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    /// What was refused so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Panics if the bookkeeping broke one of its laws; for tests, it reads everything.
    ///
    /// # Panics
    ///
    /// When a known peer or a subscribed process isn't watched by exactly one monitor, when a
    /// monitor watches for nobody, when a peer of our own node is known, or when the view holds
    /// data of another than the youngest peer of a node.
    pub fn check(&self) {
        for (id, pid, purpose) in self.monitors.all() {
            match purpose {
                Purpose::Peer => {
                    let peer = self.peers.get(pid);
                    assert!(peer.is_some_and(|peer| peer.monitor == id), "{id:?} watches no peer");
                }
                Purpose::Subscriber(number) => {
                    let mut all = self.subscribers.processes();
                    let found = all.any(|(n, p, m)| n == number && p == pid && m == id);
                    assert!(found, "{id:?} watches no subscriber");
                }
                Purpose::Publisher => {}
            }
        }
        for (pid, peer) in self.peers.iter() {
            assert_ne!(pid.node, self.me.node, "a peer of our own node");
            let watched = Some(&(pid.clone(), Purpose::Peer));
            assert_eq!(self.monitors.get(peer.monitor), watched, "peer {pid} isn't watched");
            assert_eq!(
                self.peers.shown(&pid.node),
                self.peers.speaker(&pid.node),
                "the view holds the data of the wrong peer of {}",
                pid.node
            );
        }
        for (node, pid) in self.peers.all_shown() {
            assert!(self.peers.contains(pid), "the view holds data of {node} without a peer there");
        }
        for (number, pid, monitor) in self.subscribers.processes() {
            let watched = Some(&(pid.clone(), Purpose::Subscriber(number)));
            assert_eq!(self.monitors.get(monitor), watched, "subscriber {pid} isn't watched");
        }
        assert_eq!(self.subscribers.len(), self.subscribers.len_by_key(), "a subscriber twice");
    }
}

/// Nodes and greetings.
impl<P: DataPublisher> Engine<P> {
    fn node_up(&mut self, node: &NodeName, actions: &mut Vec<Action<P>>) {
        if self.options.standalone || *node == self.me.node {
            return;
        }
        self.greet_node(node, 0, actions);
    }

    /// Says hello to the name, and again later unless a peer shows up.
    ///
    /// A visible node is greeted by every scope that starts on its peers, a hidden one by none: so
    /// it has to ask again and again, at its start and whenever a scope there has ended.
    fn greet_node(&mut self, node: &NodeName, attempt: u32, actions: &mut Vec<Action<P>>) {
        let to = Destination::Name(self.scope.clone(), node.clone());
        actions.push(Action::Send { to, message: self.publisher.hello(&self.me, None) });
        self.greet_node_later(node, attempt, actions);
    }

    fn greet_node_later(&mut self, node: &NodeName, attempt: u32, actions: &mut Vec<Action<P>>) {
        let pause = Duration::from_secs(1 << attempt.min(6)).min(LONGEST_PAUSE);
        let timer = self.timers.start(pause, Due::Greet(node.clone()), actions);
        self.nodes.insert(node.clone(), Some(Greeting { attempt, timer }));
    }

    fn node_down(&mut self, node: &NodeName, actions: &mut Vec<Action<P>>) {
        self.nodes.remove(node);
        // Their `Down`s came before, so there are none; but none may outlive its connection.
        let left: Vec<Pid> = self.peers.of_node(node).map(|(pid, _)| pid.clone()).collect();
        for pid in left {
            self.dismiss(&pid, atom!("noconnection").into(), actions);
        }
    }

    fn timer(&mut self, timer: TimerId, actions: &mut Vec<Action<P>>) {
        match self.timers.running.remove(&timer) {
            Some(Due::Greet(node)) => {
                let Some(due) = self.nodes.get_mut(&node) else { return };
                match due.take_if(|greeting| greeting.timer == timer) {
                    Some(greeting) if self.peers.of_node(&node).next().is_none() => {
                        self.greet_node(&node, greeting.attempt.saturating_add(1), actions);
                    }
                    _ => {}
                }
            }
            Some(Due::Retry(pid)) => {
                if let Some(peer) = self.peers.get_mut(&pid)
                    && peer.retry.take_if(|running| *running == timer).is_some()
                    && !peer.synced
                {
                    self.ask_again(&pid, actions);
                }
            }
            Some(Due::Answer(pid)) => {
                if let Some(peer) = self.peers.get_mut(&pid)
                    && peer.answer.take_if(|running| *running == timer).is_some()
                {
                    let format = peer.format().clone();
                    self.tell(&pid, &format, actions);
                }
            }
            None => {}
        }
    }
}

/// Messages.
impl<P: DataPublisher> Engine<P> {
    fn message(&mut self, from: &NodeName, message: &Term, actions: &mut Vec<Action<P>>) {
        match message::open(message) {
            Envelope::Call { from, request } => self.call(from, request, actions),
            Envelope::Message(message) => match message::read(message, &self.publisher) {
                Some(message) => self.peer_message(from, message, actions),
                None => self.unknown_message(from, message, actions),
            },
        }
    }

    fn unknown_message(&mut self, from: &NodeName, message: &Term, actions: &mut Vec<Action<P>>) {
        let mut effects = Effects {
            me: &self.me,
            publisher: &self.publisher,
            subscribers: &self.subscribers,
            monitors: &mut self.monitors,
            actions,
        };
        let publisher = &self.publisher;
        let read = |view: &mut _| publisher.translate_message(message, view, &mut effects);
        match self.view.change(read) {
            Translated::Drop => self.counters.unknown += 1,
            Translated::Update(update) => {
                self.update(update, actions);
            }
            Translated::Peer(message) => self.peer_message(from, message, actions),
        }
    }

    fn peer_message(
        &mut self,
        from: &NodeName,
        message: PeerMessage<P>,
        actions: &mut Vec<Action<P>>,
    ) {
        let (PeerMessage::Discover { peer, .. }
        | PeerMessage::LocalData { peer, .. }
        | PeerMessage::Update { peer, .. }
        | PeerMessage::Unreadable { peer, .. }) = &message;
        if peer.node == self.me.node {
            self.counters.own += 1;
            return;
        }
        if peer.node != *from {
            self.counters.spoofed += 1;
            return;
        }
        match message {
            PeerMessage::Discover { peer, version } => self.discover(&peer, version, actions),
            PeerMessage::LocalData { peer, label, data } => {
                self.local_data_of(&peer, label, data, actions);
            }
            PeerMessage::Update { peer, update } => self.update_of(&peer, update, actions),
            PeerMessage::Unreadable { peer, label } => self.unreadable(&peer, label, actions),
        }
    }

    /// `{discover, Peer, Version}`: answer with all we have; introduce ourselves if it's new.
    fn discover(&mut self, peer: &Pid, version: Version, actions: &mut Vec<Action<P>>) {
        if self.options.standalone {
            return;
        }
        let is_new = !self.peers.contains(peer);
        if is_new {
            // Our data first, then the monitor, then our own `discover`: the order OTP has.
            self.send_local_data(peer, &version, actions);
            self.add_peer(peer.clone(), version.clone(), actions);
            let message = self.publisher.hello(&self.me, Some(&version));
            actions.push(Action::Send { to: Destination::from(peer), message });
        } else {
            self.send_local_data(peer, &version, actions);
        }
        if let Some(known) = self.peers.get_mut(peer) {
            known.version = Some(version);
            known.told = true;
            known.answer = None;
        }
        self.announce(peer, actions);
    }

    /// `{local_data, Peer, Label, Data}`: whatever we knew of the peer, this is it now.
    fn local_data_of(
        &mut self,
        peer: &Pid,
        label: Version,
        data: P::LocalData,
        actions: &mut Vec<Action<P>>,
    ) {
        self.ensure_known(peer, label, actions);
        let Some(known) = self.peers.get_mut(peer) else { return };
        let old = std::mem::replace(&mut known.data, data);
        known.synced = true;
        self.reshow(peer, &old, actions);
        self.announce(peer, actions);
    }

    /// `{update, Peer, Update}`.
    fn update_of(&mut self, peer: &Pid, update: P::Update, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(peer) else {
            // Its connection was lost, ours to it is new: its local data will hold the update.
            self.counters.strangers += 1;
            return;
        };
        if !known.synced {
            self.counters.early += 1;
            return;
        }
        if let Some(update) = self.publisher.update_local_data(update, &mut known.data)
            && self.peers.shown(&peer.node) == Some(peer)
        {
            self.show(&peer.node, &update, actions);
        }
    }

    /// What can't be read can't be skipped either: what follows builds on it. So all of the peer's
    /// data goes and it's asked for all of it. It stays known, for it still gets our updates.
    fn unreadable(&mut self, peer: &Pid, label: Option<Version>, actions: &mut Vec<Action<P>>) {
        self.counters.unreadable += 1;
        // An update of a stranger is nobody's, readable or not; nor does it tell a version.
        if let Some(label) = label {
            self.ensure_known(peer, label, actions);
        }
        let init = self.publisher.init_local_data();
        let Some(known) = self.peers.get_mut(peer) else { return };
        let old = std::mem::replace(&mut known.data, init);
        let may_ask = known.retry.is_none();
        known.synced = false;
        self.reshow(peer, &old, actions);
        if may_ask {
            self.ask_again(peer, actions);
        }
    }

    fn ask_again(&mut self, peer: &Pid, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let message = self.publisher.hello(&self.me, known.version.as_ref());
        actions.push(Action::Send { to: Destination::from(peer), message });
        known.retry = Some(self.timers.start(RETRY, Due::Retry(peer.clone()), actions));
    }

    /// A peer whose data came before its `discover` is known from here on, too.
    fn ensure_known(&mut self, peer: &Pid, label: Version, actions: &mut Vec<Action<P>>) {
        if self.peers.contains(peer) {
            return;
        }
        self.add_peer(peer.clone(), label, actions);
        if !self.options.standalone
            && let Some(known) = self.peers.get_mut(peer)
        {
            known.answer = Some(self.timers.start(ANSWER, Due::Answer(peer.clone()), actions));
        }
    }

    fn add_peer(&mut self, peer: Pid, label: Version, actions: &mut Vec<Action<P>>) {
        if let Some(oldest) = self.peers.crowded_out(&peer.node).cloned() {
            self.counters.crowded_out += 1;
            self.dismiss(&oldest, atom!("noproc").into(), actions);
        }
        let id = self.monitors.start(peer.clone(), Purpose::Peer);
        actions.push(Action::Monitor { id, pid: peer.clone() });
        self.peers.add(peer, id, label, self.publisher.init_local_data());
    }

    fn send_local_data(&self, peer: &Pid, version: &Version, actions: &mut Vec<Action<P>>) {
        // OTP 29 labels with the receiver's version and takes the label for the sender's: told too
        // high a one, it would send updates we can't read; told the lower, it's right for both.
        let format = version.min(&self.version);
        let messages = match self.publisher.translate_local_data(&self.me, format, &self.local_data)
        {
            Wire::Term(data) => vec![message::local_data(&self.me, format, data)],
            Wire::Plain(messages) => messages,
        };
        actions.extend(messages.into_iter().map(|message| Action::Send {
            to: Destination::from(peer),
            message: message::cast(message),
        }));
    }

    /// Sends a peer our data without being asked. All releases take it, known or not.
    fn tell(&mut self, peer: &Pid, format: &Version, actions: &mut Vec<Action<P>>) {
        self.send_local_data(peer, format, actions);
        if let Some(known) = self.peers.get_mut(peer) {
            known.told = true;
        }
        self.announce(peer, actions);
    }

    fn announce(&mut self, peer: &Pid, actions: &mut Vec<Action<P>>) {
        if let Some(known) = self.peers.get_mut(peer)
            && known.synced
            && known.told
            && !known.announced
        {
            known.announced = true;
            let version = known.format().clone();
            actions.push(Action::PeerUp { peer: peer.clone(), version });
        }
    }
}

/// What ends.
impl<P: DataPublisher> Engine<P> {
    fn down(&mut self, monitor: MonitorId, pid: &Pid, reason: Term, actions: &mut Vec<Action<P>>) {
        match self.monitors.down(monitor, pid) {
            None => self.counters.late_downs += 1,
            Some(Purpose::Subscriber(number)) => {
                self.subscribers.remove_process(number);
            }
            Some(Purpose::Publisher) => {
                let mut effects = Effects {
                    me: &self.me,
                    publisher: &self.publisher,
                    subscribers: &self.subscribers,
                    monitors: &mut self.monitors,
                    actions,
                };
                let publisher = &self.publisher;
                let read =
                    |view: &mut _| publisher.translate_down(monitor, pid, view, &mut effects);
                if let Some(update) = self.view.change(read) {
                    self.update(update, actions);
                }
            }
            Some(Purpose::Peer) => {
                self.forget(pid, reason, actions);
                let is_up = self.nodes.contains_key(&pid.node);
                if is_up && self.peers.of_node(&pid.node).next().is_none() {
                    self.greet_node_later(&pid.node, 0, actions);
                }
            }
        }
    }

    /// The peer isn't known any more, whether it lives or not.
    fn dismiss(&mut self, pid: &Pid, reason: Term, actions: &mut Vec<Action<P>>) {
        if let Some(monitor) = self.peers.get(pid).map(|peer| peer.monitor) {
            self.monitors.stop(monitor, |purpose| purpose == Purpose::Peer);
            actions.push(Action::Demonitor { id: monitor });
        }
        self.forget(pid, reason, actions);
    }

    /// The peer isn't known any more; its monitor has ended already.
    fn forget(&mut self, pid: &Pid, reason: Term, actions: &mut Vec<Action<P>>) {
        let Some(peer) = self.peers.remove(pid) else { return };
        self.reshow(pid, &peer.data, actions);
        if peer.announced {
            actions.push(Action::PeerDown { peer: pid.clone(), reason });
        }
    }
}

/// Local data, the view and what subscribers hear of it.
impl<P: DataPublisher> Engine<P> {
    /// Whether it changed anything.
    fn update(&mut self, update: P::Update, actions: &mut Vec<Action<P>>) -> bool {
        let Some(update) = self.publisher.update_local_data(update, &mut self.local_data) else {
            return false;
        };
        let node = self.me.node.clone();
        self.show(&node, &update, actions);
        self.publish(&update, actions);
        true
    }

    /// To all who got our local data: to the others it's still to come, with the update in it. (A
    /// `pg` of OTP 27 that hears of a leave before it has our data crashes.)
    fn publish(&mut self, update: &P::Update, actions: &mut Vec<Action<P>>) {
        let mut by_format: BTreeMap<&Version, Vec<Pid>> = BTreeMap::new();
        for (pid, peer) in self.peers.iter().filter(|(_, peer)| peer.told) {
            let format = peer.format().min(&self.version);
            by_format.entry(format).or_default().push(pid.clone());
        }
        for (format, peers) in by_format {
            let messages = match self.publisher.translate_update(&self.me, format, update) {
                Wire::Term(update) => vec![message::update(&self.me, update)],
                Wire::Plain(messages) => messages,
            };
            actions.extend(
                messages
                    .into_iter()
                    .map(|message| Action::Publish { peers: peers.clone(), message }),
            );
        }
    }

    fn show(&mut self, origin: &NodeName, update: &P::Update, actions: &mut Vec<Action<P>>) {
        let mut effects = Effects {
            me: &self.me,
            publisher: &self.publisher,
            subscribers: &self.subscribers,
            monitors: &mut self.monitors,
            actions,
        };
        let publisher = &self.publisher;
        self.view.change(|view| {
            publisher.update_global_view_and_notify(origin, update, view, &mut effects);
        });
    }

    /// The data of `pid` was `old` and is another now, or is gone: brings the view's part of its
    /// node to what the peer shows that speaks for it.
    fn reshow(&mut self, pid: &Pid, old: &P::LocalData, actions: &mut Vec<Action<P>>) {
        let before = self.peers.shown(&pid.node).cloned();
        let after = self.peers.speaker(&pid.node).cloned();
        if before == after && before.as_ref() != Some(pid) {
            return;
        }
        let nothing = self.publisher.init_local_data();
        let data = |peer: &Option<Pid>| {
            peer.as_ref().and_then(|peer| self.peers.get(peer)).map_or(&nothing, |peer| &peer.data)
        };
        let from = if before.as_ref() == Some(pid) { old } else { data(&before) };
        let update = self.publisher.data_diff(from, data(&after));
        self.peers.show(&pid.node, after);
        if let Some(update) = update {
            self.show(&pid.node, &update, actions);
        }
    }
}

/// Calls, and the subscribers that come with them.
impl<P: DataPublisher> Engine<P> {
    fn call(&mut self, from: &Term, request: &Term, actions: &mut Vec<Action<P>>) {
        let Ok(caller) = Caller::read(from) else {
            self.counters.unknown += 1;
            return;
        };
        let reply = self.answer(&caller, request, actions).unwrap_or_else(|| {
            self.counters.refused_calls += 1;
            call::refusal()
        });
        let (to, message) = caller.reply(reply);
        actions.push(Action::Send { to, message });
    }

    /// `None` if there's no such request or it can't be read.
    fn answer(
        &mut self,
        caller: &Caller,
        request: &Term,
        actions: &mut Vec<Action<P>>,
    ) -> Option<Term> {
        if let Some([update]) = request.tagged("update") {
            let update = self.publisher.read_own_update(update).ok()?;
            self.update(update, actions);
            return Some(atom!("ok").into());
        }
        if let Some([key]) = request.tagged("subscribe") {
            let key = self.publisher.read_subscription(key).ok()?;
            return Some(self.subscribe_process(&caller.pid, key, actions));
        }
        if let Some([reference]) = request.tagged("unsubscribe") {
            // `ok` also for a reference that isn't known, as in OTP 29.
            self.unsubscribe_process(reference.reference().ok()?, actions);
            return Some(atom!("ok").into());
        }
        None
    }

    /// `{Ref, Initial}`; the process is subscribed until it ends or unsubscribes.
    fn subscribe_process(
        &mut self,
        pid: &Pid,
        key: P::Subscription,
        actions: &mut Vec<Action<P>>,
    ) -> Term {
        let number = self.subscribers.next_number();
        let reference = self.reference(number);
        let monitor = self.monitors.start(pid.clone(), Purpose::Subscriber(number));
        actions.push(Action::Monitor { id: monitor, pid: pid.clone() });
        let initial = self.publisher.new_subscription(&key, &self.view());
        let reply = tuple![&reference, self.publisher.initial_term(&initial)];
        self.subscribers.add_process(number, key, reference, pid.clone(), monitor);
        reply
    }

    fn unsubscribe_process(&mut self, reference: &Reference, actions: &mut Vec<Action<P>>) {
        let number = self.subscribers.number_of(reference);
        if let Some(id) = number.and_then(|number| self.subscribers.remove_process(number)) {
            self.monitors.stop(id, |purpose| matches!(purpose, Purpose::Subscriber(_)));
            actions.push(Action::Demonitor { id });
        }
    }

    /// A reference no one else has: it holds our own pid, and has four words where those of the node
    /// have three or five. The first word keeps to 18 bits, as all releases want it.
    fn reference(&self, number: u64) -> Reference {
        let words = [(number & 0x3_ffff) as u32, (number >> 18) as u32, self.me.id, self.me.serial];
        Reference::new(self.me.node.clone(), self.me.creation, &words)
            .expect("four words are a reference")
    }

    /// Whether a subscriber of this process is still subscribed.
    pub fn is_subscribed(&self, subscriber: SubscriberId) -> bool {
        self.subscribers.contains(subscriber)
    }
}

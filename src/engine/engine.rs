//! The engine itself: what it holds, where each input goes, and what becomes of the view.
//!
//! The exchange with peers is in [`exchange`](super::exchange), calls are in [`call`](super::call).

use std::collections::BTreeMap;

use super::action::{Action, Input, MonitorId, SubscriberId, TimerId};
use super::message;
use super::monitors::{Monitors, Purpose};
use super::peers::{Answer, Peers};
use super::publisher::{DataPublisher, Effects, PeerMessage, Version, Wire};
use super::subscribers::Subscribers;
use super::timers::{Greeting, Timers};
use super::view::{SharedView, ViewGuard};
use crate::term::{Atom, NodeName, Pid, Pieces, Term};

/// Runs a publisher: takes what happens, says what to do.
///
/// [`handle`](Self::handle) never panics and never fails, whatever comes in and in whatever order.
/// What it refuses it counts.
pub struct Engine<P: DataPublisher> {
    pub(super) scope: Atom,
    pub(super) me: Pid,
    pub(super) options: EngineOptions,
    pub(super) publisher: P,
    pub(super) version: Version,
    pub(super) local_data: P::LocalData,
    pub(super) view: SharedView<P::GlobalView>,
    pub(super) peers: Peers<P::LocalData>,
    /// Nodes we're connected to, and the greeting that is due there.
    pub(super) nodes: BTreeMap<NodeName, Option<Greeting>>,
    pub(super) subscribers: Subscribers<P::Subscription>,
    pub(super) monitors: Monitors,
    pub(super) timers: Timers,
    pub(super) counters: Counters,
    pub(super) exchanged: Exchanged,
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

/// What an engine has taken and given so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Exchanged {
    /// Updates of peers that were applied to their data.
    pub updates_in: u64,
    /// Changes of our own local data, each published to all peers.
    pub updates_out: u64,
    /// Local data of peers, whole.
    pub snapshots_in: u64,
    /// Our own, whole, to one peer each.
    pub snapshots_out: u64,
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
            exchanged: Exchanged::default(),
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

    /// A message that may be a term, but one beyond what is received, such as one nested too deep. What
    /// the peer that sent it says later can't be understood without it. `false` if it's none of a peer.
    pub fn handle_unreadable(
        &mut self,
        from: &NodeName,
        pieces: &mut impl Pieces,
        actions: &mut Vec<Action<P>>,
    ) -> bool {
        let Some((peer, label)) = message::take_sender(pieces) else { return false };
        self.peer_message(from, PeerMessage::Unreadable { peer, label }, actions);
        true
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

    /// The version we announce.
    pub fn version(&self) -> &Version {
        &self.version
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

    /// Whether something is still to happen when the timer fires.
    pub fn is_running(&self, timer: TimerId) -> bool {
        self.timers.is_running(timer)
    }

    /// How many subscribers there are, in this process and elsewhere.
    pub fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether a subscriber of this process is still subscribed.
    pub fn is_subscribed(&self, subscriber: SubscriberId) -> bool {
        self.subscribers.contains(subscriber)
    }

    /// What was taken and given so far.
    pub fn exchanged(&self) -> Exchanged {
        self.exchanged
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

/// What ends.
impl<P: DataPublisher> Engine<P> {
    pub(super) fn down(
        &mut self,
        monitor: MonitorId,
        pid: &Pid,
        reason: Term,
        actions: &mut Vec<Action<P>>,
    ) {
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
    pub(super) fn dismiss(&mut self, pid: &Pid, reason: Term, actions: &mut Vec<Action<P>>) {
        if let Some(monitor) = self.peers.get(pid).map(|peer| peer.monitor) {
            self.monitors.stop(monitor, |purpose| purpose == Purpose::Peer);
            actions.push(Action::Demonitor { id: monitor });
        }
        self.forget(pid, reason, actions);
    }

    /// The peer isn't known any more; its monitor has ended already.
    pub(super) fn forget(&mut self, pid: &Pid, reason: Term, actions: &mut Vec<Action<P>>) {
        let Some(peer) = self.peers.remove(pid) else { return };
        self.timers.stop(peer.retry);
        if let Some(Answer::Due(timer)) = peer.answer {
            self.timers.stop(Some(timer));
        }
        self.reshow(pid, &peer.data, actions);
        if peer.announced {
            actions.push(Action::PeerDown { peer: pid.clone(), reason });
        }
    }
}

/// Local data, the view and what subscribers hear of it.
impl<P: DataPublisher> Engine<P> {
    /// Whether it changed anything.
    pub(super) fn update(&mut self, update: P::Update, actions: &mut Vec<Action<P>>) -> bool {
        let Some(update) = self.publisher.update_local_data(update, &mut self.local_data) else {
            return false;
        };
        self.exchanged.updates_out += 1;
        let node = self.me.node.clone();
        self.show(&node, &update, actions);
        self.publish(&update, actions);
        true
    }

    /// To all who got our local data: to the others it's still to come, with the update in it. (A
    /// `pg` of OTP 27 that hears of a leave before it has our data crashes.)
    pub(super) fn publish(&mut self, update: &P::Update, actions: &mut Vec<Action<P>>) {
        for (format, peers) in self.peers.audience(&self.version) {
            let mut publish =
                |message| actions.push(Action::Publish { peers: peers.clone(), message });
            match self.publisher.translate_update(&self.me, format, update) {
                Wire::Term(update) => publish(message::update(&self.me, update)),
                Wire::Plain(messages) => messages.into_iter().for_each(publish),
            }
        }
    }

    pub(super) fn show(
        &mut self,
        origin: &NodeName,
        update: &P::Update,
        actions: &mut Vec<Action<P>>,
    ) {
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
    pub(super) fn reshow(&mut self, pid: &Pid, old: &P::LocalData, actions: &mut Vec<Action<P>>) {
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

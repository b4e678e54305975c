//! The exchange with peers: who is greeted when, and what each of their messages means.

use std::time::Duration;

use super::action::{Action, TimerId};
use super::engine::Engine;
use super::message::{self, Envelope};
use super::monitors::Purpose;
use super::peers::Answer;
use super::publisher::{DataPublisher, Effects, PeerMessage, Translated, Version, Wire};
use super::timers::{Due, Greeting};
use crate::atom;
use crate::term::{Destination, NodeName, Pid, Term};

/// How long a peer whose data couldn't be read is left alone before it's asked again.
const RETRY: Duration = Duration::from_secs(30);
/// How long a peer that sent its data without a `discover` has for it. On one connection the two
/// come one behind the other; a peer that takes us for known sends none.
const ANSWER: Duration = Duration::from_secs(1);
/// The longest pause between two greetings of a node that doesn't answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Nodes and greetings.
impl<P: DataPublisher> Engine<P> {
    pub(super) fn node_up(&mut self, node: &NodeName, actions: &mut Vec<Action<P>>) {
        if self.options.standalone || *node == self.me.node {
            return;
        }
        self.greet_node(node, 0, actions);
    }

    /// Says hello to the name, and again later unless a peer shows up.
    ///
    /// A visible node is greeted by every scope that starts on its peers, a hidden one by none: so
    /// it has to ask again and again, at its start and whenever a scope there has ended.
    pub(super) fn greet_node(
        &mut self,
        node: &NodeName,
        attempt: u32,
        actions: &mut Vec<Action<P>>,
    ) {
        let to = Destination::Name(self.scope.clone(), node.clone());
        actions.push(Action::Send { to, message: self.publisher.hello(&self.me, None) });
        self.greet_node_later(node, attempt, actions);
    }

    pub(super) fn greet_node_later(
        &mut self,
        node: &NodeName,
        attempt: u32,
        actions: &mut Vec<Action<P>>,
    ) {
        let pause = Duration::from_secs(1 << attempt.min(6)).min(LONGEST_PAUSE);
        let timer = self.timers.start(pause, Due::Greet(node.clone()), actions);
        let before = self.nodes.insert(node.clone(), Some(Greeting { attempt, timer }));
        self.timers.stop(before.flatten().map(|greeting| greeting.timer));
    }

    pub(super) fn node_down(&mut self, node: &NodeName, actions: &mut Vec<Action<P>>) {
        let greeting = self.nodes.remove(node).flatten();
        self.timers.stop(greeting.map(|greeting| greeting.timer));
        // Their `Down`s came before, so there are none; but none may outlive its connection.
        let left: Vec<Pid> = self.peers.of_node(node).map(|(pid, _)| pid.clone()).collect();
        for pid in left {
            self.dismiss(&pid, atom!("noconnection").into(), actions);
        }
        // The monitor of who called as the connection closed may be over the next one, but whoever
        // called has heard that the call is lost, and subscribes again.
        for number in self.subscribers.numbers_of_node(node) {
            self.unsubscribe_number(number, actions);
        }
    }

    pub(super) fn timer(&mut self, timer: TimerId, actions: &mut Vec<Action<P>>) {
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
                let Some(peer) = self.peers.get_mut(&pid) else { return };
                if peer.retry.take_if(|running| *running == timer).is_none() {
                    return;
                }
                if !peer.synced {
                    self.ask_again(&pid, actions);
                } else if peer.answer.take_if(|answer| *answer == Answer::Overdue).is_some() {
                    let label = peer.label.clone();
                    self.tell(&pid, &label, actions);
                }
            }
            Some(Due::Answer(pid)) => {
                if let Some(peer) = self.peers.get_mut(&pid)
                    && peer.answer.take_if(|answer| *answer == Answer::Due(timer)).is_some()
                {
                    self.discover_overdue(&pid, actions);
                }
            }
            None => {}
        }
    }
}

/// Messages.
impl<P: DataPublisher> Engine<P> {
    pub(super) fn message(
        &mut self,
        from: &NodeName,
        message: &Term,
        actions: &mut Vec<Action<P>>,
    ) {
        match message::open(message) {
            Envelope::Call { from: caller, request } => self.call(from, caller, request, actions),
            Envelope::Message(message) => match message::read(message, &self.publisher) {
                Some(message) => self.peer_message(from, message, actions),
                None => self.unknown_message(from, message, actions),
            },
        }
    }

    pub(super) fn unknown_message(
        &mut self,
        from: &NodeName,
        message: &Term,
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
        let read = |view: &mut _| publisher.translate_message(message, view, &mut effects);
        match self.view.change(read) {
            Translated::Drop => self.counters.unknown += 1,
            Translated::Update(update) => {
                self.update(update, actions);
            }
            Translated::Peer(message) => self.peer_message(from, message, actions),
        }
    }

    pub(super) fn peer_message(
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
    pub(super) fn discover(&mut self, peer: &Pid, version: Version, actions: &mut Vec<Action<P>>) {
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
    pub(super) fn local_data_of(
        &mut self,
        peer: &Pid,
        label: Version,
        data: P::LocalData,
        actions: &mut Vec<Action<P>>,
    ) {
        self.ensure_known(peer, label, actions);
        let Some(known) = self.peers.get_mut(peer) else { return };
        self.exchanged.snapshots_in += 1;
        let old = std::mem::replace(&mut known.data, data);
        known.synced = true;
        self.reshow(peer, &old, actions);
        self.announce(peer, actions);
    }

    /// `{update, Peer, Update}`.
    pub(super) fn update_of(
        &mut self,
        peer: &Pid,
        update: P::Update,
        actions: &mut Vec<Action<P>>,
    ) {
        let Some((data, is_synced)) = self.peers.data_mut(peer) else {
            // Its connection was lost, ours to it is new: its local data will hold the update.
            self.counters.strangers += 1;
            return;
        };
        if !is_synced {
            self.counters.early += 1;
            return;
        }
        self.exchanged.updates_in += 1;
        if let Some(update) = self.publisher.update_local_data(update, data)
            && self.peers.shown(&peer.node) == Some(peer)
        {
            self.show(&peer.node, &update, actions);
        }
    }

    /// What can't be read can't be skipped either: what follows builds on it. So all of the peer's
    /// data goes and it's asked for all of it. It stays known, for it still gets our updates.
    pub(super) fn unreadable(
        &mut self,
        peer: &Pid,
        label: Option<Version>,
        actions: &mut Vec<Action<P>>,
    ) {
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

    pub(super) fn ask_again(&mut self, peer: &Pid, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        let message = self.publisher.hello(&self.me, known.version.as_ref());
        actions.push(Action::Send { to: Destination::from(peer), message });
        known.retry = Some(self.timers.start(RETRY, Due::Retry(peer.clone()), actions));
    }

    /// A peer whose data came before its `discover` is known from here on, too.
    pub(super) fn ensure_known(
        &mut self,
        peer: &Pid,
        label: Version,
        actions: &mut Vec<Action<P>>,
    ) {
        if self.peers.contains(peer) {
            return;
        }
        self.add_peer(peer.clone(), label, actions);
        if !self.options.standalone
            && let Some(known) = self.peers.get_mut(peer)
        {
            let timer = self.timers.start(ANSWER, Due::Answer(peer.clone()), actions);
            known.answer = Some(Answer::Due(timer));
        }
    }

    /// A peer has sent its data, and then no `discover` for a while.
    ///
    /// A label below our version is the version of the peer. But OTP 29 labels with ours whatever its
    /// own is, so what the label says isn't to be written to it: its `discover` may still be on its way,
    /// and even behind the answer to our next question, if this data was the answer to one from before
    /// the connection. The peer is asked again; when after 30 s there's still no `discover`, there'll be
    /// none.
    fn discover_overdue(&mut self, peer: &Pid, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        if known.label < self.version {
            let label = known.label.clone();
            return self.tell(peer, &label, actions);
        }
        known.answer = Some(Answer::Overdue);
        if known.retry.is_none() {
            self.ask_again(peer, actions);
        }
    }

    pub(super) fn add_peer(&mut self, peer: Pid, label: Version, actions: &mut Vec<Action<P>>) {
        if let Some(oldest) = self.peers.crowded_out(&peer.node).cloned() {
            self.counters.crowded_out += 1;
            self.dismiss(&oldest, atom!("noproc").into(), actions);
        }
        let id = self.monitors.start(peer.clone(), Purpose::Peer);
        actions.push(Action::Monitor { id, pid: peer.clone() });
        self.peers.add(peer, id, label, self.publisher.init_local_data());
    }

    pub(super) fn send_local_data(
        &mut self,
        peer: &Pid,
        version: &Version,
        actions: &mut Vec<Action<P>>,
    ) {
        self.exchanged.snapshots_out += 1;
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
    pub(super) fn tell(&mut self, peer: &Pid, format: &Version, actions: &mut Vec<Action<P>>) {
        self.send_local_data(peer, format, actions);
        if let Some(known) = self.peers.get_mut(peer) {
            known.told = true;
        }
        self.announce(peer, actions);
    }

    pub(super) fn announce(&mut self, peer: &Pid, actions: &mut Vec<Action<P>>) {
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

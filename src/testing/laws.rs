//! What has to hold of every publisher, and how it's said when it doesn't.
//!
//! A publisher's own word is taken wherever it has one: whether two local data say the same is what
//! `data_diff` says of them in both directions, and all is shown as the term that would be sent.

use std::fmt::Debug;
use std::rc::Rc;

use super::cluster::{Cluster, Running};
use super::compare::{Picture, difference};
use super::data::{apart, copy, data_text, leads, message_text, update_text};
use crate::atom;
use crate::engine::{Counters, DataPublisher, Engine, EngineOptions, Input, SubscriberId, Wire};
use crate::term::{Pid, Term};
use crate::tuple;

/// How a test sees a view.
type Draw<P> = Rc<dyn Fn(&<P as DataPublisher>::GlobalView) -> Box<dyn Picture>>;

/// What a follower makes of an event.
type Hear<P> = Box<dyn Fn(&mut <P as DataPublisher>::Initial, <P as DataPublisher>::Event)>;

/// What a test wants to be checked.
pub(super) struct Laws<P: DataPublisher> {
    picture: Option<Draw<P>>,
    followed: Vec<Followed<P>>,
}

/// A key that subscribers follow.
struct Followed<P: DataPublisher> {
    key: P::Subscription,
    text: String,
    hear: Hear<P>,
    /// How what was told differs from what would be told.
    differ: fn(&P::Initial, &P::Initial) -> Option<String>,
}

impl<P: DataPublisher> Default for Laws<P> {
    fn default() -> Self {
        Self { picture: None, followed: Vec::new() }
    }
}

impl<P: DataPublisher> Laws<P> {
    pub(super) fn compare<T: Debug + PartialEq + 'static>(
        &mut self,
        picture: impl Fn(&P::GlobalView) -> T + 'static,
    ) {
        self.picture = Some(Rc::new(move |view| Box::new(picture(view))));
    }

    pub(super) fn follow(
        &mut self,
        key: P::Subscription,
        hear: impl Fn(&mut P::Initial, P::Event) + 'static,
    ) where
        P::Initial: Debug + PartialEq,
        P::Subscription: Debug,
    {
        let text = format!("{key:?}");
        let differ = |told: &P::Initial, now: &P::Initial| {
            (told != now).then(|| difference(["who followed", "who is new"], [told, now]))
        };
        self.followed.push(Followed { key, text, hear: Box::new(hear), differ });
    }

    pub(super) fn followed(&self) -> usize {
        self.followed.len()
    }

    pub(super) fn key(&self, place: usize) -> P::Subscription {
        self.followed[place].key.clone()
    }

    /// A follower hears of an event.
    pub(super) fn hear(&self, running: &mut Running<P>, to: SubscriberId, event: P::Event) {
        let place = running.followers.keys().position(|known| *known == to);
        if let Some(followed) = place.and_then(|place| self.followed.get(place))
            && let Some(Some(told)) = running.followers.get_mut(&to)
        {
            (followed.hear)(told, event);
        }
    }
}

/// At every moment.
impl<P: DataPublisher> Cluster<P> {
    pub(super) fn check_all(&self) {
        for i in 0..self.nodes.len() {
            self.check_step(i);
        }
    }

    /// Of the scope that has just moved.
    pub(super) fn check_step(&self, i: usize) {
        let Some(running) = &self.nodes[i].scope else { return };
        running.engine.check();
        self.check_view(i, &running.engine);
        self.check_followers(i, running);
    }

    /// The view is what is made of our own data and of each peer's, whatever way it came there.
    fn check_view(&self, i: usize, engine: &Engine<P>) {
        let Some(picture) = &self.laws.picture else { return };
        let options = EngineOptions::default();
        let mut fresh =
            Engine::new(engine.scope().clone(), engine.me().clone(), self.make(i), options);
        let mut said = Vec::new();
        fresh.restore(engine.local_data(), &mut said);
        let (publisher, version) = (engine.publisher(), engine.version());
        for (peer, data) in engine.shown() {
            let messages = match publisher.translate_local_data(peer, version, data) {
                Wire::Term(data) => vec![tuple![atom!("local_data"), peer, &version.0, data]],
                Wire::Plain(messages) => messages,
            };
            for message in messages {
                let message = tuple![atom!("$gen_cast"), message];
                fresh.handle(Input::Message { from: peer.node.clone(), message }, &mut said);
            }
        }
        let (shown, made) = (picture(&engine.view()), picture(&fresh.view()));
        fresh.stop();
        if !shown.equals(&*made) {
            let label = &self.nodes[i].label;
            panic!(
                "the view of {label} isn't what is made of its own data and of that of its peers, \
                 when made anew:{}",
                difference(["the view", "made anew"], [&*shown, &*made])
            );
        }
    }

    fn check_followers(&self, i: usize, running: &Running<P>) {
        for (followed, told) in self.laws.followed.iter().zip(running.followers.values()) {
            let Some(told) = told else { continue };
            let engine = &running.engine;
            let now = engine.publisher().new_subscription(&followed.key, &engine.view());
            if let Some(difference) = (followed.differ)(told, &now) {
                panic!(
                    "at {}, who followed {} from the start knows something else than who subscribes \
                     now:{difference}",
                    self.nodes[i].label, followed.text
                );
            }
        }
    }

    /// What a scope says, every other one understands.
    pub(super) fn check_understood(
        &self,
        i: usize,
        from: &Pid,
        message: &Term,
        before: Counters,
        after: Counters,
    ) {
        let Some(running) = &self.nodes[i].scope else { return };
        if after.unreadable == before.unreadable && after.unknown == before.unknown {
            return;
        }
        let body = match message.tagged("$gen_cast") {
            Some([body]) => body,
            _ => message,
        };
        let publisher = running.engine.publisher();
        let error = if let Some([_, update]) = body.tagged("update") {
            publisher.read_update(update).err()
        } else if let Some([_, _, data]) = body.tagged("local_data") {
            publisher.read_local_data(data).err()
        } else {
            None
        };
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        let sender = self.nodes.iter().position(|node| node.name == from.node);
        panic!(
            "{} can't read what {} sent it, {}{error}",
            self.with_version(i),
            sender.map(|j| self.with_version(j)).unwrap_or_default(),
            message_text(message)
        );
    }

    /// `b (version 2)`.
    pub(super) fn with_version(&self, i: usize) -> String {
        let node = &self.nodes[i];
        match &node.scope {
            Some(running) => format!("{} (version {})", node.label, running.engine.version().0),
            None => node.label.clone(),
        }
    }
}

/// Of local data.
impl<P: DataPublisher> Cluster<P> {
    /// A node's data, read from what it would send to one of its own version. Nothing if that isn't one
    /// term, as that of a publisher with an older dialect needn't be.
    pub(super) fn copy_at(&self, i: usize) -> Option<P::LocalData> {
        let engine = &self.nodes[i].scope.as_ref()?.engine;
        copy(engine, engine).map(|read| {
            read.unwrap_or_else(|error| {
                let (label, data) = (&self.nodes[i].label, data_text(engine, engine.local_data()));
                panic!("{label} can't read its own local data, {data}: {error}")
            })
        })
    }

    /// After an update that was applied to `before`.
    pub(super) fn check_data(&self, i: usize, before: Option<P::LocalData>, changed: bool) {
        let Some(running) = &self.nodes[i].scope else { return };
        let (label, engine) = (&self.nodes[i].label, &running.engine);
        let (publisher, data) = (engine.publisher(), engine.local_data());
        let shown = || data_text(engine, data);
        if let Some(update) = publisher.data_diff(data, data) {
            let update = update_text(engine, &update);
            panic!(
                "{label}: data_diff finds a difference between {} and itself: {update}",
                shown()
            );
        }
        let Some(copy) = self.copy_at(i) else { return };
        if let Some(apart) = apart(engine, data, &copy) {
            panic!(
                "{label} reads its own local data, {}, otherwise than it wrote it; {apart}",
                shown()
            );
        }
        if let Some(before) = before {
            let said = (!changed).then(|| apart(engine, &before, data)).flatten();
            if let Some(apart) = said {
                panic!("{label}: an update that said to change nothing did; {apart}");
            }
            self.check_leads(i, before, data);
        }
        self.check_leads(i, publisher.init_local_data(), data);
        self.check_leads(i, copy, &publisher.init_local_data());
    }

    /// There is no difference between data and itself.
    fn check_itself(&self, i: usize, data: &P::LocalData) {
        let Some(running) = &self.nodes[i].scope else { return };
        let engine = &running.engine;
        if let Some(update) = engine.publisher().data_diff(data, data) {
            panic!(
                "{}: data_diff finds a difference between {} and itself: {}",
                self.nodes[i].label,
                data_text(engine, data),
                update_text(engine, &update)
            );
        }
    }

    /// What `data_diff` gives leads from one to the other.
    fn check_leads(&self, i: usize, from: P::LocalData, to: &P::LocalData) {
        let Some(running) = &self.nodes[i].scope else { return };
        if let Some(text) = leads(&running.engine, from, to) {
            panic!("{}: {text}", self.nodes[i].label);
        }
    }

    /// After a scope has taken over what its predecessor left.
    pub(super) fn check_same(&self, i: usize, left: &P::LocalData) {
        let Some(running) = &self.nodes[i].scope else { return };
        let engine = &running.engine;
        if let Some(apart) = apart(engine, engine.local_data(), left) {
            panic!(
                "{} has {} after a restart of its scope, and not what it had before; {apart}",
                self.nodes[i].label,
                data_text(engine, engine.local_data())
            );
        }
    }
}

/// When nothing is on its way.
impl<P: DataPublisher> Cluster<P> {
    /// Between two nodes: each knows of the other what it owns.
    pub(super) fn check_pair(&self, i: usize, j: usize) {
        if self.network.is_up(i, j) && self.network.is_quiet(i, j) {
            self.check_known(i, j);
            self.check_known(j, i);
        }
    }

    /// What `i` knows of `j` is what `j` owns, as `i` reads it.
    fn check_known(&self, i: usize, j: usize) {
        let (Some(reader), Some(owner)) = (&self.nodes[i].scope, &self.nodes[j].scope) else {
            return;
        };
        let (reader, owner) = (&reader.engine, &owner.engine);
        let Some(known) = reader.peer_data(owner.me()) else { return };
        let Some(Ok(data)) = copy(reader, owner) else { return };
        self.check_itself(i, known);
        if let Some(apart) = apart(reader, known, &data) {
            panic!(
                "{} knows {} of {}, whose local data it would read as {}; {apart}",
                self.with_version(i),
                data_text(reader, known),
                self.with_version(j),
                data_text(reader, &data),
            );
        }
    }

    /// Between all nodes: who is connected to the same ones sees the same.
    pub(super) fn check_agreement(&self) {
        let around: Vec<Vec<usize>> = (0..self.nodes.len()).map(|i| self.around(i)).collect();
        for (i, all) in around.iter().enumerate() {
            for j in all.iter().copied().filter(|j| *j != i) {
                self.check_synced(i, j);
                if i < j && around[j] == *all {
                    self.check_equal(i, j);
                }
            }
        }
    }

    /// The node and those it's connected to, as far as their scopes run.
    fn around(&self, i: usize) -> Vec<usize> {
        let runs = |j: &usize| self.nodes[*j].scope.is_some();
        let all = (0..self.nodes.len()).filter(|j| *j == i || self.network.is_up(i, *j));
        if runs(&i) { all.filter(runs).collect() } else { Vec::new() }
    }

    fn check_synced(&self, i: usize, j: usize) {
        let (Some(one), Some(other)) = (&self.nodes[i].scope, &self.nodes[j].scope) else { return };
        assert!(
            one.engine.peer_data(other.engine.me()).is_some(),
            "{} is connected to {}, nothing is on its way, and it has no data of it",
            self.with_version(i),
            self.with_version(j)
        );
    }

    fn check_equal(&self, i: usize, j: usize) {
        let (Some(picture), Some(one), Some(other)) =
            (&self.laws.picture, &self.nodes[i].scope, &self.nodes[j].scope)
        else {
            return;
        };
        let [left, right] = [one, other].map(|running| picture(&running.engine.view()));
        if !left.equals(&*right) {
            let names = [i, j].map(|k| self.with_version(k));
            panic!(
                "nothing is on its way, and the views of {} and {} differ:{}",
                names[0],
                names[1],
                difference([&*self.nodes[i].label, &*self.nodes[j].label], [&*left, &*right])
            );
        }
    }
}

//! What happens to a cluster: connections come and go, messages arrive, time passes, scopes and nodes start
//! and end.

#![expect(clippy::missing_panics_doc, reason = "said once, at `Cluster`")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cluster::{Cluster, Node, Running, scope};
use crate::atom;
use crate::engine::{DataPublisher, Engine, EngineOptions, Input, TimerId};

/// Messages after which a cluster that doesn't come to rest is given up.
const RESTLESS: usize = 100_000;

/// What happens between nodes.
impl<P: DataPublisher> Cluster<P> {
    /// Two nodes connect, and greet each other.
    ///
    /// # Panics
    ///
    /// When one of them doesn't run, see [`kill`](Self::kill).
    pub fn connect(&mut self, a: &str, b: &str) {
        let (i, j) = (self.index(a), self.index(b));
        for node in [i, j] {
            assert!(self.nodes[node].runs, "{} doesn't run", self.nodes[node].label);
        }
        if i == j || self.network.is_up(i, j) {
            return;
        }
        self.network.connect(i, j);
        self.feed(i, Input::NodeUp(self.nodes[j].name.clone()));
        self.feed(j, Input::NodeUp(self.nodes[i].name.clone()));
    }

    /// All nodes that run connect to each other.
    pub fn connect_all(&mut self) {
        let labels = self.running();
        for (place, a) in labels.iter().enumerate() {
            for b in &labels[place + 1..] {
                self.connect(a, b);
            }
        }
    }

    /// Two nodes lose their connection, and with it all that is on its way between them.
    pub fn cut(&mut self, a: &str, b: &str) {
        let (i, j) = (self.index(a), self.index(b));
        if self.network.is_up(i, j) {
            let lost = self.network.cut(i, j);
            for (here, there) in [(i, j), (j, i)] {
                for watch in lost.iter().filter(|watch| watch.at == here) {
                    let (monitor, pid) = (watch.monitor, watch.pid.clone());
                    let reason = atom!("noconnection").into();
                    self.feed(here, Input::Down { monitor, pid, reason });
                }
                self.feed(here, Input::NodeDown(self.nodes[there].name.clone()));
            }
        }
    }

    /// A node asks another for all its data again, as happens when two greet each other at once.
    pub fn resync(&mut self, node: &str, peer: &str) {
        let (i, j) = (self.index(node), self.index(peer));
        let [Some(mine), Some(theirs)] = [i, j].map(|k| self.nodes[k].scope.as_ref()) else {
            return;
        };
        let (me, to) = (mine.engine.me().clone(), theirs.engine.me().clone());
        let known = mine.engine.peers().find(|known| known.pid == to);
        if let Some(known) = known {
            let hello = mine.engine.publisher().hello(&me, known.version.as_ref());
            self.post(i, &me, &[to.into()], &hello);
        }
    }

    /// The next message from a node to another arrives; `false` if there was none.
    pub fn deliver(&mut self, from: &str, to: &str) -> bool {
        self.deliver_at(self.index(from), self.index(to))
    }

    /// All that is on its way arrives, and what is said to that. No time passes.
    pub fn settle(&mut self) {
        for _ in 0..RESTLESS {
            match self.network.busy() {
                Some((from, to)) => {
                    self.deliver_at(from, to);
                }
                None => return self.check_agreement(),
            }
        }
        panic!("no rest within {RESTLESS} messages");
    }

    /// Time passes. Each timer fires when it's due, and between two of them the cluster
    /// [settles](Self::settle).
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some((due, timer, i)) = self.next_timer().filter(|(due, ..)| *due <= end) {
            self.now = due;
            if let Some(running) = &mut self.nodes[i].scope {
                running.timers.remove(&(due, timer));
            }
            self.feed(i, Input::Timer(timer));
            self.settle();
        }
        self.now = end;
    }

    fn next_timer(&self) -> Option<(Duration, TimerId, usize)> {
        let first = |(i, node): (usize, &Node<P>)| {
            let (due, timer) = node.scope.as_ref()?.timers.first()?;
            Some((*due, *timer, i))
        };
        self.nodes
            .iter()
            .enumerate()
            .filter_map(first)
            .min_by_key(|(due, timer, i)| (*due, *i, *timer))
    }

    fn running(&self) -> Vec<String> {
        self.nodes.iter().filter(|node| node.runs).map(|node| node.label.clone()).collect()
    }
}

/// What starts and ends.
impl<P: DataPublisher> Cluster<P> {
    /// The scope of the node ends; its peers forget its data, and the next scope there takes it over.
    pub fn stop(&mut self, node: &str) {
        let i = self.index(node);
        if let Some(running) = self.nodes[i].scope.take() {
            self.network.process_ended(running.engine.me(), &atom!("normal"));
            self.nodes[i].left = Some(running.engine.stop());
        }
    }

    /// The scope of the node starts, and the node itself if it doesn't run: then it has no connection.
    pub fn start(&mut self, node: &str) {
        let i = self.index(node);
        if self.nodes[i].scope.is_none() {
            self.start_at(i);
        }
    }

    /// [`stop`](Self::stop), then [`start`](Self::start). Connections stay.
    pub fn restart(&mut self, node: &str) {
        self.stop(node);
        self.start(node);
    }

    /// The node is gone at once, with its connections, processes and data.
    pub fn kill(&mut self, node: &str) {
        let i = self.index(node);
        if !self.nodes[i].runs {
            return;
        }
        self.network.node_ended(i);
        let gone = &mut self.nodes[i];
        (gone.scope, gone.left, gone.runs) = (None, None, false);
        gone.processes.clear();
        for other in self.running() {
            self.cut(&other, node);
        }
    }

    /// The node is killed, and comes back with the next [`release`](Self::release) of the publisher and
    /// the connections it had.
    ///
    /// # Panics
    ///
    /// When it runs the newest one already.
    pub fn upgrade(&mut self, node: &str) {
        let i = self.index(node);
        assert!(self.can_upgrade(i), "{node} runs the newest release");
        let labels = self.nodes.iter().enumerate().filter(|(j, _)| self.network.is_up(i, *j));
        let peers: Vec<String> = labels.map(|(_, node)| node.label.clone()).collect();
        self.kill(node);
        self.nodes[i].release += 1;
        self.start(node);
        for peer in peers {
            self.connect(node, &peer);
        }
    }

    pub(super) fn can_upgrade(&self, i: usize) -> bool {
        self.nodes[i].release + 1 < self.releases.len()
    }

    pub(super) fn start_at(&mut self, i: usize) {
        let publisher = self.make(i);
        let node = &mut self.nodes[i];
        if !node.runs {
            (node.runs, node.creation, node.pids) = (true, node.creation + 1, 0);
        }
        let engine = Engine::new(scope(), node.new_pid(), publisher, EngineOptions::default());
        let left = node.left.take();
        node.scope = Some(Running {
            engine,
            timers: BTreeSet::new(),
            heard: BTreeMap::new(),
            followers: BTreeMap::new(),
        });
        if let Some(left) = left {
            self.restore(i, &left);
        }
        self.add_followers(i);
        for j in 0..self.nodes.len() {
            if self.network.is_up(i, j) {
                self.feed(i, Input::NodeUp(self.nodes[j].name.clone()));
            }
        }
    }

    pub(super) fn add_followers(&mut self, i: usize) {
        for place in 0..self.laws.followed() {
            let Some(running) = &mut self.nodes[i].scope else { return };
            if running.followers.len() > place {
                continue;
            }
            let (key, subscriber) = (self.laws.key(place), self.new_subscriber());
            if let Some(running) = &mut self.nodes[i].scope {
                running.followers.insert(subscriber, None);
            }
            self.feed(i, Input::Subscribe { key, subscriber });
        }
    }
}

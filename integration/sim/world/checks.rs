//! What must hold after each step, and when all is quiet.

use std::collections::VecDeque;

use data_publisher::engine::Input;
use data_publisher::term::{NodeName, Pid};
use rustc_hash::FxHashMap;

use super::network::Connection;
use super::{Item, Narrow, Node, Past, Rust, Scope, State, World};
use crate::subject::{Beam, Data, Role, Runs, Subject};

impl<S: Subject> World<S> {
    /// The laws that hold at every moment, for the node that has just moved.
    ///
    /// That views are equal is seen by their marks, as each step has one; by the views themselves at rest
    /// and when somebody looks on, as in the 20,000 schedules of each kind that are run to be the same.
    pub(super) fn check_step(&mut self, i: usize) {
        self.check_monitors(i);
        let is_looked_at = self.log.is_some() || self.hash.is_some();
        let node = &mut self.nodes[i];
        let Some(Scope::Rust(rust)) = &mut node.scope else { return };
        let name = &node.processes.node;
        let sum = Self::check_states(&self.scopes, name, &node.role, rust);
        if !rust.asked.is_empty() {
            let known: Vec<Pid> = rust.engine.peers().map(|peer| peer.pid).collect();
            rust.asked.retain(|pid, _| known.contains(pid));
        }
        let is_in_step = Self::is_in_step(name, sum, rust);
        if is_looked_at || !is_in_step {
            Self::check_view(name, rust);
        }
        assert!(is_in_step, "the marks of {name} differ, but not what they stand for");
    }

    /// Each monitor of the engine runs, or its end waits in the inbox; and no other.
    fn check_monitors(&self, i: usize) {
        let node = &self.nodes[i];
        let Some(Scope::Rust(rust)) = &node.scope else { return };
        let (engine, name) = (&rust.engine, node.name());
        let waiting = |reference: u64| {
            node.inbox.iter().any(
                |item| matches!(item, Item::Down { reference: known, .. } if *known == reference),
            )
        };
        let mut monitors = 0;
        for (id, pid) in engine.monitors() {
            monitors += 1;
            assert!(
                node.watching.contains_key(&id.0) || waiting(id.0),
                "{name} believes it watches {pid}"
            );
        }
        assert!(node.watching.len() <= monitors, "{name} watches for nothing");
        // A peer without a connection has its `Down` still to come.
        if node.inbox.is_empty() {
            for peer in engine.peers() {
                let there = self.node_of(&peer.pid.node).expect("a node of ours");
                assert!(node.ends.contains_key(&there), "{name} keeps {} alive", peer.pid);
            }
        }
    }

    /// Nothing that a right peer sends is unreadable, and all is that was planted so.
    pub(super) fn check_unreadable(&self, i: usize) {
        let node = &self.nodes[i];
        let Some(Scope::Rust(rust)) = &node.scope else { return };
        let unreadable = rust.engine.counters().unreadable;
        assert_eq!(unreadable, rust.garbage, "{} couldn't read what it was sent", node.name());
    }

    /// Each peer's data is a state that peer once was in, and never an older one than before. Gives the
    /// marks of what the view has to be made of.
    fn check_states(
        scopes: &FxHashMap<Pid, Past<S>>,
        name: &NodeName,
        role: &Role<S>,
        rust: &mut Rust<S>,
    ) -> [u64; 2] {
        let Rust { engine, seen, .. } = rust;
        let mut check = |peer: &Pid, data: &Data<S>, state: u64| {
            let Some(past) = scopes.get(peer) else { panic!("{name} knows {peer}, who never was") };
            let (Runs::Rust(mine), Runs::Rust(theirs)) = (role, &past.role) else { return };
            let translated = usize::from(S::is_translated(theirs, mine));
            let from = seen.get(peer).copied().unwrap_or(0);
            let found = past.states.iter().skip(from).position(|past| past[translated] == state);
            let Some(further) = found else {
                panic!("{name} shows a state of {peer} that never was, or an older one: {data:?}");
            };
            if further > 0 {
                seen.insert(peer.clone(), from + further);
            }
        };
        let times = |node, marks: [u64; 2]| marks.map(|mark| mark.wrapping_mul(S::factor(node)));
        let mut sum = times(name, S::marks(engine.local_data()));
        for (pid, data) in engine.shown() {
            let marks = S::marks(data);
            check(pid, data, marks[0]);
            let theirs = times(&pid.node, marks);
            sum = [sum[0].wrapping_add(theirs[0]), sum[1].wrapping_add(theirs[1])];
        }
        let is_shown = |peer: &Pid| engine.shown().any(|(pid, _)| pid == peer);
        for peer in engine.peers().filter(|peer| peer.synced && !is_shown(&peer.pid)) {
            if let Some(data) = engine.peer_data(&peer.pid) {
                check(&peer.pid, data, S::marks(data)[0]);
            }
        }
        sum
    }

    /// By its marks, the view is what `sum` is made of, and what the subscribers were told.
    fn is_in_step(name: &NodeName, sum: [u64; 2], rust: &mut Rust<S>) -> bool {
        if std::mem::take(&mut rust.heard) {
            rust.told_mark = S::told_mark(&rust.told);
            if let Some(narrow) = &rust.narrow {
                Self::check_narrow(name, &rust.told, narrow);
            }
        }
        sum == S::view_marks(&rust.engine) && rust.told_mark == sum[1]
    }

    fn check_narrow(name: &NodeName, told: &S::Told, narrow: &Narrow<S>) {
        let (key, part) = (&narrow.key, S::part(told, &narrow.key));
        assert_eq!(narrow.told, part, "who subscribed to {key:?} of {name} was told otherwise");
    }

    /// The view is what we own and what the peers own, and what the subscribers were told.
    fn check_view(name: &NodeName, rust: &Rust<S>) {
        let own = (name, rust.engine.local_data());
        let others = rust.engine.shown().map(|(pid, data)| (&pid.node, data));
        let sum = S::sum(std::iter::once(own).chain(others));
        let view = S::picture(&rust.engine);
        assert_eq!(view, sum, "the view of {name} isn't the sum of what it knows");
        let told = &rust.told;
        assert!(S::is_told(&view, told), "a subscriber of {name} was told {told:?}, not {view:?}");
        if let Some(narrow) = &rust.narrow {
            Self::check_narrow(name, told, narrow);
        }
    }

    /// Faults end, everything starts, all connect; then all must agree, and soon.
    pub(super) fn heal(&mut self) {
        self.note(|_| "healing".into());
        self.heals = true;
        let count = self.nodes.len();
        for i in 0..count {
            if self.nodes[i].state == State::Suspended {
                self.nodes[i].state = State::Runs;
            }
            self.start_node(i);
            self.start_scope(i);
        }
        self.connect_all();
        let mut steps = 0;
        for round in 0.. {
            assert!(round < 12, "timers without end");
            self.drain(&mut steps);
            let before: Vec<usize> = (0..count).filter(|i| self.has_timers(*i)).collect();
            if before.is_empty() {
                break;
            }
            for i in before {
                let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { continue };
                for (due, timer) in std::mem::take(&mut rust.timers) {
                    self.now = self.now.max(due);
                    self.feed(i, Input::Timer(timer));
                }
            }
        }
        self.check_rest();
    }

    fn has_timers(&self, i: usize) -> bool {
        matches!(&self.nodes[i].scope, Some(Scope::Rust(rust)) if !rust.timers.is_empty())
    }

    fn drain(&mut self, steps: &mut usize) {
        loop {
            self.settle(steps);
            let all = 0..self.nodes.len();
            let used = self.used_connections;
            let had_all = all.clone().all(|i| self.nodes[i].scope.is_some());
            all.for_each(|i| self.start_scope(i));
            // A peer that was shed is met again.
            self.connect_all();
            if had_all && self.used_connections == used {
                return;
            }
        }
    }

    fn connect_all(&mut self) {
        for i in 0..self.nodes.len() {
            for j in 0..i {
                self.connect(i, j);
            }
        }
    }

    /// All that is on its way arrives and is handled.
    pub(super) fn settle(&mut self, steps: &mut usize) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            let all: Vec<u64> = self.connections.keys().copied().collect();
            for connection in all {
                for side in 0..2 {
                    while self.deliver(connection, side) {
                        moved = true;
                    }
                }
            }
            for i in 0..self.nodes.len() {
                while !self.nodes[i].inbox.is_empty()
                    && self.nodes[i].scope.is_some()
                    && self.nodes[i].state == State::Runs
                {
                    self.step_now(i);
                    moved = true;
                    *steps += 1;
                    assert!(*steps < 10_000, "no rest within 10,000 steps");
                }
            }
        }
    }

    /// Nothing of a connection is left when the next one to its node is up: neither a peer nor a monitor.
    pub(super) fn check_order(&self, i: usize, j: usize) {
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let (name, other) = (self.nodes[i].name(), self.nodes[j].name());
        for (_, pid) in rust.engine.monitors() {
            assert_ne!(pid.node, *other, "{name} has {other} back before the end of {pid}");
        }
    }

    /// Nothing is on its way, nothing waits, and who is watched is watched by those who know.
    fn check_nothing_is_left(&self) {
        for Connection { ends, queues, .. } in self.connections.values() {
            assert!(queues.iter().all(VecDeque::is_empty), "signals between {ends:?}");
        }
        let pairs = self.nodes.len() * (self.nodes.len() - 1) / 2;
        assert_eq!(self.connections.len(), pairs, "connections");
        for node in &self.nodes {
            let name = node.name();
            assert!(node.inbox.is_empty(), "{name} has an inbox");
            for watched in &node.watched_by {
                let watcher = self.node_of(&watched.watcher.node).map(|i| &self.nodes[i].watching);
                let knows = watcher.is_some_and(|all| all.contains_key(&watched.reference));
                assert!(
                    knows,
                    "{} doesn't know that it watches {}",
                    watched.watcher, watched.target
                );
            }
            if let Some(Scope::Rust(rust)) = &node.scope {
                let monitors = rust.engine.monitors().map(|(id, _)| id.0);
                assert!(monitors.eq(node.watching.keys().copied()), "{name} watches others");
            }
        }
    }

    /// All know each other and show what each one owns.
    fn check_rest(&self) {
        self.check_nothing_is_left();
        let owned: Vec<(&NodeName, &Role<S>, Data<S>)> = self.nodes.iter().map(owned).collect();
        let mut scopes: Vec<&Pid> = self.nodes.iter().filter_map(Node::scope_pid).collect();
        scopes.sort();
        for node in &self.nodes {
            let (name, role) = (node.name(), &node.role);
            let others = scopes.iter().copied().filter(|pid| pid.node != *name);
            let read = owned.iter().map(|(owner, theirs, data)| {
                let data =
                    if *owner == name { data.clone() } else { S::as_read(theirs, role, data) };
                (*owner, data)
            });
            let read: Vec<(&NodeName, Data<S>)> = read.collect();
            let mut expected = S::sum(read.iter().map(|(owner, data)| (*owner, data)));
            let mut view = match &node.scope {
                Some(Scope::Rust(rust)) => {
                    let peers: Vec<_> = rust.engine.peers().collect();
                    assert!(peers.iter().all(|peer| peer.synced), "{name} waits for data");
                    let knows_all = peers.iter().map(|peer| &peer.pid).eq(others);
                    assert!(knows_all, "{name} knows {peers:?}");
                    Self::check_view(name, rust);
                    S::picture(&rust.engine)
                }
                Some(Scope::Beam(beam)) => {
                    assert!(beam.peers().eq(others), "{name} doesn't know all");
                    let view = beam.view();
                    S::sum(view.iter().map(|(node, data)| (node, data)))
                }
                None => panic!("{name} has no scope"),
            };
            for (owner, theirs, _) in &owned {
                if S::misleads(theirs, role) {
                    S::without(&mut expected, owner);
                    S::without(&mut view, owner);
                }
            }
            assert_eq!(view, expected, "{name} ({role:?}) sees otherwise");
        }
    }
}

fn owned<S: Subject>(node: &Node<S>) -> (&NodeName, &Role<S>, Data<S>) {
    let data = match &node.scope {
        Some(Scope::Rust(rust)) => {
            let data = rust.engine.local_data();
            assert_eq!(*data, node.wanted, "{} lost what it owns", node.name());
            data.clone()
        }
        Some(Scope::Beam(beam)) => beam.local(),
        None => S::nothing(),
    };
    (node.name(), &node.role, data)
}

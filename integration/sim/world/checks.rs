//! What must hold after each step, and when all is quiet.

use data_publisher::engine::Input;
use data_publisher::term::{NodeName, Pid};

use super::{Item, Node, Rust, Scope, World};
use crate::subject::{Beam, Data, Role, Runs, Subject};

impl<S: Subject> World<S> {
    /// The laws that hold at every moment, for the node that has just moved.
    pub(super) fn check_step(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(Scope::Rust(rust)) = &node.scope else { return };
        let engine = &rust.engine;
        let name = node.name();
        let moved = self.states_seen(node, rust);
        Self::check_view(node, rust);

        // Each monitor of the engine runs, or its end waits in the inbox; and no other.
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
        if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
            rust.seen.extend(moved);
            if !rust.asked.is_empty() {
                let known: Vec<Pid> = rust.engine.peers().map(|peer| peer.pid).collect();
                rust.asked.retain(|pid, _| known.contains(pid));
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

    /// Each peer's data is a state that peer once was in, and never an older one than before. Gives
    /// back whose is newer now.
    fn states_seen(&self, node: &Node<S>, rust: &Rust<S>) -> Vec<(Pid, usize)> {
        let mut moved = Vec::new();
        let Runs::Rust(mine) = &node.role else { return moved };
        for (peer, past) in &self.scopes {
            let Runs::Rust(theirs) = &past.role else { continue };
            let Some(data) = rust.engine.peer_data(peer) else { continue };
            let translated = usize::from(S::is_translated(theirs, mine));
            let from = rust.seen.get(peer).copied().unwrap_or(0);
            let [state, _] = S::marks(data);
            let found = past.states.iter().skip(from).position(|past| past[translated] == state);
            let Some(further) = found else {
                panic!(
                    "{} shows a state of {peer} that never was, or an older one: {data:?}",
                    node.name()
                );
            };
            if further > 0 {
                moved.push((peer.clone(), from + further));
            }
        }
        moved
    }

    /// The view is what we own and what the peers own, and what the subscribers were told.
    fn check_view(node: &Node<S>, rust: &Rust<S>) {
        let name = node.name();
        let own = (name, rust.engine.local_data());
        let others = rust.engine.shown().map(|(pid, data)| (&pid.node, data));
        let sum = S::sum(std::iter::once(own).chain(others));
        let view = S::picture(&rust.engine);
        assert_eq!(view, sum, "the view of {name} isn't the sum of what it knows");
        let told = &rust.told;
        assert!(S::is_told(&view, told), "a subscriber of {name} was told {told:?}, not {view:?}");
        if let Some(narrow) = &rust.narrow {
            let (key, part) = (&narrow.key, S::part(told, &narrow.key));
            assert_eq!(narrow.told, part, "who subscribed to {key:?} of {name} was told otherwise");
        }
    }

    /// Faults end, everything starts, all connect; then all must agree, and soon.
    pub(super) fn heal(&mut self) {
        self.note(|_| "healing".into());
        self.heals = true;
        let count = self.nodes.len();
        for i in 0..count {
            self.start_node(i);
            self.start_scope(i);
        }
        for i in 0..count {
            for j in 0..i {
                self.connect(i, j);
            }
        }
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
            if all.clone().all(|i| self.nodes[i].scope.is_some()) {
                return;
            }
            all.for_each(|i| self.start_scope(i));
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
                while !self.nodes[i].inbox.is_empty() && self.nodes[i].scope.is_some() {
                    self.step_now(i);
                    moved = true;
                    *steps += 1;
                    assert!(*steps < 10_000, "no rest within 10,000 steps");
                }
            }
        }
    }

    /// All know each other and show what each one owns.
    fn check_rest(&self) {
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
                    Self::check_view(node, rust);
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

//! The connections, what is on its way over them, and who watches whom.

use std::collections::{BTreeMap, VecDeque};

use data_publisher::atom;
use data_publisher::term::{Atom, NodeName, Pid, Term};

use super::{Item, Met, Mutant, Scope, State, World};
use crate::subject::{Runs, Subject};

pub(super) enum Signal {
    ToName(Term),
    ToPid(Pid, Term),
    /// The same with what nobody can read.
    Garbage(Pid, Term),
    Monitor {
        reference: u64,
        watcher: Pid,
        target: Pid,
    },
    Demonitor {
        reference: u64,
        watcher: Pid,
    },
    Down {
        reference: u64,
        watcher: Pid,
        target: Pid,
    },
    /// The other end has closed.
    Fin,
}

/// More than this is large: all local data but that of nobody.
const LARGE: usize = 1;

impl Signal {
    /// What it takes of a queue: one, and one more for each thing in local data. What is large doesn't
    /// count, as local data mustn't: whose local data sheds its peers never syncs.
    fn size(&self, mutant: Option<Mutant>) -> usize {
        let size = self.things();
        if size > LARGE && mutant != Some(Mutant::SnapshotRefused) { 0 } else { size }
    }

    fn things(&self) -> usize {
        let (Self::ToName(message) | Self::ToPid(_, message)) = self else { return 1 };
        let cast = message.tagged("$gen_cast").and_then(|cast| cast.first());
        let data = cast.and_then(|cast| cast.tuple_elements().ok()?.last());
        1 + match data {
            Some(Term::Map(map)) => map.len(),
            Some(Term::List(list)) => list.len(),
            _ => 0,
        }
    }
}

pub(super) struct Connection {
    pub(super) ends: [usize; 2],
    /// Towards `ends[0]`, towards `ends[1]`.
    pub(super) queues: [VecDeque<Signal>; 2],
    /// The sums of the sizes of what is in each queue.
    pub(super) sizes: [usize; 2],
}

pub(super) struct Watch {
    pub(super) target: Pid,
    pub(super) connection: Option<u64>,
}

pub(super) struct WatchedBy {
    pub(super) reference: u64,
    pub(super) watcher: Pid,
    pub(super) target: Pid,
    /// The node of the watcher and the connection; `None` for our own.
    pub(super) over: Option<(usize, u64)>,
}

impl<S: Subject> World<S> {
    /// Whoever watched the process hears of it.
    pub(super) fn process_ended(&mut self, i: usize, pid: &Pid, reason: &Atom) {
        let watchers = std::mem::take(&mut self.nodes[i].watched_by);
        let (ended, others): (Vec<_>, Vec<_>) =
            watchers.into_iter().partition(|watched| watched.target == *pid);
        self.nodes[i].watched_by = others;
        for WatchedBy { reference, watcher, target, over } in ended {
            match over {
                None if self.nodes[i].watching.remove(&reference).is_some() => {
                    let reason = reason.clone();
                    self.nodes[i].inbox.push_back(Item::Down { reference, target, reason });
                }
                None => {}
                Some((to, connection)) => {
                    self.send(i, to, connection, Signal::Down { reference, watcher, target });
                }
            }
        }
    }

    // --- connections ---

    pub(super) fn connect(&mut self, i: usize, j: usize) {
        if i == j || [i, j].iter().any(|node| self.nodes[*node].state != State::Runs) {
            return;
        }
        let (mine, theirs) = (self.nodes[i].ends.get(&j), self.nodes[j].ends.get(&i));
        if mine.is_some() && mine == theirs {
            return;
        }
        if mine.is_some() || theirs.is_some() {
            self.met(Met::Replaced);
        }
        // Whoever still holds the old connection closes it first.
        self.close_end(i, j);
        self.close_end(j, i);
        self.used_connections += 1;
        let connection = self.used_connections;
        self.note(|world| {
            format!(
                "connection {connection}: {} - {}",
                world.nodes[i].name(),
                world.nodes[j].name()
            )
        });
        let queues = [VecDeque::new(), VecDeque::new()];
        self.connections.insert(connection, Connection { ends: [i, j], queues, sizes: [0; 2] });
        for (here, there) in [(i, j), (j, i)] {
            self.nodes[here].ends.insert(there, connection);
            if self.nodes[here].is_rust() || !self.nodes[there].hidden {
                self.nodes[here].inbox.push_back(Item::NodeUp { node: there, connection });
            }
            let late = std::mem::take(&mut self.nodes[here].late);
            self.nodes[here].inbox.extend(late);
        }
    }

    pub(super) fn cut(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.get(&j).copied() else { return };
        self.note(|world| format!("connection {connection}: {} closes", world.nodes[i].name()));
        self.close_end(i, j);
        self.lose(i, j, connection);
        if self.random.chance(30) && self.nodes[j].state == State::Runs {
            self.close_end(j, i);
        }
    }

    /// What waits for the peer is dropped with the connection; some of it may have left already.
    fn shed(&mut self, i: usize, j: usize, connection: u64) {
        self.note(|world| {
            let [one, other] = [i, j].map(|node| world.nodes[node].name());
            format!("connection {connection}: {other} is too slow for {one}")
        });
        self.met(Met::Shed);
        self.close_end(i, j);
        self.lose(i, j, connection);
    }

    /// `i` has gone: `j` still gets a part of what was on its way, and then learns it, or doesn't.
    pub(super) fn lose(&mut self, i: usize, j: usize, connection: u64) {
        let Some(lost) = self.connections.get_mut(&connection) else { return };
        let side = usize::from(lost.ends[1] == j);
        let keep = self.random.below(lost.queues[side].len() + 1);
        lost.queues[side].truncate(keep);
        lost.queues[1 - side].clear();
        // A queue that is lost is nobody's to bound.
        lost.sizes = [usize::MAX / 2; 2];
        if self.random.chance(25) {
            self.met(Met::HalfOpen);
        } else {
            lost.queues[side].push_back(Signal::Fin);
            if keep > 0 {
                self.met(Met::LearntLate);
            }
        }
        self.forget_connection(i, j, connection);
    }

    pub(super) fn forget_connection(&mut self, i: usize, j: usize, connection: u64) {
        let holds =
            |here: usize, there: &usize| self.nodes[here].ends.get(there) == Some(&connection);
        if !holds(i, &j) && !holds(j, &i) {
            self.connections.remove(&connection);
        }
    }

    /// All `Down`s, then `NodeDown`.
    pub(super) fn close_end(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.remove(&j) else { return };
        let is_late = self.mutant == Some(Mutant::LateDown);
        let node = &mut self.nodes[i];
        node.watched_by.retain(|watched| watched.over.is_none_or(|(_, over)| over != connection));
        let (lost, left): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut node.watching)
            .into_iter()
            .partition(|(_, watch)| watch.connection == Some(connection));
        node.watching = left;
        for (reference, watch) in lost {
            let reason = atom!("noconnection");
            let down = Item::Down { reference, target: watch.target, reason };
            if is_late {
                node.late.push(down);
            } else {
                node.inbox.push_back(down);
            }
        }
        if node.is_rust() || !self.nodes[j].hidden {
            self.nodes[i].inbox.push_back(Item::NodeDown(j));
        }
        self.forget_connection(i, j, connection);
    }

    /// Over the hard mark a node on Rust sheds the peer; one on the BEAM would wait.
    pub(super) fn send(&mut self, from: usize, to: usize, connection: u64, signal: Signal) {
        if self.nodes[from].ends.get(&to) != Some(&connection) {
            return;
        }
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let side = usize::from(known.ends[1] == to);
        let waits = known.sizes[side] + signal.size(self.mutant);
        if waits > self.hard_mark && self.nodes[from].is_rust() {
            self.shed(from, to, connection);
            return;
        }
        let is_passed = waits + signal.things() > self.hard_mark;
        known.sizes[side] = waits;
        known.queues[side].push_back(signal);
        if is_passed && self.nodes[from].is_rust() {
            self.met(Met::LargePassed);
        }
    }

    pub(super) fn deliver_some(&mut self) {
        if self.connections.is_empty() {
            return;
        }
        let place = self.random.below(self.connections.len());
        let connection = *self.connections.keys().nth(place).expect("below the count");
        let side = self.random.below(2);
        for _ in 0..=self.random.below(3) {
            self.deliver(connection, side);
        }
    }

    pub(super) fn deliver(&mut self, connection: u64, side: usize) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else { return false };
        let (to, from) = (known.ends[side], known.ends[1 - side]);
        if self.nodes[to].state == State::Suspended {
            return false;
        }
        let Some(signal) = known.queues[side].pop_front() else { return false };
        known.sizes[side] -= signal.size(self.mutant);
        if self.nodes[to].ends.get(&from) != Some(&connection) {
            return true;
        }
        match signal {
            Signal::Fin => self.close_end(to, from),
            Signal::ToName(message) if self.nodes[to].scope.is_some() => {
                let is_garbage = false;
                let item = Item::Message { from, connection, message, is_garbage };
                self.nodes[to].inbox.push_back(item);
            }
            Signal::ToPid(pid, message) if self.nodes[to].scope_pid() == Some(&pid) => {
                let is_garbage = false;
                let item = Item::Message { from, connection, message, is_garbage };
                self.nodes[to].inbox.push_back(item);
            }
            Signal::Garbage(pid, message) if self.nodes[to].scope_pid() == Some(&pid) => {
                let is_garbage = true;
                let item = Item::Message { from, connection, message, is_garbage };
                self.nodes[to].inbox.push_back(item);
            }
            Signal::ToName(_) | Signal::Garbage(..) | Signal::ToPid(..) => {}
            Signal::Monitor { reference, watcher, target } => {
                if self.nodes[to].is_alive(&target) {
                    let over = Some((from, connection));
                    self.nodes[to].watched_by.push(WatchedBy { reference, watcher, target, over });
                } else {
                    self.send(to, from, connection, Signal::Down { reference, watcher, target });
                }
            }
            Signal::Demonitor { reference, watcher } => {
                self.nodes[to]
                    .watched_by
                    .retain(|known| known.reference != reference || known.watcher != watcher);
            }
            Signal::Down { reference, watcher, target } => {
                let node = &mut self.nodes[to];
                if node.scope_pid() == Some(&watcher) && node.watching.remove(&reference).is_some()
                {
                    let reason = atom!("noproc");
                    node.inbox.push_back(Item::Down { reference, target, reason });
                }
            }
        }
        true
    }

    pub(super) fn node_of(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| node.name() == name)
    }

    pub(super) fn watch(&mut self, i: usize, me: &Pid, reference: u64, target: &Pid) {
        let over = self.node_of(&target.node).filter(|j| *j != i);
        let connection = over.and_then(|j| self.nodes[i].ends.get(&j).copied());
        let is_dead = over.is_none() && !self.nodes[i].is_alive(target);
        if is_dead || (over.is_some() && connection.is_none()) {
            let reason = if is_dead { atom!("noproc") } else { atom!("noconnection") };
            let target = target.clone();
            self.nodes[i].inbox.push_back(Item::Down { reference, target, reason });
            return;
        }
        self.nodes[i].watching.insert(reference, Watch { target: target.clone(), connection });
        let (watcher, target) = (me.clone(), target.clone());
        match (over, connection) {
            (Some(j), Some(connection)) => {
                self.send(i, j, connection, Signal::Monitor { reference, watcher, target });
            }
            _ => {
                self.nodes[i].watched_by.push(WatchedBy { reference, watcher, target, over: None });
            }
        }
    }

    pub(super) fn unwatch(&mut self, i: usize, me: &Pid, reference: u64, watch: &Watch) {
        match (self.node_of(&watch.target.node), watch.connection) {
            (Some(j), Some(connection)) => {
                let watcher = me.clone();
                self.send(i, j, connection, Signal::Demonitor { reference, watcher });
            }
            _ => self.nodes[i].watched_by.retain(|known| {
                known.over.is_some() || known.reference != reference || known.watcher != *me
            }),
        }
    }

    // --- planted messages ---

    /// What says all there is may come twice.
    pub(super) fn plant_duplicate(&mut self) {
        let Some((_, connection)) = self.connections.iter_mut().next_back() else { return };
        for side in 0..2 {
            let to = connection.ends[side];
            let copy = match connection.queues[side].back() {
                Some(Signal::ToName(message)) => Signal::ToName(message.clone()),
                Some(Signal::ToPid(pid, message))
                    if ["discover", "$gen_cast"]
                        .iter()
                        .any(|tag| message.tagged(tag).is_some()) =>
                {
                    Signal::ToPid(pid.clone(), message.clone())
                }
                _ => continue,
            };
            if self.nodes[to].is_rust() {
                connection.sizes[side] += copy.size(self.mutant);
                connection.queues[side].push_back(copy);
                self.met |= 1 << Met::Duplicate as u32;
            }
        }
    }

    /// To an engine: a message in the name of a third node, or one from a real peer that nobody can
    /// read, or no message at all; or the end of a monitor that isn't the one it has.
    pub(super) fn plant_lie(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.get(&j).copied() else { return };
        let Some(peer) = self.nodes[j].scope_pid().cloned() else { return };
        let Some(me) = self.nodes[i].scope_pid().cloned() else { return };
        let Runs::Rust(edition) = &self.nodes[i].role else { return };
        let third = (0..self.nodes.len()).find(|k| *k != i && *k != j).unwrap_or(i);
        let other = self.nodes[third].scope_pid();
        let (met, lie) = match (self.random.below(8), other) {
            (0..3, Some(other)) => {
                (Met::Spoofed, Signal::ToName(self.subject.spoof(other, &mut self.random)))
            }
            (6, _) => (Met::Nonsense, Signal::ToName(atom!("nonsense").into())),
            (7, _) => {
                let down = Item::Down { reference: 0, target: peer, reason: atom!("noproc") };
                self.nodes[i].inbox.push_back(down);
                self.met(Met::StaleDown);
                return;
            }
            _ => {
                let role = &self.nodes[j].role;
                let is_known = self.knows_version(i, &peer);
                let garbage =
                    self.subject.garbage(role, edition, &peer, is_known, &mut self.random);
                let garbage = Signal::Garbage(me, garbage);
                // Now and then an update is lost by it: who goes on without has a gap.
                if self.random.chance(50)
                    && let Some(update) = self.last_update(connection, i)
                {
                    *update = garbage;
                    return self.met(Met::UpdateUnreadable);
                }
                (Met::Unreadable, garbage)
            }
        };
        self.send(j, i, connection, lie);
        self.met(met);
    }

    /// The last update on its way to the node, if one is.
    fn last_update(&mut self, connection: u64, to: usize) -> Option<&mut Signal> {
        let Connection { ends, queues, .. } = self.connections.get_mut(&connection)?;
        let queue = &mut queues[usize::from(ends[1] == to)];
        let is_update = |message: &Term| {
            ["update", "join", "leave"].iter().any(|word| message.tagged(word).is_some())
        };
        queue
            .iter_mut()
            .rfind(|signal| matches!(signal, Signal::ToPid(_, message) if is_update(message)))
    }

    fn knows_version(&self, i: usize, peer: &Pid) -> bool {
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return false };
        rust.engine.peers().any(|known| known.pid == *peer && known.version.is_some())
    }
}

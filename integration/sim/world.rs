//! The simulated cluster: nodes with one scope each, connections between them, faults, and the
//! checks that run while it goes.
//!
//! A connection is two queues of signals. It can be cut so that a part of what was on its way still
//! arrives, and so that the other side learns it late or never. Nodes run Rust engines or models of
//! `pg` on the BEAM. Everything that happens is drawn from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

use data_publisher::engine::{
    Action, CallerId, DataPublisher, Engine, EngineOptions, Input, MonitorId, SubscriberId,
    TimerId, Version,
};
use data_publisher::pg::{
    Bag, Change, Event, Groups, Initial, PgPublisher, Subscription, is_allowed_shape,
};
use data_publisher::term::{Atom, Creation, Destination, NodeName, Pid, Term};
use data_publisher::{atom, list, tuple};
use rustc_hash::FxHasher;

use crate::beam::{Beam, Out, Release};
use crate::random::Random;

/// A defect planted between an engine and the world, to see that the checks find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mutant {
    NoGreeting,
    NoDiscoverBack,
    NoReplyToKnown,
    SilentDrop,
    UpdateBeforeData,
    NoDownOfEndedScope,
    NoMonitor,
    BagAsSet,
    ReusedCreation,
    JoinAsCast,
    LongDiscover,
    LeaveLost,
    SendsOverNewerConnection,
}

impl Mutant {
    pub(crate) const ALL: [Self; 13] = [
        Self::NoGreeting,
        Self::NoDiscoverBack,
        Self::NoReplyToKnown,
        Self::SilentDrop,
        Self::UpdateBeforeData,
        Self::NoDownOfEndedScope,
        Self::NoMonitor,
        Self::BagAsSet,
        Self::ReusedCreation,
        Self::JoinAsCast,
        Self::LongDiscover,
        Self::LeaveLost,
        Self::SendsOverNewerConnection,
    ];
}

const SCOPE: Atom = atom!("pg");

fn groups() -> [Term; 3] {
    [Term::from(1), Term::float_of(1.0).expect("finite"), atom!("g").into()]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Rust,
    Beam(Release),
}

enum Signal {
    ToName(Term),
    ToPid(Pid, Term),
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

struct Connection {
    ends: [usize; 2],
    /// Towards `ends[0]`, towards `ends[1]`.
    queues: [VecDeque<Signal>; 2],
}

/// What waits in the inbox of a scope's process.
enum Item {
    NodeUp { node: usize, connection: u64 },
    NodeDown(usize),
    Message { from: usize, connection: u64, message: Term },
    Down { reference: u64, target: Pid, reason: Atom },
    Update(Vec<Change>),
}

enum Scope {
    Rust(Box<Rust>),
    Beam(Box<Beam>),
}

struct Rust {
    engine: Engine<PgPublisher>,
    /// What a subscriber to the scope makes of `Initial` and its events.
    told: BTreeMap<Term, Bag>,
    /// For each peer on Rust: which of its past states was seen last.
    seen: BTreeMap<Pid, usize>,
    timers: Vec<TimerId>,
}

struct Watch {
    target: Pid,
    connection: Option<u64>,
}

struct WatchedBy {
    reference: u64,
    watcher: Pid,
    target: Pid,
    /// The node of the watcher and the connection; `None` for our own.
    over: Option<(usize, u64)>,
}

struct Node {
    name: NodeName,
    kind: Kind,
    hidden: bool,
    slow: bool,
    running: bool,
    creation: u32,
    next_id: u32,
    ends: BTreeMap<usize, u64>,
    scope: Option<Scope>,
    inbox: VecDeque<Item>,
    /// The connections the scope knows of: it has handled their `NodeUp`, not yet their `NodeDown`.
    /// What an engine sends goes over these or nowhere.
    handled: BTreeMap<usize, u64>,
    living: Vec<Pid>,
    /// The memberships of living processes, as asked for.
    wanted: Groups,
    watching: BTreeMap<u64, Watch>,
    watched_by: Vec<WatchedBy>,
}

impl Node {
    fn scope_pid(&self) -> Option<&Pid> {
        match self.scope.as_ref()? {
            Scope::Rust(rust) => Some(rust.engine.me()),
            Scope::Beam(beam) => Some(&beam.me),
        }
    }

    fn is_alive(&self, pid: &Pid) -> bool {
        self.scope_pid() == Some(pid) || self.living.contains(pid)
    }

    fn new_pid(&mut self) -> Pid {
        self.next_id += 1;
        Pid {
            node: self.name.clone(),
            id: self.next_id,
            serial: 0,
            creation: Creation(self.creation),
        }
    }
}

pub(crate) struct World {
    random: Random,
    nodes: Vec<Node>,
    connections: BTreeMap<u64, Connection>,
    used_connections: u64,
    /// All states each scope on Rust ever published, hashed.
    history: BTreeMap<Pid, Vec<u64>>,
    mutant: Option<Mutant>,
    /// Whether faults still happen.
    fault_rate: usize,
    actions: Vec<Action<PgPublisher>>,
    pub(crate) log: Option<Vec<String>>,
    pub(crate) hash: Option<FxHasher>,
    pub(crate) checks_all: bool,
}

/// The order of members says nothing, so a state is a sum.
fn state_hash(groups: &Groups) -> u64 {
    let mut sum = 0u64;
    for (group, bag) in groups.sorted() {
        for pid in bag.iter() {
            sum = sum.wrapping_add(member_hash(group, pid));
        }
    }
    sum
}

fn member_hash(group: &Term, pid: &Pid) -> u64 {
    let mut hasher = FxHasher::default();
    (group, pid).hash(&mut hasher);
    hasher.finish()
}

fn bags(groups: &Groups) -> BTreeMap<Term, Bag> {
    groups.sorted().into_iter().map(|(group, bag)| (group.clone(), bag.clone())).collect()
}

fn add_all(sum: &mut BTreeMap<Term, Bag>, groups: &Groups) {
    for (group, bag) in groups.sorted() {
        let total = sum.entry(group.clone()).or_default();
        bag.iter().for_each(|pid| total.add(pid.clone()));
    }
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(seed);
        // OTP 25 and 29 in one scope kill each other without our help.
        let releases = if random.chance(50) {
            [Release::Otp25, Release::Otp27]
        } else {
            [Release::Otp27, Release::Otp29]
        };
        let count = 2 + random.below(4);
        let slow = random.chance(30).then(|| random.below(count));
        let only_rust = random.chance(40);
        let nodes = (0..count).map(|i| {
            let is_rust = i == 0 || only_rust || random.chance(40);
            let kind = if is_rust { Kind::Rust } else { Kind::Beam(releases[random.below(2)]) };
            Node {
                name: NodeName::new(&format!("n{i}@h")).expect("a node name"),
                kind,
                hidden: is_rust && random.chance(25),
                slow: slow == Some(i),
                running: false,
                creation: 4,
                next_id: 0,
                ends: BTreeMap::new(),
                scope: None,
                inbox: VecDeque::new(),
                handled: BTreeMap::new(),
                living: Vec::new(),
                wanted: Groups::default(),
                watching: BTreeMap::new(),
                watched_by: Vec::new(),
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let fault_rate = [1, 5, 15][random.below(3)];
        Self {
            random,
            nodes,
            connections: BTreeMap::new(),
            used_connections: 0,
            history: BTreeMap::new(),
            mutant,
            fault_rate,
            actions: Vec::new(),
            log: None,
            hash: None,
            checks_all: true,
        }
    }

    /// Runs the whole schedule; panics where a check fails.
    pub(crate) fn run(&mut self) {
        for i in 0..self.nodes.len() {
            self.start_node(i);
        }
        let steps = 50 + self.random.below(351);
        for _ in 0..steps {
            self.random_op();
        }
        self.heal();
    }

    fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.log.is_none() && self.hash.is_none() {
            return;
        }
        let text = text(self);
        if let Some(hash) = &mut self.hash {
            text.hash(hash);
        }
        if let Some(log) = &mut self.log {
            log.push(text);
        }
    }

    fn random_op(&mut self) {
        if self.random.chance(self.fault_rate) {
            return self.fault();
        }
        let i = self.random.below(self.nodes.len());
        match self.random.below(100) {
            0..9 => self.join(i),
            9..14 => self.leave(i),
            14..16 => self.kill_member(i),
            16..24 => {
                let j = self.random.below(self.nodes.len());
                self.connect(i, j);
            }
            24..26 => self.fire_timer(i),
            26..60 => self.deliver_some(),
            _ => self.step(i),
        }
    }

    fn fault(&mut self) {
        let i = self.random.below(self.nodes.len());
        let j = self.random.below(self.nodes.len());
        match self.random.below(10) {
            0..4 => self.cut(i, j),
            4 => self.crash_node(i),
            5 => self.start_node(i),
            6 => self.stop_scope(i),
            7 => self.start_scope(i),
            8 => self.plant_duplicate(),
            _ => self.plant_lie(i, j),
        }
    }

    // --- members ---

    fn join(&mut self, i: usize) {
        if !self.nodes[i].running || self.nodes[i].scope.is_none() {
            return;
        }
        let group = groups()[self.random.below(3)].clone();
        let known = self.nodes[i].living.len();
        let pid = if known > 0 && self.random.chance(40) {
            self.nodes[i].living[self.random.below(known)].clone()
        } else {
            let pid = self.nodes[i].new_pid();
            self.nodes[i].living.push(pid.clone());
            pid
        };
        let pids = vec![pid; 1 + self.random.below(2)];
        self.note(|world| format!("{}: join {group} {pids:?}", world.nodes[i].name));
        for pid in &pids {
            self.nodes[i].wanted.add(&group, pid.clone());
        }
        self.nodes[i].inbox.push_back(Item::Update(vec![Change::join(&group, pids)]));
    }

    fn leave(&mut self, i: usize) {
        let known = self.nodes[i].living.len();
        if known == 0 || self.nodes[i].scope.is_none() {
            return;
        }
        let group = groups()[self.random.below(3)].clone();
        let mut pids = vec![self.nodes[i].living[self.random.below(known)].clone()];
        pids.push(self.nodes[i].living[self.random.below(known)].clone());
        self.note(|world| format!("{}: leave {group} {pids:?}", world.nodes[i].name));
        for pid in &pids {
            self.nodes[i].wanted.remove(&group, pid);
        }
        self.nodes[i].inbox.push_back(Item::Update(vec![Change::leave(&group, pids)]));
    }

    fn kill_member(&mut self, i: usize) {
        let known = self.nodes[i].living.len();
        if known == 0 {
            return;
        }
        let place = self.random.below(known);
        let pid = self.nodes[i].living.swap_remove(place);
        self.note(|world| format!("{}: {pid} ends", world.nodes[i].name));
        for group in groups() {
            while self.nodes[i].wanted.remove(&group, &pid) {}
        }
        self.process_ended(i, &pid, &atom!("normal"));
    }

    /// Whoever watched the process hears of it.
    fn process_ended(&mut self, i: usize, pid: &Pid, reason: &Atom) {
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

    // --- scopes and nodes ---

    fn start_node(&mut self, i: usize) {
        if self.nodes[i].running {
            return;
        }
        self.note(|world| format!("{}: node starts", world.nodes[i].name));
        self.nodes[i].running = true;
        if self.mutant == Some(Mutant::ReusedCreation) {
            self.nodes[i].next_id = 0;
        } else {
            self.nodes[i].creation += 1;
        }
        self.start_scope(i);
    }

    /// Nobody gets to say goodbye; the others see their connections end, or don't.
    fn crash_node(&mut self, i: usize) {
        if !self.nodes[i].running {
            return;
        }
        self.note(|world| format!("{}: node crashes", world.nodes[i].name));
        for (j, connection) in std::mem::take(&mut self.nodes[i].ends) {
            self.lose(i, j, connection);
        }
        let node = &mut self.nodes[i];
        node.running = false;
        node.scope = None;
        node.inbox.clear();
        node.living.clear();
        node.wanted = Groups::default();
        node.watching.clear();
        node.watched_by.clear();
    }

    fn start_scope(&mut self, i: usize) {
        if !self.nodes[i].running || self.nodes[i].scope.is_some() {
            return;
        }
        let me = self.nodes[i].new_pid();
        self.note(|_| format!("{me}: scope starts"));
        self.nodes[i].inbox.clear();
        self.nodes[i].handled.clear();
        let connected = self.nodes[i].ends.clone();
        match self.nodes[i].kind {
            Kind::Rust => {
                let mut engine =
                    Engine::new(SCOPE, me.clone(), PgPublisher::new(), EngineOptions::default());
                let subscriber = SubscriberId(1);
                engine.handle(
                    Input::Subscribe { key: Subscription::Scope, subscriber },
                    &mut self.actions,
                );
                self.actions.clear();
                self.history.insert(me, vec![state_hash(&Groups::default())]);
                self.nodes[i].scope = Some(Scope::Rust(Box::new(Rust {
                    engine,
                    told: BTreeMap::new(),
                    seen: BTreeMap::new(),
                    timers: Vec::new(),
                })));
                // A scope that starts again publishes the memberships that still are.
                let node = &mut self.nodes[i];
                let all = PgPublisher::new().data_diff(&Groups::default(), &node.wanted);
                node.inbox.extend(all.map(Item::Update));
                let up = |(node, connection)| Item::NodeUp { node, connection };
                node.inbox.extend(connected.into_iter().map(up));
            }
            Kind::Beam(release) => {
                let beam = Beam::new(release, me);
                let hello = beam.hello();
                self.nodes[i].scope = Some(Scope::Beam(Box::new(beam)));
                self.nodes[i].wanted = Groups::default();
                for (j, connection) in connected {
                    if self.nodes[j].hidden {
                        continue;
                    }
                    self.send(i, j, connection, Signal::ToName(hello.clone()));
                }
            }
        }
    }

    fn stop_scope(&mut self, i: usize) {
        let Some(me) = self.nodes[i].scope_pid().cloned() else { return };
        self.note(|_| format!("{me}: scope stops"));
        self.nodes[i].scope = None;
        self.nodes[i].inbox.clear();
        let running = std::mem::take(&mut self.nodes[i].watching);
        for (reference, watch) in running {
            self.unwatch(i, &me, reference, &watch);
        }
        self.process_ended(i, &me, &atom!("shutdown"));
    }

    // --- connections ---

    fn connect(&mut self, i: usize, j: usize) {
        if i == j || !self.nodes[i].running || !self.nodes[j].running {
            return;
        }
        let (mine, theirs) = (self.nodes[i].ends.get(&j), self.nodes[j].ends.get(&i));
        if mine.is_some() && mine == theirs {
            return;
        }
        // Whoever still holds the old connection closes it first.
        self.close_end(i, j);
        self.close_end(j, i);
        self.used_connections += 1;
        let connection = self.used_connections;
        self.note(|world| {
            format!("connection {connection}: {} - {}", world.nodes[i].name, world.nodes[j].name)
        });
        let queues = [VecDeque::new(), VecDeque::new()];
        self.connections.insert(connection, Connection { ends: [i, j], queues });
        for (here, there) in [(i, j), (j, i)] {
            self.nodes[here].ends.insert(there, connection);
            if self.nodes[here].kind == Kind::Rust || !self.nodes[there].hidden {
                self.nodes[here].inbox.push_back(Item::NodeUp { node: there, connection });
            }
        }
    }

    fn cut(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.get(&j).copied() else { return };
        self.note(|world| format!("connection {connection}: {} closes", world.nodes[i].name));
        self.close_end(i, j);
        self.lose(i, j, connection);
        if self.random.chance(30) {
            self.close_end(j, i);
        }
    }

    /// `i` has gone: `j` still gets a part of what was on its way, and then learns it, or doesn't.
    fn lose(&mut self, i: usize, j: usize, connection: u64) {
        let Some(lost) = self.connections.get_mut(&connection) else { return };
        let side = usize::from(lost.ends[1] == j);
        let keep = self.random.below(lost.queues[side].len() + 1);
        lost.queues[side].truncate(keep);
        lost.queues[1 - side].clear();
        if !self.random.chance(25) {
            lost.queues[side].push_back(Signal::Fin);
        }
        self.forget_connection(i, j, connection);
    }

    fn forget_connection(&mut self, i: usize, j: usize, connection: u64) {
        let holds =
            |here: usize, there: &usize| self.nodes[here].ends.get(there) == Some(&connection);
        if !holds(i, &j) && !holds(j, &i) {
            self.connections.remove(&connection);
        }
    }

    /// All `Down`s, then `NodeDown`.
    fn close_end(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.remove(&j) else { return };
        let node = &mut self.nodes[i];
        node.watched_by.retain(|watched| watched.over.is_none_or(|(_, over)| over != connection));
        let (lost, left): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut node.watching)
            .into_iter()
            .partition(|(_, watch)| watch.connection == Some(connection));
        node.watching = left;
        for (reference, watch) in lost {
            let reason = atom!("noconnection");
            node.inbox.push_back(Item::Down { reference, target: watch.target, reason });
        }
        if node.kind == Kind::Rust || !self.nodes[j].hidden {
            self.nodes[i].inbox.push_back(Item::NodeDown(j));
        }
        self.forget_connection(i, j, connection);
    }

    fn send(&mut self, from: usize, to: usize, connection: u64, signal: Signal) {
        if self.nodes[from].ends.get(&to) != Some(&connection) {
            return;
        }
        if let Some(known) = self.connections.get_mut(&connection) {
            let side = usize::from(known.ends[1] == to);
            known.queues[side].push_back(signal);
        }
    }

    fn deliver_some(&mut self) {
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

    fn deliver(&mut self, connection: u64, side: usize) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else { return false };
        let (to, from) = (known.ends[side], known.ends[1 - side]);
        let Some(signal) = known.queues[side].pop_front() else { return false };
        if self.nodes[to].ends.get(&from) != Some(&connection) {
            return true;
        }
        match signal {
            Signal::Fin => self.close_end(to, from),
            Signal::ToName(message) => {
                if self.nodes[to].scope.is_some() {
                    self.nodes[to].inbox.push_back(Item::Message { from, connection, message });
                }
            }
            Signal::ToPid(pid, message) => {
                if self.nodes[to].scope_pid() == Some(&pid) {
                    self.nodes[to].inbox.push_back(Item::Message { from, connection, message });
                }
            }
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

    fn node_of(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == *name)
    }

    fn watch(&mut self, i: usize, me: &Pid, reference: u64, target: &Pid) {
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

    fn unwatch(&mut self, i: usize, me: &Pid, reference: u64, watch: &Watch) {
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
    fn plant_duplicate(&mut self) {
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
            if self.nodes[to].kind == Kind::Rust {
                connection.queues[side].push_back(copy);
            }
        }
    }

    /// To an engine: a message in the name of a third node, or one from a real peer that nobody can
    /// read, or no message at all.
    fn plant_lie(&mut self, i: usize, j: usize) {
        let Some(connection) = self.nodes[i].ends.get(&j).copied() else { return };
        let Some(peer) = self.nodes[j].scope_pid().cloned() else { return };
        if self.nodes[i].kind != Kind::Rust {
            return;
        }
        let third = (0..self.nodes.len()).find(|k| *k != i && *k != j).unwrap_or(i);
        let other = self.nodes[third].scope_pid().unwrap_or(&peer).clone();
        let is_spoof = other.node != peer.node;
        let member = Pid { id: 999, ..other.clone() };
        let lie = match self.random.below(7) {
            0 if is_spoof => {
                tuple![atom!("update"), other, list![tuple![1, list![member], list![]]]]
            }
            1 if is_spoof => tuple![atom!("discover"), other],
            2 if is_spoof => {
                tuple![
                    atom!("$gen_cast"),
                    tuple![atom!("sync"), other, list![tuple![1, list![member]]]]
                ]
            }
            3 => tuple![atom!("update"), peer, list![tuple![1, atom!("x"), list![]]]],
            4 => tuple![atom!("join"), peer, 1, Term::list_with_tail(vec![1.into()], 2.into())],
            5 => tuple![atom!("$gen_cast"), tuple![atom!("sync"), peer, list![1]]],
            _ => atom!("nonsense").into(),
        };
        self.send(j, i, connection, Signal::ToName(lie));
    }

    // --- steps of a scope ---

    fn step(&mut self, i: usize) {
        if self.nodes[i].slow && self.fault_rate > 0 && !self.random.chance(5) {
            return;
        }
        self.step_now(i);
    }

    fn step_now(&mut self, i: usize) {
        let Some(item) = self.nodes[i].inbox.pop_front() else { return };
        match self.nodes[i].scope {
            Some(Scope::Rust(_)) => self.step_rust(i, item),
            Some(Scope::Beam(_)) => self.step_beam(i, item),
            None => {}
        }
    }

    fn step_rust(&mut self, i: usize, item: Item) {
        let input = match item {
            Item::NodeUp { node: j, connection } => {
                self.nodes[i].handled.insert(j, connection);
                Input::NodeUp(self.nodes[j].name.clone())
            }
            Item::NodeDown(j) => {
                self.nodes[i].handled.remove(&j);
                Input::NodeDown(self.nodes[j].name.clone())
            }
            Item::Message { from, connection, message } => {
                if self.nodes[i].ends.get(&from) != Some(&connection) {
                    return;
                }
                let message = match self.mutant {
                    Some(Mutant::BagAsSet) => without_repetition(&message),
                    _ => message,
                };
                Input::Message { from: self.nodes[from].name.clone(), message }
            }
            Item::Down { reference, target, reason } => {
                if self.mutant == Some(Mutant::NoDownOfEndedScope)
                    && reason == "noproc"
                    && target.node != self.nodes[i].name
                {
                    return;
                }
                Input::Down { monitor: MonitorId(reference), pid: target, reason: reason.into() }
            }
            Item::Update(update) => Input::Update { update, caller: CallerId(0) },
        };
        self.feed(i, input);
    }

    fn feed(&mut self, i: usize, input: Input<PgPublisher>) {
        let mut actions = std::mem::take(&mut self.actions);
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        let me = rust.engine.me().clone();
        let is_update = matches!(input, Input::Update { .. } | Input::Down { .. });
        let text = (self.log.is_some() || self.hash.is_some()).then(|| input_text(&input));
        let mut known: Vec<Pid> = Vec::new();
        if self.mutant == Some(Mutant::NoReplyToKnown) {
            known.extend(rust.engine.peers().map(|peer| peer.pid));
        }
        rust.engine.handle(input, &mut actions);
        rust.engine.check();
        if is_update {
            let states = self.history.entry(me.clone()).or_default();
            // In the words of version 0 an update is several messages, with states in between.
            for action in &actions {
                if let Action::Publish { message, .. } = action
                    && let Some([_, Term::Pid(pid), Term::List(groups)]) = message.tagged("leave")
                {
                    let gone = groups.iter().map(|group| member_hash(group, pid));
                    let before = states.last().copied().unwrap_or_default();
                    states.push(gone.fold(before, u64::wrapping_sub));
                }
            }
            let state = state_hash(rust.engine.local_data());
            if states.last() != Some(&state) {
                states.push(state);
            }
        }
        if let Some(text) = text {
            self.note(|_| format!("{me}: {text}"));
        }
        self.mutate(i, &known, &mut actions);
        for action in actions.drain(..) {
            self.act(i, &me, action);
        }
        self.actions = actions;
        self.check_step(i);
    }

    fn act(&mut self, i: usize, me: &Pid, action: Action<PgPublisher>) {
        if self.log.is_some() || self.hash.is_some() {
            let text = action_text(&action);
            self.note(|_| format!("    {text}"));
        }
        match action {
            Action::Send { to, message } => self.send_checked(i, &to, message),
            Action::Publish { peers, message } => {
                assert!(!peers.is_empty(), "published to nobody");
                for peer in peers {
                    self.send_checked(i, &Destination::Pid(peer), message.clone());
                }
            }
            Action::Monitor { id, pid } => self.watch(i, me, id.0, &pid),
            Action::Demonitor { id } => {
                // `Down` and `Demonitor` may cross: then the engine ignores the former.
                if let Some(watch) = self.nodes[i].watching.remove(&id.0) {
                    self.unwatch(i, me, id.0, &watch);
                }
            }
            Action::After { timer, .. } => {
                if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
                    rust.timers.push(timer);
                }
            }
            Action::Notify { event, .. } => {
                let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
                match event {
                    Event::Join { group, pids } => {
                        assert!(!pids.is_empty(), "nobody joined");
                        let bag = rust.told.entry(group).or_default();
                        pids.iter().for_each(|pid| bag.add(pid.clone()));
                    }
                    Event::Leave { group, pids } => {
                        assert!(!pids.is_empty(), "nobody left");
                        let bag = rust.told.entry(group.clone()).or_default();
                        for pid in pids.iter() {
                            assert!(bag.remove(pid), "{pid} left {group} without being in it");
                        }
                        if bag.is_empty() {
                            rust.told.remove(&group);
                        }
                    }
                }
            }
            Action::Subscribed { initial: Initial::Scope(_) | Initial::Group(_), .. }
            | Action::Updated { .. }
            | Action::PeerUp { .. }
            | Action::PeerDown { .. } => {}
        }
    }

    /// Nothing leaves that its receiver wouldn't survive.
    fn send_checked(&mut self, i: usize, to: &Destination, message: Term) {
        let Some(j) = self.node_of(to.node()) else { panic!("sent to a node nobody knows") };
        let kind = self.nodes[j].kind;
        let allows = |version: i64| is_allowed_shape(Some(&Version::from(version)), &message);
        let is_allowed = match (to, kind) {
            (Destination::Name(..), _) => is_allowed_shape(None, &message),
            (_, Kind::Beam(Release::Otp25 | Release::Otp27)) => allows(0),
            _ => allows(0) || allows(1),
        };
        assert!(is_allowed, "{} sends {kind:?} {message}", self.nodes[i].name);
        let by_engine = match self.mutant {
            Some(Mutant::SendsOverNewerConnection) => &self.nodes[i].ends,
            _ => &self.nodes[i].handled,
        };
        let Some(connection) = by_engine.get(&j).copied() else { return };
        let signal = match to {
            Destination::Pid(pid) => Signal::ToPid(pid.clone(), message),
            _ => Signal::ToName(message),
        };
        self.send(i, j, connection, signal);
    }

    fn step_beam(&mut self, i: usize, item: Item) {
        let Some(Scope::Beam(beam)) = &mut self.nodes[i].scope else { return };
        let me = beam.me.clone();
        match item {
            Item::NodeUp { node: j, .. } => {
                let hello = beam.hello();
                if let Some(connection) = self.nodes[i].ends.get(&j).copied() {
                    self.send(i, j, connection, Signal::ToName(hello));
                }
                return;
            }
            Item::NodeDown(_) => return,
            Item::Message { from, message, .. } => {
                if let Err(crash) = beam.message(&message) {
                    let sender = &self.nodes[from];
                    assert!(sender.kind != Kind::Rust, "{} killed {me}: {crash}", sender.name);
                    self.stop_scope(i);
                    self.start_scope(i);
                    return;
                }
            }
            Item::Down { reference, target, .. } => beam.down(reference, &target),
            Item::Update(update) => {
                for Change { group, add, remove } in update {
                    if !add.is_empty() {
                        beam.join(&group, &add);
                    }
                    for pid in &remove {
                        beam.leave(&group, pid);
                    }
                }
            }
        }
        let Some(Scope::Beam(beam)) = &mut self.nodes[i].scope else { return };
        for out in std::mem::take(&mut beam.out) {
            match out {
                Out::Send(pid, message) => {
                    let Some(j) = self.node_of(&pid.node) else { continue };
                    if let Some(connection) = self.nodes[i].ends.get(&j).copied() {
                        self.send(i, j, connection, Signal::ToPid(pid, message));
                    }
                }
                Out::Monitor(reference, pid) => self.watch(i, &me, reference, &pid),
                Out::Demonitor(reference) => {
                    if let Some(watch) = self.nodes[i].watching.remove(&reference) {
                        self.unwatch(i, &me, reference, &watch);
                    }
                }
            }
        }
    }

    fn fire_timer(&mut self, i: usize) {
        let count = match &self.nodes[i].scope {
            Some(Scope::Rust(rust)) => rust.timers.len(),
            _ => 0,
        };
        let place = self.random.below(count);
        let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope else { return };
        if count > 0 {
            let timer = rust.timers.swap_remove(place);
            self.feed(i, Input::Timer(timer));
        }
    }

    fn mutate(&mut self, i: usize, known: &[Pid], actions: &mut Vec<Action<PgPublisher>>) {
        let Some(mutant) = self.mutant else { return };
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let me = rust.engine.me();
        let is_data = |message: &Term| matches!(message.tagged("$gen_cast"), Some([m]) if m.tagged("sync").or(m.tagged("local_data")).is_some());
        match mutant {
            Mutant::NoGreeting => actions.retain(
                |action| !matches!(action, Action::Send { to: Destination::Name(..), .. }),
            ),
            Mutant::NoDiscoverBack => actions.retain(|action| {
                !matches!(action, Action::Send { to: Destination::Pid(_), message }
                    if message.tagged("discover").is_some())
            }),
            Mutant::NoReplyToKnown => actions.retain(|action| {
                !matches!(action, Action::Send { to: Destination::Pid(pid), message }
                    if known.contains(pid) && is_data(message))
            }),
            Mutant::SilentDrop => {
                actions.retain(|action| {
                    !matches!(action, Action::Publish { .. }) || !self.random.chance(5)
                });
            }
            Mutant::LeaveLost => actions.retain(|action| {
                !matches!(action, Action::Publish { message, .. } if message.tagged("leave").is_some())
            }),
            Mutant::UpdateBeforeData => {
                for action in actions.iter_mut() {
                    if let Action::Publish { peers, .. } = action {
                        *peers = rust
                            .engine
                            .peers()
                            .filter(|peer| peer.version.is_none() || peers.contains(&peer.pid))
                            .map(|peer| peer.pid)
                            .collect();
                    }
                }
            }
            Mutant::NoMonitor => {
                actions.retain(|action| !matches!(action, Action::Monitor { .. }));
            }
            Mutant::JoinAsCast => {
                for action in actions.iter_mut() {
                    if let Action::Publish { message, .. } = action
                        && message.tagged("join").is_some()
                    {
                        *message = tuple![atom!("$gen_cast"), message.clone()];
                    }
                }
            }
            Mutant::LongDiscover => {
                for action in actions.iter_mut() {
                    if let Action::Send { message, .. } = action
                        && message.tagged("discover").is_some()
                    {
                        *message = tuple![atom!("discover"), me, 1];
                    }
                }
            }
            Mutant::NoDownOfEndedScope
            | Mutant::BagAsSet
            | Mutant::ReusedCreation
            | Mutant::SendsOverNewerConnection => {}
        }
    }

    // --- checks ---

    /// The laws that hold at every moment, for the node that has just moved.
    fn check_step(&mut self, i: usize) {
        let node = &self.nodes[i];
        let Some(Scope::Rust(rust)) = &node.scope else { return };
        let engine = &rust.engine;
        let name = &node.name;

        // Each peer's data is a state that peer once was in, and never an older one than before.
        let mut moved = Vec::new();
        for (peer, states) in &self.history {
            let Some(data) = engine.peer_data(peer) else { continue };
            let from = rust.seen.get(peer).copied().unwrap_or(0);
            let state = state_hash(data);
            let found = states.iter().skip(from).position(|past| *past == state);
            let Some(further) = found else {
                panic!("{name} shows a state of {peer} that never was, or an older one");
            };
            if further > 0 {
                moved.push((peer.clone(), from + further));
            }
        }

        if self.checks_all {
            self.check_view(i);
        }
        // Each monitor of the engine runs, or its end waits in the inbox; and no other.
        let waiting = |reference: u64| {
            node.inbox.iter().any(
                |item| matches!(item, Item::Down { reference: known, .. } if *known == reference),
            )
        };
        for (id, pid) in engine.monitors() {
            assert!(
                node.watching.contains_key(&id.0) || waiting(id.0),
                "{name} believes it watches {pid}"
            );
        }
        assert!(node.watching.len() <= engine.monitors().count(), "{name} watches for nothing");
        // A peer without a connection has its `Down` still to come.
        if node.inbox.is_empty() {
            for peer in engine.peers() {
                let there = self.node_of(&peer.pid.node).expect("a node of ours");
                assert!(node.ends.contains_key(&there), "{name} keeps {} alive", peer.pid);
            }
        }
        if let Some(Scope::Rust(rust)) = &mut self.nodes[i].scope {
            rust.seen.extend(moved);
        }
    }

    /// The view is what we own and what the peers own, and what the subscriber was told.
    fn check_view(&self, i: usize) {
        let Some(Scope::Rust(rust)) = &self.nodes[i].scope else { return };
        let mut sum = bags(rust.engine.local_data());
        for (_, data) in rust.engine.shown() {
            add_all(&mut sum, data);
        }
        let view = rust.engine.view().members().all();
        let view: BTreeMap<Term, Bag> =
            view.into_iter().map(|(group, pids)| (group, pids.iter().cloned().collect())).collect();
        let name = &self.nodes[i].name;
        assert_eq!(view, sum, "the view of {name} isn't the sum of what it knows");
        assert_eq!(view, rust.told, "a subscriber of {name} was told otherwise");
    }

    /// Faults end, everything starts, all connect; then all must agree, and soon.
    fn heal(&mut self) {
        self.note(|_| "healing".into());
        self.fault_rate = 0;
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
                for timer in std::mem::take(&mut rust.timers) {
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
            let mut moved = false;
            let all: Vec<u64> = self.connections.keys().copied().collect();
            for connection in all {
                for side in 0..2 {
                    while self.deliver(connection, side) {
                        moved = true;
                    }
                }
            }
            for i in 0..self.nodes.len() {
                while !self.nodes[i].inbox.is_empty() {
                    self.step_now(i);
                    moved = true;
                    *steps += 1;
                    assert!(*steps < 10_000, "no rest within 10,000 steps");
                }
                self.start_scope(i);
            }
            if !moved {
                return;
            }
        }
    }

    fn check_rest(&self) {
        let mut expected: BTreeMap<Term, Bag> = BTreeMap::new();
        for node in &self.nodes {
            match &node.scope {
                Some(Scope::Rust(rust)) => {
                    assert_eq!(
                        *rust.engine.local_data(),
                        node.wanted,
                        "{} lost members",
                        node.name
                    );
                    add_all(&mut expected, &node.wanted);
                }
                Some(Scope::Beam(beam)) => {
                    for (group, pids) in beam.local() {
                        let bag = expected.entry(group).or_default();
                        for pid in pids {
                            bag.add(pid);
                        }
                    }
                }
                None => panic!("{} has no scope", node.name),
            }
        }
        let mut scopes: Vec<&Pid> = self.nodes.iter().filter_map(Node::scope_pid).collect();
        scopes.sort();
        for (i, node) in self.nodes.iter().enumerate() {
            let others = scopes.iter().copied().filter(|pid| pid.node != node.name);
            match &node.scope {
                Some(Scope::Rust(rust)) => {
                    let peers: Vec<_> = rust.engine.peers().collect();
                    assert!(peers.iter().all(|peer| peer.synced), "{} waits for data", node.name);
                    assert!(
                        peers.iter().map(|peer| &peer.pid).eq(others),
                        "{} knows {peers:?}",
                        node.name
                    );
                    self.check_view(i);
                    assert_eq!(rust.told, expected, "{} sees otherwise", node.name);
                }
                Some(Scope::Beam(beam)) => {
                    assert!(beam.peers().eq(others), "{} doesn't know all", node.name);
                    let view: BTreeMap<Term, Bag> = beam
                        .view()
                        .into_iter()
                        .map(|(group, pids)| (group, pids.into_iter().collect()))
                        .collect();
                    assert_eq!(view, expected, "{} ({:?}) sees otherwise", node.name, node.kind);
                }
                None => {}
            }
        }
    }

    /// Describes the cluster, for the head of a replay.
    pub(crate) fn cast(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let hidden = if node.hidden { ", hidden" } else { "" };
            let slow = if node.slow { ", slow" } else { "" };
            let _ = write!(text, "{} ({:?}{hidden}{slow})  ", node.name, node.kind);
        }
        text
    }
}

/// The mutant `BagAsSet`: who joined twice has joined once.
fn without_repetition(message: &Term) -> Term {
    match message {
        Term::Tuple(elements) => {
            Term::tuple_of(elements.iter().map(without_repetition).collect::<Vec<_>>())
        }
        Term::List(elements) => {
            let mut once: Vec<Term> = Vec::new();
            for element in elements.iter().map(without_repetition) {
                if !matches!(element, Term::Pid(_)) || !once.contains(&element) {
                    once.push(element);
                }
            }
            Term::list_of(once)
        }
        _ => message.clone(),
    }
}

fn input_text(input: &Input<PgPublisher>) -> String {
    match input {
        Input::NodeUp(node) => format!("node up {node}"),
        Input::NodeDown(node) => format!("node down {node}"),
        Input::Message { from, message } => format!("from {from}: {message:?}"),
        Input::Down { monitor, pid, reason } => format!("down {monitor:?} {pid} {reason}"),
        Input::Timer(timer) => format!("{timer:?}"),
        Input::Update { update, .. } => format!("update {update:?}"),
        Input::Subscribe { .. } | Input::Unsubscribe { .. } => "subscription".into(),
    }
}

fn action_text(action: &Action<PgPublisher>) -> String {
    match action {
        Action::Send { to, message } => format!("to {to}: {message:?}"),
        Action::Publish { peers, message } => format!("to {peers:?}: {message:?}"),
        Action::Monitor { id, pid } => format!("monitor {id:?} {pid}"),
        Action::Demonitor { id } => format!("demonitor {id:?}"),
        Action::After { delay, timer } => format!("after {delay:?} {timer:?}"),
        Action::Notify { event, .. } => format!("notify {event:?}"),
        Action::Subscribed { .. } => "subscribed".into(),
        Action::Updated { changed, .. } => format!("updated {changed}"),
        Action::PeerUp { peer, version } => format!("peer up {peer} {}", version.0),
        Action::PeerDown { peer, reason } => format!("peer down {peer} {reason}"),
    }
}

//! The simulated cluster: nodes with one scope each, connections between them, faults, and the
//! checks that run while it goes.
//!
//! A connection is two queues of signals. It can be cut so that a part of what was on its way still
//! arrives, and so that the other side learns it late or never. A node on Rust cuts it itself when what
//! waits for a peer passes the hard mark. Nodes run Rust engines or models of scopes on the BEAM.

mod checks;
mod mutant;
mod network;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::hash::Hash;
use std::time::Duration;

use data_publisher::atom;
use data_publisher::engine::{Action, Engine, EngineOptions, Input, SubscriberId, TimerId};
use data_publisher::term::{Atom, NodeName, Pid, Term};
use rustc_hash::{FxHashMap, FxHasher};

use self::network::{Connection, Signal, Watch, WatchedBy};
use crate::random::Random;
use crate::schedule::{Kind, Op};
use crate::subject::{Beam, Data, Key, Processes, Role, Runs, Subject, Update};

pub(crate) use self::mutant::Mutant;

const SCOPE: Atom = atom!("scope");

/// The subscriber to all there is, from the start of an engine to its end.
const ALL: SubscriberId = SubscriberId(1);

pub(crate) fn node_name(i: usize) -> NodeName {
    NodeName::new(&format!("n{i}@h")).expect("a node name")
}

/// What waits in the inbox of a scope's process.
enum Item<S: Subject> {
    NodeUp { node: usize, connection: u64 },
    NodeDown(usize),
    Message { from: usize, connection: u64, message: Term, is_garbage: bool },
    Down { reference: u64, target: Pid, reason: Atom },
    Update(Update<S>),
}

enum Scope<S: Subject> {
    Rust(Box<Rust<S>>),
    Beam(Box<S::Beam>),
}

struct Rust<S: Subject> {
    engine: Engine<S::Publisher>,
    /// What [`ALL`] makes of what it's told.
    told: S::Told,
    told_mark: u64,
    /// Whether a subscriber has heard something since that was last looked at.
    heard: bool,
    /// Another subscriber, to one key.
    narrow: Option<Narrow<S>>,
    subscriptions: u64,
    /// For each peer on Rust: which of its past states was seen last.
    seen: FxHashMap<Pid, usize>,
    timers: Vec<(Duration, TimerId)>,
    /// When a known peer was asked for its data again.
    asked: BTreeMap<Pid, Duration>,
    /// How much that nobody can read it got.
    garbage: u64,
    /// Whether the mutant [`RestoredInSilence`](Mutant::RestoredInSilence) is at work.
    is_silent: bool,
}

struct Narrow<S: Subject> {
    key: Key<S>,
    subscriber: SubscriberId,
    told: S::Told,
}

/// The process of the operating system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Down,
    Runs,
    /// It neither takes what arrives nor does anything, and keeps its connections.
    Suspended,
}

struct Node<S: Subject> {
    processes: Processes,
    role: Role<S>,
    hidden: bool,
    slow: bool,
    state: State,
    ends: BTreeMap<usize, u64>,
    scope: Option<Scope<S>>,
    inbox: VecDeque<Item<S>>,
    /// The connections the scope knows of: it has handled their `NodeUp`, not yet their `NodeDown`.
    /// What an engine sends goes over these or nowhere.
    handled: BTreeMap<usize, u64>,
    /// What the node owns, as far as it was asked to; what no longer can be is out of it.
    wanted: Data<S>,
    /// What a scope has left to the next.
    left: Option<Data<S>>,
    watching: BTreeMap<u64, Watch>,
    watched_by: Vec<WatchedBy>,
    /// What the mutant [`LateDown`](Mutant::LateDown) keeps back.
    late: Vec<Item<S>>,
}

impl<S: Subject> Node<S> {
    fn name(&self) -> &NodeName {
        &self.processes.node
    }

    fn is_rust(&self) -> bool {
        matches!(self.role, Runs::Rust(_))
    }

    fn scope_pid(&self) -> Option<&Pid> {
        match self.scope.as_ref()? {
            Scope::Rust(rust) => Some(rust.engine.me()),
            Scope::Beam(beam) => Some(beam.me()),
        }
    }

    fn is_alive(&self, pid: &Pid) -> bool {
        self.scope_pid() == Some(pid) || self.processes.living.contains(pid)
    }
}

/// What schedules are to lead to: a fault that can't happen finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Met {
    Crashed,
    Suspended,
    /// A step that a slow node didn't take.
    Slow,
    /// What was on its way arrived in part, and then the end of the connection.
    LearntLate,
    /// The end of the connection never arrived.
    HalfOpen,
    /// An end that the other side held for alive when it dialled anew.
    Replaced,
    /// A peer was shed over the hard mark.
    Shed,
    /// Local data went where more than the hard mark would have waited with it.
    LargePassed,
    Duplicate,
    Spoofed,
    Unreadable,
    /// The same, in the place of an update.
    UpdateUnreadable,
    Nonsense,
    StaleDown,
    /// A message of a connection that is gone: dropped by an engine, handled on the BEAM.
    LateMessage,
    LateOnBeam,
    /// Two processes of one node were known at once.
    TwoOfNode,
}

impl Met {
    pub(crate) const ALL: [Self; 17] = [
        Self::Crashed,
        Self::Suspended,
        Self::Slow,
        Self::LearntLate,
        Self::HalfOpen,
        Self::Replaced,
        Self::Shed,
        Self::LargePassed,
        Self::Duplicate,
        Self::Spoofed,
        Self::Unreadable,
        Self::UpdateUnreadable,
        Self::Nonsense,
        Self::StaleDown,
        Self::LateMessage,
        Self::LateOnBeam,
        Self::TwoOfNode,
    ];
}

/// A scope of now or then.
struct Past<S: Subject> {
    role: Role<S>,
    /// All states it ever published, if it's on Rust.
    states: Vec<[u64; 2]>,
}

pub(crate) struct World<S: Subject> {
    subject: S,
    random: Random,
    now: Duration,
    nodes: Vec<Node<S>>,
    /// How much may wait for one peer of a node on Rust, in things.
    hard_mark: usize,
    connections: BTreeMap<u64, Connection>,
    used_connections: u64,
    scopes: FxHashMap<Pid, Past<S>>,
    mutant: Option<Mutant>,
    /// Whether faults have ended.
    heals: bool,
    /// A bit for each thing [met](Met).
    met: u32,
    actions: Vec<Action<S::Publisher>>,
    pub(crate) log: Option<Vec<String>>,
    pub(crate) hash: Option<FxHasher>,
}

impl<S: Subject> World<S> {
    pub(crate) fn new(cast: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::new(cast);
        let subject = S::draw(&mut random);
        let count = 2 + random.below(4);
        let slow = random.chance(30).then(|| random.below(count));
        let only_rust = random.chance(40);
        let nodes = (0..count).map(|i| {
            let is_rust = i == 0 || only_rust || random.chance(40);
            let role = if is_rust {
                Runs::Rust(subject.draw_edition(&mut random))
            } else {
                Runs::Beam(subject.draw_release(&mut random))
            };
            Node {
                processes: Processes { node: node_name(i), creation: 4, used: 0, living: vec![] },
                role,
                hidden: is_rust && random.chance(25),
                slow: slow == Some(i),
                state: State::Down,
                ends: BTreeMap::new(),
                scope: None,
                inbox: VecDeque::new(),
                handled: BTreeMap::new(),
                wanted: S::nothing(),
                left: None,
                watching: BTreeMap::new(),
                watched_by: Vec::new(),
                late: Vec::new(),
            }
        });
        let nodes: Vec<Node<S>> = nodes.collect();
        Self {
            subject,
            random,
            now: Duration::ZERO,
            nodes,
            // Not drawn with the rest: what has failed before there was a mark is to happen again.
            hard_mark: [5, 12, 40, usize::MAX][Random::new(!cast).below(4)],
            connections: BTreeMap::new(),
            used_connections: 0,
            scopes: FxHashMap::default(),
            mutant,
            heals: false,
            met: 0,
            actions: Vec::new(),
            log: None,
            hash: None,
        }
    }

    /// Has it all happen, and then the end of all faults; panics where a check fails.
    pub(crate) fn run(&mut self, ops: &[Op]) {
        for i in 0..self.nodes.len() {
            self.start_node(i);
        }
        for op in ops {
            if let Some(log) = &mut self.log {
                log.push(op.to_string());
            }
            self.perform(*op);
        }
        self.heal();
    }

    fn met(&mut self, what: Met) {
        self.met |= 1 << what as u32;
    }

    pub(crate) fn has_met(&self, what: Met) -> bool {
        self.met & 1 << what as u32 != 0
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
            log.push(format!("#   {text}"));
        }
    }

    fn perform(&mut self, op: Op) {
        self.now += Duration::from_millis(1);
        self.random = Random::new(op.roll);
        let (i, j) = (op.node % self.nodes.len(), op.other % self.nodes.len());
        // One that is stopped may be killed or go on.
        let happens =
            matches!(op.kind, Kind::Suspend | Kind::Crash | Kind::Deliver | Kind::Duplicate);
        if !happens && self.nodes[i].state == State::Suspended {
            return;
        }
        match op.kind {
            Kind::Change => self.change(i),
            Kind::EndProcess => self.end_process(i),
            Kind::Connect => self.connect(i, j),
            Kind::Timer => self.fire_timer(i),
            Kind::Subscribe => self.subscribe(i),
            Kind::Deliver => self.deliver_some(),
            Kind::Step => self.step(i),
            Kind::Cut => self.cut(i, j),
            Kind::Suspend => self.suspend(i),
            Kind::Crash => self.crash_node(i),
            Kind::Start => self.start_node(i),
            Kind::StopScope => self.stop_scope(i),
            Kind::RestartScope => self.restart_scope(i),
            Kind::Duplicate => self.plant_duplicate(),
            Kind::Lie => self.plant_lie(i, j),
        }
    }

    // --- what nodes own ---

    fn change(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        if node.scope.is_none() {
            return;
        }
        let (role, processes) = (&node.role, &mut node.processes);
        let update = self.subject.draw_update(role, processes, &mut self.random);
        let Some(update) = update else { return };
        S::apply(&update, &mut node.wanted);
        self.note(|world| format!("{}: wants {update:?}", world.nodes[i].name()));
        self.nodes[i].inbox.push_back(Item::Update(update));
    }

    fn end_process(&mut self, i: usize) {
        let living = &mut self.nodes[i].processes.living;
        if living.is_empty() {
            return;
        }
        let pid = living.swap_remove(self.random.below(living.len()));
        self.note(|_| format!("{pid} ends"));
        S::process_ended(&pid, &mut self.nodes[i].wanted);
        self.process_ended(i, &pid, &atom!("normal"));
    }

    // --- scopes and nodes ---

    fn start_node(&mut self, i: usize) {
        if self.nodes[i].state != State::Down {
            return;
        }
        self.note(|world| format!("{}: node starts", world.nodes[i].name()));
        self.nodes[i].state = State::Runs;
        if self.mutant == Some(Mutant::ReusedCreation) {
            self.nodes[i].processes.used = 0;
        } else {
            self.nodes[i].processes.creation += 1;
        }
        self.start_scope(i);
    }

    fn suspend(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.state = match node.state {
            State::Down => return,
            State::Runs => State::Suspended,
            State::Suspended => State::Runs,
        };
        self.note(|world| format!("{}: {:?}", world.nodes[i].name(), world.nodes[i].state));
        self.met(Met::Suspended);
    }

    /// Nobody gets to say goodbye; the others see their connections end, or don't.
    fn crash_node(&mut self, i: usize) {
        if self.nodes[i].state == State::Down {
            return;
        }
        self.note(|world| format!("{}: node crashes", world.nodes[i].name()));
        self.met(Met::Crashed);
        for (j, connection) in std::mem::take(&mut self.nodes[i].ends) {
            self.lose(i, j, connection);
        }
        let node = &mut self.nodes[i];
        node.state = State::Down;
        node.scope = None;
        node.inbox.clear();
        node.processes.living.clear();
        node.wanted = S::nothing();
        node.left = None;
        node.watching.clear();
        node.watched_by.clear();
    }

    fn start_scope(&mut self, i: usize) {
        if self.nodes[i].state == State::Down || self.nodes[i].scope.is_some() {
            return;
        }
        let node = &mut self.nodes[i];
        self.subject.may_change(&mut node.role, &mut self.random);
        let me = node.processes.new_pid();
        let role = node.role.clone();
        self.note(|_| format!("{me}: scope starts as {role:?}"));
        let node = &mut self.nodes[i];
        node.inbox.clear();
        node.handled.clear();
        let left = node.left.take();
        let states = if node.is_rust() { vec![S::marks(&S::nothing())] } else { Vec::new() };
        self.scopes.insert(me.clone(), Past { role: role.clone(), states });
        match &role {
            Runs::Rust(edition) => self.start_engine(i, me, edition, left),
            Runs::Beam(release) => self.start_beam(i, me, release, left),
        }
    }

    /// What the scope before it has left comes first: before anybody is met.
    fn start_engine(&mut self, i: usize, me: Pid, edition: &S::Edition, left: Option<Data<S>>) {
        let publisher = self.subject.publisher(edition);
        let engine = Engine::new(SCOPE, me, publisher, EngineOptions::default());
        self.nodes[i].scope = Some(Scope::Rust(Box::new(Rust {
            engine,
            told: S::Told::default(),
            told_mark: 0,
            heard: false,
            narrow: None,
            subscriptions: 1,
            seen: FxHashMap::default(),
            timers: Vec::new(),
            asked: BTreeMap::new(),
            garbage: 0,
            is_silent: false,
        })));
        self.feed(i, Input::Subscribe { key: S::all(), subscriber: ALL });
        if let Some(left) = left {
            self.restore(i, &left);
        }
        let node = &mut self.nodes[i];
        let up = |(node, connection): (&usize, &u64)| Item::NodeUp {
            node: *node,
            connection: *connection,
        };
        node.inbox.extend(node.ends.iter().map(up));
    }

    fn start_beam(&mut self, i: usize, me: Pid, release: &S::Release, left: Option<Data<S>>) {
        let beam = self.subject.beam(release, me, left);
        let hello = beam.hello();
        self.nodes[i].wanted = beam.local();
        self.nodes[i].scope = Some(Scope::Beam(Box::new(beam)));
        for (j, connection) in self.nodes[i].ends.clone() {
            if !self.nodes[j].hidden {
                self.send(i, j, connection, Signal::ToName(hello.clone()));
            }
        }
    }

    /// What the engine owns is for the next one, less what was owned by processes that have ended.
    /// Updates it hasn't handled are lost: whoever waits for one is told.
    fn stop_scope(&mut self, i: usize) {
        let Some(me) = self.nodes[i].scope_pid().cloned() else { return };
        self.note(|_| format!("{me}: scope stops"));
        let node = &mut self.nodes[i];
        node.left = match node.scope.take() {
            Some(Scope::Rust(rust)) => Some(rust.engine.stop()),
            Some(Scope::Beam(beam)) => beam.leave(),
            None => None,
        };
        node.wanted = node.left.clone().unwrap_or_else(S::nothing);
        for pid in S::processes(&node.wanted) {
            if !node.processes.living.contains(&pid) {
                S::process_ended(&pid, &mut node.wanted);
            }
        }
        node.inbox.clear();
        let running = std::mem::take(&mut node.watching);
        for (reference, watch) in running {
            self.unwatch(i, &me, reference, &watch);
        }
        self.process_ended(i, &me, &atom!("shutdown"));
    }

    /// With or without a pause in which the others may see that it was gone.
    fn restart_scope(&mut self, i: usize) {
        if self.random.chance(50) {
            self.stop_scope(i);
        }
        self.start_scope(i);
    }

    /// Describes the cluster, for the head of a replay.
    pub(crate) fn cast(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let hidden = if node.hidden { ", hidden" } else { "" };
            let slow = if node.slow { ", slow" } else { "" };
            let _ = write!(text, "{} ({:?}{hidden}{slow})  ", node.name(), node.role);
        }
        if self.hard_mark < usize::MAX {
            let _ = write!(text, "hard mark {}", self.hard_mark);
        }
        text
    }
}

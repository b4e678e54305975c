//! The model: a node and its scope as they are this second, and what happens in them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use data_publisher::Node;
use data_publisher::node::{ConnectionStats, NodeStats};
use data_publisher::scope::{ScopeStats, ScopeStopped};
use data_publisher::term::NodeName;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use super::ask::{self, Answers, Said};
use super::event::{Happened, cut};
use super::history::{History, Rates, Sample};
use super::ready::{self, Readiness};
use super::search::{Found, Search};
use super::source::Source;
use super::tell::{self, Told, agreed};
use crate::words::Counted;

/// How often a snapshot is made.
const EACH: Duration = Duration::from_secs(1);

/// How long the scope may take to tell how it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// All there is to see, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: SystemTime,
    /// Our node.
    pub(crate) name: NodeName,
    pub(crate) creation: u32,
    pub(crate) port: u16,
    pub(crate) started: SystemTime,
    pub(crate) processes: usize,
    pub(crate) queued_bytes: usize,
    /// Connected nodes, sorted.
    pub(crate) nodes: Vec<NodeRow>,
    /// Connections that have closed: why, whether that's a fault, and how many.
    pub(crate) closed: Vec<(&'static str, bool, u64)>,
    pub(crate) scope: ScopeRow,
    pub(crate) ready: Readiness,
    /// The last two minutes, oldest first.
    pub(crate) history: VecDeque<Sample>,
    /// As the page gets it; made by the first who wants it.
    pub(super) json: OnceLock<Arc<str>>,
}

/// A connected node.
#[derive(Clone, Debug)]
pub(crate) struct NodeRow {
    pub(crate) name: NodeName,
    pub(crate) creation: u32,
    pub(crate) visible: bool,
    /// What the connection can do, in words.
    pub(crate) agreed: String,
    pub(crate) up_for: Duration,
    pub(crate) silent_for: Duration,
    /// Bytes and signals since it came up.
    pub(crate) received: (u64, u64),
    pub(crate) sent: (u64, u64),
    pub(crate) rates: Rates,
    pub(crate) queued_bytes: usize,
    pub(crate) unhandled_bytes: usize,
    pub(crate) round_trip: Option<Duration>,
    /// Whom it says it's connected to.
    pub(crate) knows: Arc<[NodeName]>,
    /// Its process in the scope; the youngest if there are several.
    pub(crate) peer: Option<PeerRow>,
}

/// A process that runs the scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PeerRow {
    pub(crate) pid: String,
    /// `None` until it has said it.
    pub(crate) version: Option<String>,
    /// Whether its data is here.
    pub(crate) synced: bool,
}

/// The scope.
#[derive(Clone, Debug)]
pub(crate) struct ScopeRow {
    pub(crate) name: String,
    pub(crate) module: &'static str,
    /// What its entries are.
    pub(crate) entries: Counted,
    pub(crate) count: usize,
    /// Whether it has told how it is; if not, the numbers are those it told last.
    pub(crate) answers: bool,
    pub(crate) peers: usize,
    pub(crate) synced: usize,
    pub(crate) subscribers: usize,
    pub(crate) updates: (u64, u64),
    pub(crate) snapshots: (u64, u64),
    /// What was refused, by reason.
    pub(crate) refused: Vec<(&'static str, u64)>,
    /// Who is waited for.
    pub(crate) awaited: Vec<NodeName>,
}

/// A node that is looked at. Its tasks end when this is dropped.
#[derive(Debug)]
pub(crate) struct Model {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    ready: watch::Receiver<Readiness>,
    told: Told,
    search: Arc<Search>,
    _tasks: JoinSet<()>,
}

impl Model {
    /// Starts to look; returns with the first snapshot.
    pub(crate) async fn start(node: &Node, source: Source) -> Result<Self, ScopeStopped> {
        let (answers, told) = (Answers::default(), Told::default());
        let (ready_state, ready) = watch::channel(Readiness::Waiting);
        let changes = source.changes().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(ask::run(node.clone(), answers.clone()));
        tasks.spawn(ready::run(node.clone(), source.clone(), ready_state));
        tasks.spawn(tell::run(node.clone(), source.clone(), changes, told.clone()));
        let mut look = Look {
            node: node.clone(),
            source: source.clone(),
            answers,
            ready: ready.clone(),
            history: History::default(),
            last: None,
            started: SystemTime::now(),
        };
        let search = Arc::new(Search::new(source));
        let (sender, snapshot) = watch::channel(Arc::new(look.look().await));
        let searched = search.clone();
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(EACH);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            tick.reset();
            loop {
                tick.tick().await;
                sender.send_replace(Arc::new(look.look().await));
                searched.forget_old();
            }
        });
        Ok(Self { snapshot, ready, told, search, _tasks: tasks })
    }

    /// How it was a second ago, or since.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Each snapshot from now on.
    pub(crate) fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The last events, oldest first, and those that come.
    pub(crate) fn events(&self) -> (Vec<Arc<Happened>>, broadcast::Receiver<Arc<Happened>>) {
        self.told.listen()
    }

    /// Entries whose names have this text in them.
    pub(crate) async fn find(&self, text: &str, most: usize) -> Found {
        self.search.find(text, most).await
    }

    /// Whether every connected peer has answered, at this moment.
    pub(super) fn readiness(&self) -> Readiness {
        *self.ready.borrow()
    }
}

/// Makes one snapshot after the other.
struct Look {
    node: Node,
    source: Source,
    answers: Answers,
    ready: watch::Receiver<Readiness>,
    history: History,
    last: Option<ScopeStats>,
    started: SystemTime,
}

impl Look {
    async fn look(&mut self) -> Snapshot {
        let asked = tokio::time::timeout(PATIENCE, self.source.stats()).await;
        let told = asked.ok().and_then(Result::ok);
        let node = self.node.stats();
        let said = self.answers.all();
        let round_trips = said.values().filter_map(|said| said.round_trip).collect();
        let rates = self.history.take(Instant::now(), &node, told.as_ref(), round_trips);
        let answers = told.is_some();
        self.last = told.or(self.last.take());
        let scope = ScopeRow::of(&self.source, self.last.as_ref(), answers);
        let rows = node.connections.iter().map(|connection| {
            let name = &connection.node;
            let rates = rates.get(name).copied().unwrap_or_default();
            let peer = self.last.as_ref().and_then(|scope| PeerRow::of(scope, name));
            NodeRow::of(connection, rates, said.get(name), peer)
        });
        let nodes = rows.collect();
        let NodeStats { closed, queued_bytes, processes, .. } = node;
        Snapshot {
            at: SystemTime::now(),
            name: self.node.name().clone(),
            creation: self.node.creation().0,
            port: self.node.port(),
            started: self.started,
            processes,
            queued_bytes,
            nodes,
            closed: closed.iter().map(|c| (c.reason, c.is_fault, c.count)).collect(),
            scope,
            ready: *self.ready.borrow(),
            history: self.history.samples.clone(),
            json: OnceLock::new(),
        }
    }
}

impl NodeRow {
    fn of(
        connection: &ConnectionStats,
        rates: Rates,
        said: Option<&Said>,
        peer: Option<PeerRow>,
    ) -> Self {
        Self {
            name: connection.node.clone(),
            creation: connection.creation.0,
            visible: connection.visible,
            agreed: agreed(connection.flags),
            up_for: connection.up_for,
            silent_for: connection.silent_for,
            received: (connection.received.bytes, connection.received.signals),
            sent: (connection.sent.bytes, connection.sent.signals),
            rates,
            queued_bytes: connection.queued_bytes,
            unhandled_bytes: connection.unhandled_bytes,
            round_trip: said.and_then(|said| said.round_trip),
            knows: said.map(|said| said.nodes.clone()).unwrap_or_default(),
            peer,
        }
    }
}

impl PeerRow {
    fn of(scope: &ScopeStats, node: &NodeName) -> Option<Self> {
        let peer = scope.peers.iter().rfind(|peer| peer.pid.node == *node)?;
        Some(Self {
            pid: peer.pid.to_string(),
            version: peer.version.as_ref().map(|version| cut(&version.0)),
            synced: peer.synced,
        })
    }
}

impl ScopeRow {
    fn of(source: &Source, told: Option<&ScopeStats>, answers: bool) -> Self {
        let mut row = Self {
            name: source.name().to_string(),
            module: source.module(),
            entries: source.entries(),
            count: source.count(),
            answers,
            peers: 0,
            synced: 0,
            subscribers: 0,
            updates: (0, 0),
            snapshots: (0, 0),
            refused: Vec::new(),
            awaited: Vec::new(),
        };
        if let Some(told) = told {
            row.peers = told.peers.len();
            row.synced = told.peers.iter().filter(|peer| peer.synced).count();
            row.subscribers = told.subscribers;
            row.updates = (told.exchanged.updates_in, told.exchanged.updates_out);
            row.snapshots = (told.exchanged.snapshots_in, told.exchanged.snapshots_out);
            row.awaited.clone_from(&told.awaited);
            let refused = &told.refused;
            row.refused = vec![
                ("spoofed", refused.spoofed),
                ("own", refused.own),
                ("stranger", refused.strangers),
                ("early", refused.early),
                ("crowded_out", refused.crowded_out),
                ("unreadable", refused.unreadable),
                ("unknown", refused.unknown),
                ("refused_call", refused.refused_calls),
                ("late_down", refused.late_downs),
            ];
        }
        row
    }
}

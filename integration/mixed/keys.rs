//! The same with `dp_kv` on OTP 29's own `data_publisher` and our `kv`: each node owns its keys, a scope that is
//! started again on its node still has them, and a node that starts anew has none.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::kv::{Event, Kv, KvPublisher, Owners};
use data_publisher::scope::{Notice, Subscription};
use data_publisher::term::{Atom, Term};
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::cluster::{Cluster, Host, Sight};
use super::model::{View, comparable};
use super::plan::{GROUPS, another};
use super::rest;
use crate::publish::load;

/// One thing that happens; keys are named as groups are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Put {
        node: usize,
        key: usize,
        value: u8,
    },
    Delete {
        node: usize,
        key: usize,
    },
    /// The scope ends on a node: on the BEAM it's killed, in Rust it's stopped.
    StopScope {
        node: usize,
    },
    StartScope {
        node: usize,
    },
    Disconnect {
        by: usize,
        from: usize,
    },
    Connect {
        by: usize,
        to: usize,
    },
    RestartNode {
        node: usize,
        hidden: bool,
    },
    Pause {
        milliseconds: u64,
    },
}

pub(super) fn operations(seed: u64, count: Option<u64>, beam: usize, rust: usize) -> Vec<Op> {
    let mut random = StdRng::seed_from_u64(seed);
    let length = random.random_range(10..=40);
    (0..count.unwrap_or(length)).map(|_| operation(&mut random, beam, rust)).collect()
}

fn operation(random: &mut impl Rng, beam: usize, rust: usize) -> Op {
    let nodes = beam + rust;
    let node = random.random_range(0..nodes);
    let key = random.random_range(0..GROUPS.len());
    match random.random_range(0..1000) {
        0..450 => Op::Put { node, key, value: random.random_range(0..4) },
        450..600 => Op::Delete { node, key },
        600..660 => Op::StopScope { node },
        660..740 => Op::StartScope { node },
        740..810 => Op::Disconnect { by: node, from: another(random, node, nodes) },
        810..910 => Op::Connect { by: node, to: another(random, node, nodes) },
        910..940 => {
            Op::RestartNode { node: beam + random.random_range(0..rust), hidden: random.random() }
        }
        // It costs a second.
        940..943 => Op::RestartNode { node: random.random_range(0..beam), hidden: false },
        _ => Op::Pause { milliseconds: random.random_range(1..6) },
    }
}

/// A line such as `put 3 {g,1} 2`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { node, key, value } => write!(f, "put {node} {} {value}", GROUPS[*key]),
            Self::Delete { node, key } => write!(f, "delete {node} {}", GROUPS[*key]),
            Self::StopScope { node } => write!(f, "stop_scope {node}"),
            Self::StartScope { node } => write!(f, "start_scope {node}"),
            Self::Disconnect { by, from } => write!(f, "disconnect {by} {from}"),
            Self::Connect { by, to } => write!(f, "connect {by} {to}"),
            Self::RestartNode { node, hidden: true } => write!(f, "restart_node {node} hidden"),
            Self::RestartNode { node, .. } => write!(f, "restart_node {node}"),
            Self::Pause { milliseconds } => write!(f, "pause {milliseconds} ms"),
        }
    }
}

/// The values at a key, as `Node = Value`.
type Values = View<String>;

/// One run of a plan, in a scope that nothing else uses.
pub(super) struct Sequence<'a> {
    cluster: &'a mut Cluster,
    scope: String,
    /// What each node has put.
    model: Vec<BTreeMap<&'static str, u8>>,
    /// Where the scope runs.
    running: Vec<bool>,
    /// The scopes of the Rust nodes.
    stores: Vec<Option<Store>>,
}

/// A scope here, and a subscriber that knows nothing but what it's told.
struct Store {
    kv: Kv,
    told: BTreeMap<Term, Owners>,
    changes: Subscription<KvPublisher>,
}

impl<'a> Sequence<'a> {
    /// Returns how long it took from the last operation to rest.
    pub(super) async fn run(cluster: &'a mut Cluster, seed: u64, plan: &[Op]) -> Result<Duration> {
        let nodes = cluster.nodes.len();
        let mut this = Self {
            cluster,
            scope: format!("k{seed}"),
            model: vec![BTreeMap::new(); nodes],
            running: vec![false; nodes],
            stores: (0..nodes).map(|_| None).collect(),
        };
        for node in 0..nodes {
            this.start_scope(node).await?;
        }
        for op in plan {
            this.perform(op).await.with_context(|| format!("`{op}`"))?;
        }
        let start = Instant::now();
        for node in 0..nodes {
            this.start_scope(node).await?;
        }
        let Self { cluster, model, stores, scope, .. } = &mut this;
        let expected = expected(cluster, model);
        rest(cluster, &expected, async |cluster| look(cluster, stores, scope).await).await?;
        let to_rest = start.elapsed();
        this.clean_up().await?;
        let crashes = this.cluster.crashes().await?;
        ensure!(crashes.is_empty(), "a crash:\n{crashes}");
        Ok(to_rest)
    }

    async fn perform(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Put { node, key, value } if self.running[*node] => {
                let key = GROUPS[*key];
                match (&self.cluster.nodes[*node], &self.stores[*node]) {
                    (Host::Beam(beam), _) => {
                        beam.say(&format!("ok = dp_kv:put({}, {key}, {value})", self.scope))
                            .await?;
                    }
                    (Host::Rust(_), store) => {
                        let store = store.as_ref().context("the scope runs")?;
                        store.kv.put(key.parse::<Term>()?, i64::from(*value)).await?;
                    }
                }
                self.model[*node].insert(key, *value);
            }
            Op::Delete { node, key } if self.running[*node] => {
                let key = GROUPS[*key];
                let was_there = self.model[*node].remove(key).is_some();
                match (&self.cluster.nodes[*node], &self.stores[*node]) {
                    (Host::Beam(beam), _) => {
                        beam.say(&format!("ok = dp_kv:delete({}, {key})", self.scope)).await?;
                    }
                    (Host::Rust(_), store) => {
                        let store = store.as_ref().context("the scope runs")?;
                        let deleted = store.kv.delete(key.parse::<Term>()?).await?;
                        ensure!(deleted == was_there, "deleted: {deleted}, not {was_there}");
                    }
                }
            }
            Op::Put { .. } | Op::Delete { .. } => {}
            Op::StopScope { node } => self.stop_scope(*node).await?,
            Op::StartScope { node } => self.start_scope(*node).await?,
            Op::Disconnect { by, from } => self.cluster.disconnect(*by, *from).await?,
            Op::Connect { by, to } => self.cluster.connect(*by, *to).await?,
            Op::RestartNode { node, hidden } => {
                // Whoever has a scope has its node running.
                self.stores[*node] = None;
                self.cluster.restart(*node, *hidden).await?;
                self.model[*node].clear();
                self.running[*node] = false;
                self.start_scope(*node).await?;
            }
            Op::Pause { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            }
        }
        Ok(())
    }

    async fn start_scope(&mut self, node: usize) -> Result<()> {
        if self.running[node] {
            return Ok(());
        }
        match &self.cluster.nodes[node] {
            Host::Beam(beam) => {
                if beam.ask("code:is_loaded(dp_kv) =/= false").await?.is_atom("false") {
                    load(&beam.node).await?;
                }
                beam.say(&format!("{{ok, _}} = dp_kv:start({})", self.scope)).await?;
            }
            Host::Rust(rust) => {
                let kv = Kv::start(rust.node()?, Atom::new(&self.scope)?)?;
                let (told, changes) = kv.subscribe().await?;
                self.stores[node] = Some(Store { kv, told, changes });
            }
        }
        self.running[node] = true;
        Ok(())
    }

    async fn stop_scope(&mut self, node: usize) -> Result<()> {
        if self.running[node] {
            match &self.cluster.nodes[node] {
                Host::Beam(beam) => {
                    beam.say(&format!("probe:kill_scope({})", self.scope)).await?;
                }
                Host::Rust(_) => {
                    let store = self.stores[node].take().context("the scope runs")?;
                    drop(store.changes);
                    store.kv.stop().await;
                }
            }
            self.running[node] = false;
        }
        Ok(())
    }

    async fn clean_up(&mut self) -> Result<()> {
        for node in 0..self.cluster.nodes.len() {
            self.stop_scope(node).await?;
            if let Host::Beam(beam) = &self.cluster.nodes[node] {
                beam.say(&format!("dp_kv_keeper:drop({})", self.scope)).await?;
            }
        }
        Ok(())
    }
}

fn expected(cluster: &Cluster, model: &[BTreeMap<&'static str, u8>]) -> Values {
    let mut all = Values::new();
    for (host, keys) in cluster.nodes.iter().zip(model) {
        for (key, value) in keys {
            all.entry((*key).to_owned()).or_default().push(format!("{} = {value}", host.name()));
        }
    }
    comparable(all)
}

async fn look(
    cluster: &mut Cluster,
    stores: &mut [Option<Store>],
    scope: &str,
) -> Result<Vec<Sight<String>>> {
    let mut seen = Vec::new();
    for (host, store) in cluster.nodes.iter().zip(stores) {
        seen.push(match host {
            Host::Beam(beam) => {
                let look = format!("{{nodes(connected), dp_kv:get_all({scope})}}");
                let answer = beam.ask(&look).await?;
                let [nodes, keys] = answer.tuple::<2>()?;
                let mut view = Values::new();
                for (key, owners) in keys.map()?.pairs() {
                    let values = view.entry(key.to_string()).or_default();
                    for (node, value) in owners.map()?.pairs() {
                        values.push(format!("{} = {value}", node.node_name()?));
                    }
                }
                let nodes = nodes.list()?.iter();
                let nodes = nodes.map(|node| Ok(node.node_name()?.as_str().to_owned()));
                let nodes = nodes.collect::<Result<_>>()?;
                Sight { nodes, view: comparable(view), followed: None }
            }
            Host::Rust(rust) => {
                let store = store.as_mut().context("the scope runs")?;
                store.follow()?;
                let nodes = rust.node()?.nodes();
                let nodes = nodes.iter().map(|node| node.as_str().to_owned()).collect();
                let (view, followed) = (values(&store.kv.get_all()), values(&store.told));
                Sight { nodes, view, followed: Some(followed) }
            }
        });
    }
    Ok(seen)
}

fn values(keys: &BTreeMap<Term, Owners>) -> Values {
    let values = keys.iter().map(|(key, owners)| {
        let values = owners.iter().map(|(node, value)| format!("{node} = {value}"));
        (key.to_string(), values.collect())
    });
    comparable(values.collect())
}

impl Store {
    /// Takes what it was told by now.
    fn follow(&mut self) -> Result<()> {
        while let Some(Some(notice)) = self.changes.next().now_or_never() {
            match notice {
                Notice::Event(Event::Put { node, key, value }) => {
                    self.told.entry(key).or_default().insert(node, value);
                }
                Notice::Event(Event::Delete { node, key }) => {
                    let owners = self.told.get_mut(&key);
                    let gone = owners.and_then(|owners| owners.remove(&node));
                    ensure!(gone.is_some(), "{node} has deleted {key} without putting it");
                }
                Notice::Lagged(_) => anyhow::bail!("told too much"),
            }
        }
        Ok(())
    }
}

//! Warm nodes of both kinds, and how each does what a plan says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use data_publisher::{
    Cookie, Node, NodeConfig, Pg,
    node::{Process, StartError},
    pg,
    term::{Atom, NodeName, Pid, Term},
};
use futures::FutureExt;
use tokio::task::JoinSet;

use super::model::{Member, View, comparable};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_until};

/// Nodes that know each other only by what the test makes them do.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Host>,
    beam: usize,
    _epmd: Epmd,
}

/// What a node sees.
#[derive(Debug)]
pub(super) struct Sight<T = Member> {
    pub(super) nodes: BTreeSet<String>,
    pub(super) view: View<T>,
    /// The view to which what a subscriber was told leads, on a Rust node.
    pub(super) followed: Option<View<T>>,
}

impl Cluster {
    /// Starts BEAM nodes of these releases and two Rust nodes, the second one hidden.
    pub(super) async fn start(releases: &[Otp]) -> Result<Self> {
        let epmd = Epmd::start().await?;
        let port = epmd.port();
        let beam = releases.iter().enumerate().map(|(place, otp)| {
            ErlNode::options(*otp, &format!("n{place}"), port)
                .connect_all_false()
                .arguments(&["-kernel", "dist_auto_connect", "never"])
                .start()
        });
        let beam = futures::future::try_join_all(beam).await?;
        let mut nodes: Vec<_> = beam.into_iter().map(Host::beam).collect();
        for (place, hidden) in [(releases.len(), false), (releases.len() + 1, true)] {
            let name = NodeName::new(&format!("n{place}@127.0.0.1"))?;
            nodes.push(Host::rust(name, port, hidden).await?);
        }
        Ok(Self { nodes, beam: releases.len(), _epmd: epmd })
    }

    /// How many nodes are BEAM nodes; they come first.
    pub(super) fn beam(&self) -> usize {
        self.beam
    }

    pub(super) fn rust(&self) -> usize {
        self.nodes.len() - self.beam
    }

    /// What a node sees; all are asked at the same time.
    pub(super) async fn look(&mut self) -> Result<Vec<Sight>> {
        futures::future::try_join_all(self.nodes.iter_mut().map(Host::look)).await
    }

    /// One end dials the other. Nobody waits for it.
    pub(super) async fn connect(&mut self, by: usize, to: usize) -> Result<()> {
        let to = self.nodes[to].name().to_owned();
        self.nodes[by].connect(&to).await
    }

    pub(super) async fn disconnect(&mut self, by: usize, from: usize) -> Result<()> {
        let from = self.nodes[from].name().to_owned();
        self.nodes[by].disconnect(&from).await
    }

    /// A node ends without a word and starts again, without the scope. A Rust node dials all.
    pub(super) async fn restart(&mut self, node: usize, hidden: bool) -> Result<()> {
        let names: Vec<_> = self.nodes.iter().map(|host| host.name().to_owned()).collect();
        match &mut self.nodes[node] {
            Host::Beam(beam) => beam.node.restart().await?,
            Host::Rust(rust) => {
                rust.restart(hidden).await?;
                for name in &names {
                    // Dialling itself is an error that nobody looks at.
                    rust.connect(name)?;
                }
            }
        }
        Ok(())
    }

    /// The crash reports on any of the BEAM nodes.
    pub(super) async fn crashes(&self) -> Result<String> {
        let mut crashes = String::new();
        for host in &self.nodes {
            if let Host::Beam(beam) = host {
                crashes += &beam.node.unexpected_crashes().await?.concat();
            }
        }
        Ok(crashes)
    }

    pub(super) async fn finish(self) -> Result<()> {
        for host in self.nodes {
            host.finish().await?;
        }
        Ok(())
    }
}

/// A node of either kind.
pub(super) enum Host {
    Beam(Box<BeamNode>),
    Rust(Box<RustNode>),
}

impl Host {
    pub(super) fn beam(node: ErlNode) -> Self {
        Self::Beam(Box::new(BeamNode { node, scope: String::new() }))
    }

    /// Starts a Rust node.
    pub(super) async fn rust(name: NodeName, epmd_port: u16, hidden: bool) -> Result<Self> {
        Ok(Self::Rust(Box::new(RustNode::start(name, epmd_port, hidden).await?)))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Beam(beam) => beam.node.name(),
            Self::Rust(rust) => rust.name.as_str(),
        }
    }

    pub(super) async fn start_scope(&mut self, scope: &str) -> Result<()> {
        match self {
            Self::Beam(beam) => {
                scope.clone_into(&mut beam.scope);
                beam.say(&format!("probe:start_scope({scope})")).await
            }
            Self::Rust(rust) => rust.start_scope(scope).await,
        }
    }

    pub(super) async fn stop_scope(&mut self) -> Result<()> {
        match self {
            Self::Beam(beam) => beam.say(&format!("probe:kill_scope({})", beam.scope)).await,
            Self::Rust(rust) => {
                rust.follower = None;
                rust.pg.take().context("the scope runs")?.stop().await;
                Ok(())
            }
        }
    }

    /// New processes.
    pub(super) async fn spawn(&mut self, count: usize) -> Result<Vec<Member>> {
        match self {
            Self::Beam(beam) => {
                let spawn = "[probe:plain(probe:collector()) || _ <- lists:seq(1, ~)]";
                let pids = beam.ask(&spawn.replace('~', &count.to_string())).await?;
                pids.list()?.iter().map(Member::read).collect()
            }
            Self::Rust(rust) => (0..count).map(|_| rust.spawn()).collect(),
        }
    }

    pub(super) async fn join(&mut self, group: &str, members: &[Member]) -> Result<()> {
        match self {
            Self::Beam(beam) => {
                let (scope, pids) = (&beam.scope, local_pids(members));
                beam.say(&format!("ok = pg:join({scope}, {group}, {pids})")).await
            }
            Self::Rust(rust) => {
                let pids = rust.pids(members)?;
                Ok(rust.pg()?.join(group.parse::<Term>()?, pids).await?)
            }
        }
    }

    /// Whether there was one that left.
    pub(super) async fn leave(&mut self, group: &str, members: &[Member]) -> Result<bool> {
        match self {
            Self::Beam(beam) => {
                let (scope, pids) = (&beam.scope, local_pids(members));
                let left = beam.ask(&format!("pg:leave({scope}, {group}, {pids})")).await?;
                Ok(left.is_atom("ok"))
            }
            Self::Rust(rust) => {
                let pids = rust.pids(members)?;
                Ok(rust.pg()?.leave(group.parse::<Term>()?, pids).await?)
            }
        }
    }

    pub(super) async fn kill(&mut self, members: &[Member]) -> Result<()> {
        match self {
            Self::Beam(beam) => {
                for member in members {
                    beam.say(&format!("probe:stop({})", local_pids(std::slice::from_ref(member))))
                        .await?;
                }
            }
            Self::Rust(rust) => {
                for member in members {
                    rust.processes.remove(member).context("the process lives")?;
                }
            }
        }
        Ok(())
    }

    /// Ends the node; an error when a BEAM node had a crash.
    pub(super) async fn finish(self) -> Result<()> {
        match self {
            Self::Beam(beam) => beam.node.finish().await,
            Self::Rust(rust) => {
                if let Some(node) = rust.node {
                    node.stop().await;
                }
                Ok(())
            }
        }
    }

    /// Dials. Nobody waits for it.
    pub(super) async fn connect(&mut self, to: &str) -> Result<()> {
        match self {
            Self::Beam(beam) => {
                beam.say(&format!("spawn(fun() -> net_kernel:connect_node('{to}') end)")).await
            }
            Self::Rust(rust) => rust.connect(to),
        }
    }

    async fn disconnect(&mut self, from: &str) -> Result<()> {
        match self {
            Self::Beam(beam) => beam.say(&format!("erlang:disconnect_node('{from}')")).await,
            Self::Rust(rust) => {
                rust.node()?.disconnect(&NodeName::new(from)?);
                Ok(())
            }
        }
    }

    pub(super) async fn look(&mut self) -> Result<Sight> {
        match self {
            Self::Beam(beam) => beam.look().await,
            Self::Rust(rust) => rust.look(),
        }
    }
}

/// A BEAM node.
pub(super) struct BeamNode {
    pub(super) node: ErlNode,
    pub(super) scope: String,
}

impl BeamNode {
    pub(super) async fn say(&self, expressions: &str) -> Result<()> {
        self.node.peek(expressions).await.map(drop)
    }

    pub(super) async fn ask(&self, expressions: &str) -> Result<Term> {
        let text = self.node.peek(expressions).await?;
        text.parse().with_context(|| format!("{expressions}: {text}"))
    }

    async fn look(&self) -> Result<Sight> {
        let scope = &self.scope;
        let seen =
            self.ask(&format!("{{nodes(connected), probe:plain(probe:view({scope}))}}")).await?;
        let [nodes, groups] = seen.tuple::<2>()?;
        let mut view = View::new();
        for group in groups.list()?.iter() {
            let [group, members] = group.tuple::<2>()?;
            let members = members.list()?.iter().map(Member::read).collect::<Result<_>>()?;
            view.insert(group.to_string(), members);
        }
        let nodes = nodes.list()?.iter().map(|node| Ok(node.node_name()?.as_str().to_owned()));
        Ok(Sight { nodes: nodes.collect::<Result<_>>()?, view: comparable(view), followed: None })
    }
}

/// The pids in Erlang, for their own node: one alone as it is, several as a list.
fn local_pids(members: &[Member]) -> String {
    let pid = |member: &Member| format!("list_to_pid(\"<0.{}.{}>\")", member.id, member.serial);
    match members {
        [one] => pid(one),
        _ => format!("[{}]", members.iter().map(pid).collect::<Vec<_>>().join(", ")),
    }
}

/// A Rust node in this process.
pub(super) struct RustNode {
    name: NodeName,
    epmd_port: u16,
    node: Option<Node>,
    pg: Option<Pg>,
    follower: Option<Follower>,
    processes: BTreeMap<Member, Process>,
    dials: JoinSet<()>,
}

impl RustNode {
    async fn start(name: NodeName, epmd_port: u16, hidden: bool) -> Result<Self> {
        let mut this = Self {
            name,
            epmd_port,
            node: None,
            pg: None,
            follower: None,
            processes: BTreeMap::new(),
            dials: JoinSet::new(),
        };
        this.launch(hidden).await?;
        Ok(this)
    }

    async fn launch(&mut self, hidden: bool) -> Result<()> {
        // EPMD holds the name of a node that has just ended until it sees its connection end.
        let node = wait_until(&format!("{} starts", self.name), SOON, async || {
            let config = NodeConfig::new(&self.name).map_err(|error| error.to_string())?;
            let cookie = Cookie::new(cookie()).map_err(|error| error.to_string())?;
            let config = config.cookie(cookie).epmd_port(self.epmd_port).embedded_epmd(false);
            let config = if hidden { config.hidden() } else { config };
            match data_publisher::start(config).await {
                Err(error @ StartError::NameTaken { .. }) => Err(error.to_string()),
                started => Ok(started),
            }
        })
        .await??;
        self.node = Some(node);
        Ok(())
    }

    /// As if killed: the connections close, and nothing is said on them.
    async fn restart(&mut self, hidden: bool) -> Result<()> {
        self.dials.shutdown().await;
        self.node = None;
        self.pg = None;
        self.follower = None;
        self.processes.clear();
        self.launch(hidden).await
    }

    async fn start_scope(&mut self, scope: &str) -> Result<()> {
        let pg = Pg::start(self.node()?, Atom::new(scope)?)?;
        let (view, events) = pg.monitor_scope().await?;
        let view = view.into_iter().map(|(group, pids)| (group, pids.to_vec())).collect();
        self.follower = Some(Follower { view, events });
        self.pg = Some(pg);
        Ok(())
    }

    fn spawn(&mut self) -> Result<Member> {
        let process = self.node()?.spawn();
        let member = Member::from(process.pid());
        self.processes.insert(member.clone(), process);
        Ok(member)
    }

    fn connect(&mut self, to: &str) -> Result<()> {
        let (node, to) = (self.node()?.clone(), NodeName::new(to)?);
        self.dials.spawn(async move {
            // Whether it worked is seen by who looks at the nodes.
            let _ = node.connect(to).await;
        });
        Ok(())
    }

    fn look(&mut self) -> Result<Sight> {
        let nodes = self.node()?.nodes().iter().map(|node| node.as_str().to_owned()).collect();
        let groups = self.pg()?.members().all();
        let view = groups.iter().map(|(group, pids)| (group.to_string(), members(pids)));
        let view = comparable(view.collect());
        let followed = self.follower.as_mut().context("the scope runs")?.follow()?;
        Ok(Sight { nodes, view, followed: Some(followed) })
    }

    fn pids(&self, members: &[Member]) -> Result<Vec<Pid>> {
        let pid = |member| Some(self.processes.get(member)?.pid().clone());
        members.iter().map(pid).collect::<Option<_>>().context("the process lives")
    }

    pub(super) fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("the node runs")
    }

    fn pg(&self) -> Result<&Pg> {
        self.pg.as_ref().context("the scope runs")
    }
}

/// A subscriber that knows nothing but what it's told.
struct Follower {
    view: BTreeMap<Term, Vec<Pid>>,
    events: pg::Events,
}

impl Follower {
    /// The view after all that it was told by now. Fails when one leaves that it was never told of.
    fn follow(&mut self) -> Result<View> {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            match event {
                pg::Event::Join { group, pids } => {
                    self.view.entry(group).or_default().extend(pids.iter().cloned());
                }
                pg::Event::Leave { group, pids } => {
                    let joined = self.view.entry(group.clone()).or_default();
                    for pid in pids.iter() {
                        let place = joined.iter().position(|one| one == pid);
                        ensure!(place.is_some(), "{pid} left {group} without joining");
                        place.map(|place| joined.swap_remove(place));
                    }
                }
            }
        }
        let view = self.view.iter().map(|(group, pids)| (group.to_string(), members(pids)));
        Ok(comparable(view.collect()))
    }
}

fn members(pids: &[Pid]) -> Vec<Member> {
    pids.iter().map(Member::from).collect()
}

//! BEAM nodes of several releases and Rust nodes in one scope, of `pg` and of `kv`: whatever happens to
//! them, at rest all see the same, and it's what a plain map says.
//!
//! Each sequence of operations comes from its seed and has a scope of its own; the nodes stay. Seeds are
//! 0 to 199 by default, each third one for the same cluster. A failure prints its seed with what is left of the
//! operations when all is taken away that it doesn't need;
//! `MIXED_SEED=n` runs that one alone, `MIXED_SEQUENCES=m` as many as that, with `MIXED_OPERATIONS=k`
//! operations each instead of 10 to 40. The operations are the same for a seed, but what they meet on the
//! network isn't, so it may take a few attempts to see a failure again.
//!
//! OTP 25 and 29 never meet in one scope: OTP itself can't do that.

mod cluster;
mod dialects;
mod keys;
mod model;
mod plan;
mod shrink;

use std::{
    fmt::{Display, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;

use self::{
    cluster::{Cluster, Host, Sight},
    model::{Member, Model, View, difference},
    plan::{GROUPS, Op, SLOTS, operations},
    shrink::shrunk,
};
use crate::support::{Otp, SOON};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_equal_at_rest_of_27_29_29_and_two_rust_nodes() -> Result<()> {
    converge(&[Otp::R27, Otp::R29, Otp::R29], 0, operations, async |cluster, number, plan| {
        Sequence::run(cluster, number, plan).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_equal_at_rest_of_25_27_and_two_rust_nodes() -> Result<()> {
    converge(&[Otp::R25, Otp::R27], 1, operations, async |cluster, number, plan| {
        Sequence::run(cluster, number, plan).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_values_are_equal_at_rest_of_29_29_and_two_rust_nodes() -> Result<()> {
    converge(&[Otp::R29, Otp::R29], 2, keys::operations, async |cluster, number, plan| {
        keys::Sequence::run(cluster, number, plan).await
    })
    .await
}

/// How many sequences run when nobody says otherwise, on all clusters together.
const SEQUENCES: u64 = 200;

/// How many clusters there are.
const CLUSTERS: u64 = 3;

/// Draws the operations of a seed, see [`operations`].
type Draw<T> = fn(u64, Option<u64>, usize, usize) -> Vec<T>;

/// Runs the seeds of a cluster. `run` has operations happen, in a scope of that number, and returns how long it
/// took from the last of them to rest.
async fn converge<T: Clone + Display>(
    releases: &[Otp],
    place: u64,
    draw: Draw<T>,
    mut run: impl AsyncFnMut(&mut Cluster, u64, &[T]) -> Result<Duration>,
) -> Result<()> {
    let (seed, given) = (number("MIXED_SEED")?, number("MIXED_SEQUENCES")?);
    let count = given.unwrap_or(if seed.is_some() { 1 } else { SEQUENCES });
    let first = seed.unwrap_or(0);
    let operations = number("MIXED_OPERATIONS")?;
    let seeds: Vec<_> = (first..first + count).filter(|seed| seed % CLUSTERS == place).collect();
    if seeds.is_empty() {
        return Ok(());
    }

    let mut cluster = Cluster::start(releases).await?;
    let (start, mut slowest) = (Instant::now(), Duration::ZERO);
    for &seed in &seeds {
        let plan = draw(seed, operations, cluster.beam(), cluster.rust());
        match run(&mut cluster, seed, &plan).await {
            Ok(to_rest) => slowest = slowest.max(to_rest),
            Err(error) => {
                // Nothing of what has gone wrong shall be met again.
                discard(cluster).await;
                let fails = async |plan: &[T]| {
                    let Ok(mut fresh) = Cluster::start(releases).await else { return false };
                    let fails = run(&mut fresh, seed, plan).await.is_err();
                    discard(fresh).await;
                    fails
                };
                let left = shrunk(plan, fails).await;
                return Err(error.context(format!(
                    "seed {seed} (again with MIXED_SEED={seed}), nodes {releases:?} + 2 Rust, after\n{}",
                    lines(&left)
                )));
            }
        }
    }
    let (each, count) = (start.elapsed() / seeds.len() as u32, seeds.len());
    #[expect(clippy::print_stdout, reason = "for who runs it with --nocapture")]
    {
        println!(
            "{releases:?} + 2 Rust: {count} sequences, {each:?} each, at rest within {slowest:?}"
        );
    }
    cluster.finish().await
}

/// Ends the nodes, whatever crash they had: it's told already.
async fn discard(cluster: Cluster) {
    let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
}

/// The operations, one a line.
fn lines(plan: &[impl Display]) -> String {
    plan.iter().fold(String::new(), |lines, op| format!("{lines}    {op}\n"))
}

fn number(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{variable}={text}"))?)),
        Err(_) => Ok(None),
    }
}

/// One run of a plan, in a scope that nothing else uses.
struct Sequence<'a> {
    cluster: &'a mut Cluster,
    scope: String,
    model: Model,
    /// Where the scope runs.
    running: Vec<bool>,
    slots: Vec<[Option<Member>; SLOTS]>,
}

impl<'a> Sequence<'a> {
    /// Returns how long it took from the last operation to rest.
    async fn run(cluster: &'a mut Cluster, seed: u64, plan: &[Op]) -> Result<Duration> {
        let nodes = cluster.nodes.len();
        let mut this = Self {
            cluster,
            scope: format!("s{seed}"),
            model: Model::default(),
            running: vec![false; nodes],
            slots: vec![[const { None }; SLOTS]; nodes],
        };
        for node in 0..nodes {
            this.start_scope(node).await?;
        }
        for op in plan {
            this.perform(op).await.with_context(|| format!("`{op}`"))?;
        }
        let start = Instant::now();
        this.rest().await?;
        let to_rest = start.elapsed();
        this.clean_up().await?;
        let crashes = this.cluster.crashes().await?;
        ensure!(crashes.is_empty(), "a crash:\n{crashes}");
        Ok(to_rest)
    }

    async fn perform(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Join { node, group, slots } if self.running[*node] => {
                let members = self.members(*node, slots).await?;
                self.cluster.nodes[*node].join(GROUPS[*group], &members).await?;
                self.model.join(*node, GROUPS[*group], &members);
            }
            Op::Leave { node, group, slots } if self.running[*node] => {
                let members = self.members(*node, slots).await?;
                let before = self.model.view();
                self.model.leave(*node, GROUPS[*group], &members);
                let left = self.cluster.nodes[*node].leave(GROUPS[*group], &members).await?;
                let expected = self.model.view() != before;
                ensure!(left == expected, "whether one left: {left}, not {expected}");
            }
            Op::Join { .. } | Op::Leave { .. } => {}
            Op::Kill { node, slot } => {
                if let Some(member) = self.slots[*node][*slot].take() {
                    self.model.ended(*node, &member);
                    self.cluster.nodes[*node].kill(&[member]).await?;
                }
            }
            Op::StopScope { node } => self.stop_scope(*node).await?,
            Op::StartScope { node } => self.start_scope(*node).await?,
            Op::RestartScope { node } => {
                self.stop_scope(*node).await?;
                self.start_scope(*node).await?;
            }
            Op::Disconnect { by, from } => self.cluster.disconnect(*by, *from).await?,
            Op::Connect { by, to } => self.cluster.connect(*by, *to).await?,
            Op::RestartNode { node, hidden } => {
                self.cluster.restart(*node, *hidden).await?;
                self.model.scope_ended(*node);
                self.slots[*node] = Default::default();
                self.running[*node] = false;
                self.start_scope(*node).await?;
            }
            Op::Pause { milliseconds } => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            }
        }
        Ok(())
    }

    /// The processes in these slots, new ones where there's none.
    async fn members(&mut self, node: usize, slots: &[usize]) -> Result<Vec<Member>> {
        let own = &mut self.slots[node];
        let mut empty: Vec<_> = slots.iter().filter(|slot| own[**slot].is_none()).collect();
        empty.sort_unstable();
        empty.dedup();
        if !empty.is_empty() {
            let spawned = self.cluster.nodes[node].spawn(empty.len()).await?;
            for (slot, member) in empty.into_iter().zip(spawned) {
                own[*slot] = Some(member);
            }
        }
        slots.iter().map(|slot| own[*slot].clone().context("just filled")).collect()
    }

    async fn start_scope(&mut self, node: usize) -> Result<()> {
        if !self.running[node] {
            self.cluster.nodes[node].start_scope(&self.scope).await?;
            self.running[node] = true;
        }
        Ok(())
    }

    async fn stop_scope(&mut self, node: usize) -> Result<()> {
        if self.running[node] {
            self.cluster.nodes[node].stop_scope().await?;
            // A Rust scope hands its members on to the next.
            if matches!(self.cluster.nodes[node], Host::Beam(_)) {
                self.model.scope_ended(node);
            }
            self.running[node] = false;
        }
        Ok(())
    }

    /// The scope runs everywhere and all are connected; then all see what the model says.
    async fn rest(&mut self) -> Result<()> {
        for node in 0..self.cluster.nodes.len() {
            self.start_scope(node).await?;
        }
        rest(self.cluster, &self.model.view(), Cluster::look).await
    }

    async fn clean_up(&mut self) -> Result<()> {
        for node in 0..self.cluster.nodes.len() {
            self.stop_scope(node).await?;
            let left: Vec<_> = self.slots[node].iter_mut().filter_map(Option::take).collect();
            self.cluster.nodes[node].kill(&left).await?;
        }
        Ok(())
    }
}

/// Connects whoever isn't, until all are and see what is expected.
async fn rest<T: Display + PartialEq>(
    cluster: &mut Cluster,
    expected: &View<T>,
    mut look: impl AsyncFnMut(&mut Cluster) -> Result<Vec<Sight<T>>>,
) -> Result<()> {
    let end = Instant::now() + SOON;
    let mut dial_at = Instant::now();
    loop {
        let seen = look(cluster).await?;
        let apart = apart(cluster, &seen);
        let differences: String = seen
            .iter()
            .zip(&cluster.nodes)
            .flat_map(|(sight, host)| {
                let followed = sight.followed.as_ref().map(|view| (" (subscriber)", view));
                [Some(("", &sight.view)), followed].into_iter().flatten().filter_map(
                    |(what, view)| {
                        let difference = difference(expected, view);
                        let name = host.name();
                        (!difference.is_empty()).then(|| format!("  {name}{what}:\n{difference}"))
                    },
                )
            })
            .collect();
        if apart.is_empty() && differences.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        if now >= end {
            let mut text = format!("not at rest within {SOON:?}\n{differences}");
            for (a, b) in apart {
                writeln!(text, "  {a} and {b} aren't connected")?;
            }
            bail!(text);
        }
        if now >= dial_at {
            for (a, b) in apart {
                let (by, to) = if rand::rng().random() { (a, b) } else { (b, a) };
                cluster.connect(by, to).await?;
            }
            dial_at = now + Duration::from_millis(100);
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Pairs of which one end doesn't see the other.
fn apart<T>(cluster: &Cluster, seen: &[Sight<T>]) -> Vec<(usize, usize)> {
    let name = |node: usize| cluster.nodes[node].name();
    let pairs = (0..seen.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    pairs
        .filter(|&(a, b)| !seen[a].nodes.contains(name(b)) || !seen[b].nodes.contains(name(a)))
        .collect()
}

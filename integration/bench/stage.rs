//! Who takes part: the driver, an Erlang node whose peer says all there is to say, and the target,
//! a fresh process in each round that is a node of OTP 29 or one in Rust.
//!
//! A target is told what to do by `erpc`, from the driver, whatever it is.

use std::cell::Cell;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::term::Term;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::crowd::Role;
use crate::proc;
use crate::support::secret::{VARIABLE, unheard_cookie};
use crate::support::{Epmd, ErlNode, Otp, wait_until};
use crate::table::Line;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Otp,
    Rust,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Otp, Self::Rust];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Otp => "OTP",
            Self::Rust => "Rust",
        })
    }
}

/// The driver and how much is done.
pub(crate) struct Bench {
    pub(crate) epmd: Epmd,
    pub(crate) driver: ErlNode,
    rounds: u32,
    /// What all numbers of operations are divided by.
    divisor: u32,
    /// The role of the target in Rust, [`TARGET`] or [`ONE_THREAD_TARGET`].
    role: &'static str,
    targets: Cell<u32>,
}

/// The target in Rust, on tokio's default runtime.
pub(crate) const TARGET: &str = "target";
/// The same on a runtime of one thread.
pub(crate) const ONE_THREAD_TARGET: &str = "one-thread-target";

/// Its length matters: with it, the update of P1 has 96 bytes.
pub(crate) const DRIVER: &str = "a";
/// The longest time any single thing may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// What holds for the BEAM nodes besides the flags of every test's nodes.
const BEAM: [&str; 2] = ["-connect_all", "false"];

impl Bench {
    pub(crate) async fn start(rounds: u32, divisor: u32, role: &'static str) -> Result<Self> {
        let epmd = Epmd::start_of(Otp::R29).await?;
        let driver = start_beam(DRIVER, &epmd, &[]).await?;
        Ok(Self { epmd, driver, rounds, divisor, role, targets: Cell::new(0) })
    }

    /// So many operations, or fewer in a quick run.
    pub(crate) fn count(&self, count: u32) -> u32 {
        (count / self.divisor).max(1)
    }

    /// Measures the same on both kinds of targets in turns. `measure` gives the value of each line,
    /// in their order.
    pub(crate) async fn in_turns(
        &self,
        mut lines: Vec<Line>,
        measure: impl AsyncFn(Kind) -> Result<Vec<f64>>,
    ) -> Result<Vec<Line>> {
        for round in 1..=self.rounds {
            for kind in Kind::BOTH {
                let row = lines.first().map_or("", |line| line.row);
                let values = measure(kind).await.with_context(|| format!("{row} on {kind}"))?;
                ensure!(values.len() == lines.len(), "{} values for {}", values.len(), lines.len());
                for (line, value) in lines.iter_mut().zip(values) {
                    let (row, what, unit) = (line.row, &line.what, line.unit);
                    eprintln!("{row} round {round}, {kind}: {value:.3} {unit}, {what}");
                    line.push(kind, value);
                }
            }
        }
        Ok(lines)
    }

    /// A fresh target that has met the driver's peer, which has so many groups of so many members.
    pub(crate) async fn stage(&self, kind: Kind, groups: u32, members: u32) -> Result<Stage<'_>> {
        self.start_peer(groups, members).await?;
        let target = Target::start(self, kind, None).await?;
        let stage = Stage { bench: self, target };
        self.ask(&format!("dp_bench:meet(bench, {})", stage.target.atom())).await?;
        stage.settle().await?;
        Ok(stage)
    }

    /// The peer on the driver, instead of the one before.
    pub(crate) async fn start_peer(&self, groups: u32, members: u32) -> Result<()> {
        self.ask(&format!("dp_bench:start_peer(bench, {groups}, {members})")).await.map(drop)
    }

    pub(crate) fn fresh_name(&self) -> String {
        self.targets.set(self.targets.get() + 1);
        format!("t{}", self.targets.get())
    }

    /// Where this was measured.
    pub(crate) fn machine(&self) -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown CPU", |(_, model)| model);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let Self { rounds, divisor, role, .. } = self;
        let threads = if *role == TARGET { "" } else { ", Rust on one thread" };
        let quick = match divisor {
            1 => String::new(),
            _ => format!("; quick, a {divisor}th of the operations, no figures to rely on"),
        };
        format!(
            "{cores} cores of {model}{threads}; medians of {rounds} rounds (least to most){quick}"
        )
    }

    /// Evaluates on the driver.
    pub(crate) async fn ask(&self, expression: &str) -> Result<String> {
        self.driver.eval_within(expression, PATIENCE).await
    }
}

/// A BEAM node with the functions of `dp_bench`.
pub(crate) async fn start_beam(name: &str, epmd: &Epmd, arguments: &[&str]) -> Result<ErlNode> {
    let options = ErlNode::options(Otp::R29, name, epmd.port()).allow_overlapping_partitions();
    let node = options.arguments(&BEAM).arguments(arguments).start().await?;
    node.load("erlang/bench/dp_bench.erl").await?;
    Ok(node)
}

/// A target that has met the driver.
pub(crate) struct Stage<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) target: Target,
}

impl Stage<'_> {
    /// Calls a function of `dp_bench` on the target; `arguments` is an Erlang list.
    pub(crate) async fn call(&self, function: &str, arguments: &str) -> Result<Term> {
        let node = self.target.atom();
        let call = format!("dp_bench:call({node}, {function}, {arguments})");
        Ok(self.bench.ask(&call).await?.parse()?)
    }

    /// Has the peer tell the target of changes, see `dp_bench:send/2`; returns when the target has
    /// dealt with them.
    pub(crate) async fn send(&self, what: &str) -> Result<()> {
        self.bench.ask(&format!("dp_bench:send(bench, {what})")).await.map(drop)
    }

    /// Nanoseconds the target was on a CPU while this was done.
    pub(crate) async fn cpu_of<T>(&self, work: impl Future<Output = Result<T>>) -> Result<f64> {
        let process = self.target.process_id()?;
        let before = proc::cpu_time(process)?;
        work.await?;
        let after = proc::cpu_time(process)?;
        Ok(after.saturating_sub(before) as f64)
    }

    /// Fails unless the target's view is so many groups of so many members.
    pub(crate) async fn assert_view(&self, groups: u32, members: u32) -> Result<()> {
        let view = self.call("view", "[bench]").await?;
        let [seen, all] = view.tuple::<2>()?;
        let expected = (i64::from(groups), i64::from(groups) * i64::from(members));
        ensure!(
            (seen.integer()?, all.integer()?) == expected,
            "the view is {view}, not {groups} groups with {members} members each"
        );
        Ok(())
    }

    /// Returns when the target has come to rest: less than a hundredth of a core.
    pub(crate) async fn settle(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(50);
        let process = self.target.process_id()?;
        wait_until("the target is at rest", PATIENCE, async || {
            let cpu_time = || proc::cpu_time(process).map_err(|error| error.to_string());
            let before = cpu_time()?;
            tokio::time::sleep(LOOK).await;
            let busy = Duration::from_nanos(cpu_time()?.saturating_sub(before));
            if busy < LOOK / 100 { Ok(()) } else { Err(format!("{busy:?} in {LOOK:?}")) }
        })
        .await
    }

    /// Ends the target; an error if it had a crash.
    pub(crate) async fn end(self) -> Result<()> {
        self.target.end().await
    }
}

/// A node that is measured, with a scope `bench` and the functions of `dp_bench`.
pub(crate) struct Target {
    name: String,
    process: Process,
}

enum Process {
    Otp(ErlNode),
    Rust(RustNode),
}

/// This program again, as a node; it ends with its standard input.
struct RustNode {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Target {
    /// Starts it; with `dial`, it connects to that node as soon as its scope runs.
    pub(crate) async fn start(bench: &Bench, kind: Kind, dial: Option<&str>) -> Result<Self> {
        let (name, epmd) = (&bench.fresh_name(), &bench.epmd);
        let process = match kind {
            Kind::Otp => {
                let connect = dial.map(|node| format!("true = net_kernel:connect_node('{node}')"));
                let start = ["{ok, _} = pg:start(bench)", connect.as_deref().unwrap_or("ok")];
                let arguments = ["-eval", &start.join(", ")];
                Process::Otp(start_beam(name, epmd, &arguments).await?)
            }
            Kind::Rust => {
                Process::Rust(RustNode::start(bench.role, name, epmd, dial.as_slice()).await?)
            }
        };
        Ok(Self { name: format!("{name}@127.0.0.1"), process })
    }

    /// `name@127.0.0.1`
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name as Erlang has it.
    pub(crate) fn atom(&self) -> String {
        format!("'{}'", self.name)
    }

    pub(crate) fn process_id(&self) -> Result<u32> {
        match &self.process {
            Process::Otp(node) => node.process_id(),
            Process::Rust(node) => node.child.id(),
        }
        .context("the target has ended")
    }

    pub(crate) async fn end(self) -> Result<()> {
        match self.process {
            Process::Otp(node) => node.finish().await,
            Process::Rust(node) => node.end().await,
        }
    }
}

impl RustNode {
    /// Starts this program in another role, and returns when it says that it's ready.
    async fn start(role: &str, name: &str, epmd: &Epmd, more: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([role, &format!("{name}@127.0.0.1"), &epmd.port().to_string()])
            .args(more)
            .env(VARIABLE, unheard_cookie())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("its input is a pipe")?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let mut node = Self { child, input, output: BufReader::new(output).lines() };
        let first = node.answer().await?;
        ensure!(first == "ready", "it says `{first}`");
        Ok(node)
    }

    async fn ask(&mut self, question: &str) -> Result<String> {
        self.input.write_all(format!("{question}\n").as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<String> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await??;
        line.context("the process in Rust has ended")
    }

    async fn end(mut self) -> Result<()> {
        drop(self.input);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        ensure!(status.success(), "the process in Rust: {status}");
        Ok(())
    }
}

/// Hidden nodes that are connected to a target, in a process of their own; see `crowd.rs`.
pub(crate) struct Crowd(RustNode);

impl Crowd {
    pub(crate) async fn start(stage: &Stage<'_>, role: Role, count: u32) -> Result<Self> {
        let role = match role {
            Role::Idle => "idle",
            Role::Peers => "peers",
        };
        let Stage { bench, target } = stage;
        let (name, count) = (bench.fresh_name(), count.to_string());
        let more = [target.name(), &count];
        Ok(Self(RustNode::start(role, &name, &bench.epmd, &more).await?))
    }

    pub(crate) fn process_id(&self) -> Result<u32> {
        self.0.child.id().context("the crowd has ended")
    }

    /// Returns when each peer was told of so many joins.
    pub(crate) async fn heard(&mut self, joins: u32) -> Result<()> {
        let answer = self.0.ask(&format!("heard {joins}")).await?;
        ensure!(answer == "heard", "the crowd says `{answer}`");
        Ok(())
    }

    /// Ends it; an error if one has lost its connection.
    pub(crate) async fn end(self) -> Result<()> {
        self.0.end().await
    }
}

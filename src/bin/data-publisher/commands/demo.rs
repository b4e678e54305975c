//! `demo`: the main job with nothing installed, told step by step.
//!
//! Several nodes run in this process, each with its own sockets: what they say to each other goes
//! over TCP as between machines. Where there is an `erl`, a real Erlang node joins as well.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use data_publisher::epmd::{Epmd, EpmdError, EpmdServer};
use data_publisher::kv::Kv;
use data_publisher::node::{Node, Process, StartError};
use data_publisher::pg::Pg;
use data_publisher::term::{Atom, NodeName, Pid};
use data_publisher::{Cookie, NodeConfig, atom};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::asked_to_end;
use crate::args::Demo;
use crate::{Answer, output};

/// How long any one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// How long an Erlang node may take to start and be found, on a machine that is busy.
const ERL_LIMIT: Duration = Duration::from_secs(10);

/// The whole of it, `--stay` aside: done in 15 s with what ending takes.
const LIMIT: Duration = Duration::from_secs(13);

pub(super) async fn run(args: Demo) -> anyhow::Result<Answer> {
    let erl = find_erl(args.erl.as_deref())?;
    let mut demo = Demonstration::new(&args).await?;
    let whole = async {
        match tokio::time::timeout(LIMIT, demo.tell(&args, erl)).await {
            Ok(told) => told?,
            Err(_) => bail!("not done after {} s", LIMIT.as_secs()),
        }
        if args.stay {
            demo.invite()?;
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    let told = tokio::select! {
        told = whole => told,
        () = asked_to_end() => Ok(()),
    };
    demo.end().await;
    told.map(|()| Answer::Yes)
}

struct Demonstration {
    started: Instant,
    cookie: String,
    epmd_port: u16,
    /// Whether none was running when we came.
    own_epmd: bool,
    _epmd: EpmdKeeper,
    prefix: String,
    members: Vec<Member>,
    erl: Option<Child>,
    summary: Vec<String>,
}

/// A node with two scopes, one member in the one and one key in the other.
struct Member {
    node: Node,
    pg: Pg,
    kv: Kv,
    worker: Process,
}

fn group() -> Atom {
    atom!("workers")
}

/// The key each node puts: its value is the node's port.
fn key() -> Atom {
    atom!("port")
}

impl Demonstration {
    async fn new(args: &Demo) -> anyhow::Result<Self> {
        let epmd_port = args.epmd_port;
        let started = Instant::now();
        let (epmd, names) = loop {
            let epmd = EpmdServer::bind_loopback(epmd_port).await.ok();
            match Epmd::new(epmd_port).names("127.0.0.1").await {
                Ok(names) => break (epmd, names),
                // It was another demo's, and ended with it.
                Err(EpmdError::NotRunning { .. } | EpmdError::Io { .. })
                    if started.elapsed() < STEP_LIMIT =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        // A second demo at the same time gets other names; see also `start_first`.
        let taken = names.iter().any(|(name, _)| name.starts_with("demo"));
        Ok(Self {
            started: Instant::now(),
            cookie: format!("demo{:016x}", rand::random::<u64>()),
            epmd_port,
            own_epmd: epmd.is_some(),
            _epmd: EpmdKeeper::start(epmd_port, epmd),
            prefix: if taken { Self::other_prefix() } else { "demo".to_owned() },
            members: Vec::new(),
            erl: None,
            summary: Vec::new(),
        })
    }

    fn other_prefix() -> String {
        format!("demo{}_", std::process::id())
    }

    async fn tell(&mut self, args: &Demo, erl: Option<PathBuf>) -> anyhow::Result<()> {
        let epmd = if self.own_epmd { "our own, none was running" } else { "running" };
        self.say(&format!("EPMD on port {}: {epmd}", self.epmd_port))?;

        let count = usize::from(args.nodes);
        for number in 1..=count {
            let member = match number {
                1 => self.start_first().await?,
                _ => self.start_patiently(number).await?,
            };
            self.say(&format!(
                "{} is up on port {}, its worker {} has joined `workers`",
                member.node.name(),
                member.node.port(),
                member.worker.pid()
            ))?;
            self.members.push(member);
        }
        let took = self.until_all_see(count, STEP_LIMIT).await?;
        self.note(&format!("{count} nodes found each other and agree"), took);
        self.show()?;
        let took = self.until_all_have_keys(count, STEP_LIMIT).await?;
        self.note("each has put the key `port`, all see all values", took);
        self.show_keys()?;

        let mut expected = count;
        match erl {
            None if args.erl.is_some() => self.say("no Erlang node: --erl none")?,
            None => self.say("no `erl` in the PATH: no Erlang node today; --erl names one")?,
            Some(erl) => {
                self.say(&format!("starting an Erlang node with {}", erl.display()))?;
                let mut child = self.start_erl(&erl)?;
                let last_line = tokio::spawn(last_line(child.stdout.take()));
                let took = tokio::select! {
                    took = self.until_all_see(count + 1, ERL_LIMIT) => {
                        took.context("the Erlang node")?
                    }
                    status = child.wait() => {
                        let said = last_line.await.unwrap_or_default();
                        bail!("{} has ended, {}: {said}", erl.display(), status?)
                    }
                };
                self.erl = Some(child);
                expected += 1;
                self.note("an Erlang node has started and joined, all see its member", took);
                self.show()?;
            }
        }

        let dead = self.members.pop().context("at least two nodes")?;
        let name = dead.node.name().clone();
        self.say(&format!("{name} dies"))?;
        drop(dead);
        let took = self.until_all_see(expected - 1, STEP_LIMIT).await?;
        self.note(&format!("{name} is dead and its member is gone everywhere"), took);
        self.until_all_have_keys(count - 1, STEP_LIMIT).await?;
        self.show()?;
        self.show_keys()?;

        let member = self.start_patiently(count).await?;
        self.say(&format!("{name} returns, creation {}", member.node.creation()))?;
        self.members.push(member);
        let took = self.until_all_see(expected, STEP_LIMIT).await?;
        self.note(&format!("{name} is back and all is whole"), took);
        self.until_all_have_keys(count, STEP_LIMIT).await?;
        self.show()?;
        self.show_keys()?;

        output::say("")?;
        for line in &self.summary {
            output::say(line)?;
        }
        Ok(())
    }

    /// The first node's name decides: another demo may have started a moment ago.
    async fn start_first(&mut self) -> anyhow::Result<Member> {
        match self.start(1).await {
            Err(error) if error.is::<StartError>() => {
                self.prefix = Self::other_prefix();
                self.start_patiently(1).await
            }
            started => started,
        }
    }

    /// EPMD forgets a dead node when it has seen its connection end, which may take a moment; and
    /// it may itself just be followed by another, see [`EpmdKeeper`].
    async fn start_patiently(&self, number: usize) -> anyhow::Result<Member> {
        let started = Instant::now();
        loop {
            match self.start(number).await {
                Err(error) if error.is::<StartError>() && started.elapsed() < STEP_LIMIT => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                started => return started,
            }
        }
    }

    async fn start(&self, number: usize) -> anyhow::Result<Member> {
        let mut config = NodeConfig::new(self.name(number)?)?
            .cookie(Cookie::new(&self.cookie)?)
            .epmd_port(self.epmd_port)
            .embedded_epmd(false);
        if number > 1 {
            config = config.seed(self.name(1)?);
        }
        let node = data_publisher::start(config).await?;
        let pg = Pg::start(&node, atom!("demo"))?;
        let worker = node.spawn();
        pg.join(group(), worker.pid()).await?;
        let kv = Kv::start(&node, atom!("demo_kv"))?;
        kv.put(key(), i64::from(node.port())).await?;
        Ok(Member { node, pg, kv, worker })
    }

    fn name(&self, number: usize) -> anyhow::Result<NodeName> {
        Ok(NodeName::new(&format!("{}{number}@127.0.0.1", self.prefix))?)
    }

    /// Waits until every node sees so many members; how long it took.
    async fn until_all_see(&self, count: usize, limit: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for member in &self.members {
            // What is there now, then each change: nothing to poll, nothing to miss.
            let (pids, mut changes) = member.pg.monitor(group()).await?;
            let mut seen = pids.len();
            while seen != count {
                let left = limit.saturating_sub(started.elapsed());
                match tokio::time::timeout(left, changes.next()).await {
                    Ok(Some(_)) => seen = member.pg.get_members(&group().into()).len(),
                    Ok(None) => bail!("{}: its scope has ended", member.node.name()),
                    Err(_) => bail!(
                        "{} sees {seen} members instead of {count} after {} s",
                        member.node.name(),
                        limit.as_secs()
                    ),
                }
            }
        }
        Ok(started.elapsed())
    }

    /// Waits until every node sees so many values of the key; how long it took.
    async fn until_all_have_keys(&self, count: usize, limit: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for member in &self.members {
            let (_, mut changes) = member.kv.subscribe_key(key()).await?;
            while member.kv.get(key()).len() != count {
                let left = limit.saturating_sub(started.elapsed());
                let seen = || member.kv.get(key()).len();
                match tokio::time::timeout(left, changes.next()).await {
                    Ok(Some(_)) => {}
                    Ok(None) => bail!("{}: its scope has ended", member.node.name()),
                    Err(_) => bail!(
                        "{} sees {} values instead of {count} after {} s",
                        member.node.name(),
                        seen(),
                        limit.as_secs()
                    ),
                }
            }
        }
        Ok(started.elapsed())
    }

    /// What the first node sees; all see the same.
    fn show_keys(&self) -> anyhow::Result<()> {
        let Some(first) = self.members.first() else { return Ok(()) };
        let values: Vec<String> = (first.kv.get(key()).iter())
            .map(|(node, value)| format!("{} => {value}", node.short()))
            .collect();
        output::say(&format!("                port: #{{{}}}", values.join(", ")))?;
        Ok(())
    }

    fn show(&self) -> anyhow::Result<()> {
        for member in &self.members {
            let mut nodes: Vec<String> = (member.pg.get_members(&group().into()).iter())
                .map(|pid: &Pid| pid.node.short().to_owned())
                .collect();
            nodes.sort_unstable();
            output::say(&format!(
                "            {:>8} sees {}",
                member.node.name().short(),
                nodes.join(", ")
            ))?;
        }
        Ok(())
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        output::say(&format!("{:>7.0} ms  {text}", self.started.elapsed().as_secs_f64() * 1000.0))?;
        Ok(())
    }

    fn note(&mut self, text: &str, took: Duration) {
        let line = format!("{text}: {:.1} ms", took.as_secs_f64() * 1000.0);
        let _ = self.say(&line);
        self.summary.push(format!("ok  {line}"));
    }

    fn start_erl(&self, erl: &PathBuf) -> anyhow::Result<Child> {
        let first = self.name(1)?;
        // It ends with the demo, also when that is killed.
        let code = format!(
            "{{ok, _}} = pg:start(demo), true = net_kernel:connect_node('{first}'), \
             erlang:monitor_node('{first}', true), ok = pg:join(demo, workers, self()), \
             receive {{nodedown, _}} -> halt() end."
        );
        Command::new(erl)
            .args(["-noinput", "-start_epmd", "false", "-name"])
            .arg(format!("{}_erl@127.0.0.1", self.prefix))
            .args(["-setcookie", &self.cookie, "-eval", &code])
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", erl.display()))
    }

    fn invite(&self) -> anyhow::Result<()> {
        let port = match self.epmd_port {
            4369 => String::new(),
            port => format!("ERL_EPMD_PORT={port} "),
        };
        let first = self.name(1)?;
        output::say("")?;
        output::say("Join by hand, in another terminal:")?;
        output::say(&format!(
            "  {port}erl -name me@127.0.0.1 -setcookie {} -eval \"pg:start(demo), \
             net_kernel:connect_node('{first}').\"",
            self.cookie
        ))?;
        output::say("then, at its prompt:")?;
        output::say("  pg:get_members(demo, workers).")?;
        output::say("  pg:join(demo, workers, self()).")?;
        output::say("Ctrl-C ends the demo.")?;
        Ok(())
    }

    async fn end(mut self) {
        if let Some(mut erl) = self.erl.take() {
            let _ = erl.kill().await;
        }
        for Member { node, pg, kv, worker } in self.members.drain(..) {
            drop(worker);
            pg.stop().await;
            kv.stop().await;
            node.stop().await;
        }
    }
}

/// Sees to it that an EPMD runs for as long as the demo does: the one that was there when we came may
/// be that of another demo, and end with it.
struct EpmdKeeper(JoinHandle<()>);

impl EpmdKeeper {
    fn start(port: u16, mut own: Option<EpmdServer>) -> Self {
        Self(tokio::spawn(async move {
            while own.is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
                // Fails for as long as one runs.
                own = EpmdServer::bind_loopback(port).await.ok();
            }
            std::future::pending::<()>().await;
        }))
    }
}

impl Drop for EpmdKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads what the node writes, to the end, so that it never waits for us; the last line of it.
async fn last_line(stdout: Option<ChildStdout>) -> String {
    let mut last = String::new();
    let Some(stdout) = stdout else { return last };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if !line.trim().is_empty() {
            last = line;
        }
    }
    last
}

/// The `erl` to use: as told, or the first in the PATH.
fn find_erl(told: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
    match told {
        Some("none") => Ok(None),
        Some(path) => {
            let path = PathBuf::from(path);
            anyhow::ensure!(path.is_file(), "--erl {}: there is no such file", path.display());
            Ok(Some(path))
        }
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            Ok(std::env::split_paths(&path).map(|folder| folder.join("erl")).find(|f| f.is_file()))
        }
    }
}

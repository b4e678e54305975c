//! `demo`: the main job with nothing installed, told step by step.
//!
//! Several nodes run in this process, each with its own sockets: what they say to each other goes
//! over TCP as between machines. Where there is an `erl`, a real Erlang node joins as well.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use data_publisher::epmd::{Epmd, EpmdServer};
use data_publisher::node::{Node, Process};
use data_publisher::pg::Pg;
use data_publisher::term::{Atom, NodeName, Pid};
use data_publisher::{Cookie, NodeConfig, atom};
use tokio::process::{Child, Command};

use super::asked_to_end;
use crate::args::Demo;
use crate::{Answer, output};

/// How long any one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// The whole of it, `--stay` aside.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) async fn run(args: Demo) -> anyhow::Result<Answer> {
    let mut demo = Demonstration::new(&args).await?;
    let told = tokio::select! {
        told = tokio::time::timeout(LIMIT, demo.tell(&args)) => match told {
            Ok(told) => told,
            Err(_) => Err(anyhow::anyhow!("not done after {} s", LIMIT.as_secs())),
        },
        () = asked_to_end() => Ok(()),
    };
    if told.is_ok() && args.stay {
        demo.invite()?;
        asked_to_end().await;
    }
    demo.end().await;
    told.map(|()| Answer::Yes)
}

struct Demonstration {
    started: Instant,
    cookie: String,
    epmd_port: u16,
    /// Ours, if none was running.
    own_epmd: Option<EpmdServer>,
    prefix: String,
    members: Vec<Member>,
    erl: Option<Child>,
    summary: Vec<String>,
}

/// A node with a scope and one member.
struct Member {
    node: Node,
    pg: Pg,
    worker: Process,
}

fn group() -> Atom {
    atom!("workers")
}

impl Demonstration {
    async fn new(args: &Demo) -> anyhow::Result<Self> {
        let epmd_port = args.epmd_port;
        let own_epmd = EpmdServer::bind_loopback(epmd_port).await.ok();
        // A second demo at the same time gets other names.
        let names = Epmd::new(epmd_port).names("127.0.0.1").await?;
        let taken = names.iter().any(|(name, _)| name.starts_with("demo"));
        let prefix = if taken { format!("demo{}_", std::process::id()) } else { "demo".to_owned() };
        Ok(Self {
            started: Instant::now(),
            cookie: format!("demo{:016x}", std::process::id() ^ 0x5bd1_e995),
            epmd_port,
            own_epmd,
            prefix,
            members: Vec::new(),
            erl: None,
            summary: Vec::new(),
        })
    }

    async fn tell(&mut self, args: &Demo) -> anyhow::Result<()> {
        let epmd = if self.own_epmd.is_some() { "our own, none was running" } else { "running" };
        self.say(&format!("EPMD on port {}: {epmd}", self.epmd_port))?;

        let count = usize::from(args.nodes);
        for number in 1..=count {
            let member = self.start(number).await?;
            self.say(&format!(
                "{} is up on port {}, its worker {} has joined `workers`",
                member.node.name(),
                member.node.port(),
                member.worker.pid()
            ))?;
            self.members.push(member);
        }
        let took = self.until_all_see(count).await?;
        self.note(&format!("{count} nodes found each other and agree"), took);
        self.show()?;

        let mut expected = count;
        match find_erl(args.erl.as_deref())? {
            None => self.say("no `erl` in the PATH: no Erlang node today")?,
            Some(erl) => {
                self.say(&format!("starting an Erlang node with {}", erl.display()))?;
                self.erl = Some(self.start_erl(&erl)?);
                expected += 1;
                let took = self.until_all_see(expected).await.context("the Erlang node")?;
                self.note("an Erlang node joined, its member is seen by all", took);
                self.show()?;
            }
        }

        let dead = self.members.pop().context("at least two nodes")?;
        let name = dead.node.name().clone();
        self.say(&format!("{name} dies"))?;
        drop(dead);
        let took = self.until_all_see(expected - 1).await?;
        self.note(&format!("{name} is dead and its members are gone everywhere"), took);
        self.show()?;

        let member = self.start(count).await?;
        self.say(&format!("{name} returns, creation {}", member.node.creation()))?;
        self.members.push(member);
        let took = self.until_all_see(expected).await?;
        self.note(&format!("{name} is back and all is whole"), took);
        self.show()?;

        output::say("")?;
        for line in &self.summary {
            output::say(line)?;
        }
        Ok(())
    }

    async fn start(&self, number: usize) -> anyhow::Result<Member> {
        let mut config = NodeConfig::new(self.name(number)?)?
            .cookie(Cookie::new(&self.cookie)?)
            .epmd_port(self.epmd_port);
        if number > 1 {
            config = config.seed(self.name(1)?);
        }
        let node = data_publisher::start(config).await?;
        let pg = Pg::start(&node, atom!("demo"))?;
        let worker = node.spawn();
        pg.join(group(), worker.pid()).await?;
        Ok(Member { node, pg, worker })
    }

    fn name(&self, number: usize) -> anyhow::Result<NodeName> {
        Ok(NodeName::new(&format!("{}{number}@127.0.0.1", self.prefix))?)
    }

    /// Waits until every node sees so many members; how long it took.
    async fn until_all_see(&self, count: usize) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for member in &self.members {
            // What is there now, then each change: nothing to poll, nothing to miss.
            let (pids, mut changes) = member.pg.monitor(group()).await?;
            let mut seen = pids.len();
            while seen != count {
                let left = STEP_LIMIT.saturating_sub(started.elapsed());
                match tokio::time::timeout(left, changes.next()).await {
                    Ok(Some(_)) => seen = member.pg.get_members(&group().into()).len(),
                    Ok(None) => bail!("{}: its scope has ended", member.node.name()),
                    Err(_) => bail!(
                        "{} sees {seen} members instead of {count} after {} s",
                        member.node.name(),
                        STEP_LIMIT.as_secs()
                    ),
                }
            }
        }
        Ok(started.elapsed())
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
        let code = format!(
            "{{ok, _}} = pg:start(demo), true = net_kernel:connect_node('{}'), \
             ok = pg:join(demo, workers, self()), receive after infinity -> ok end.",
            self.name(1)?
        );
        Command::new(erl)
            .args(["-noinput", "-start_epmd", "false", "-name"])
            .arg(format!("{}_erl@127.0.0.1", self.prefix))
            .args(["-setcookie", &self.cookie, "-eval", &code])
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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
        output::say("\nJoin by hand, in another terminal:")?;
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
        for Member { node, pg, worker } in self.members.drain(..) {
            drop(worker);
            pg.stop().await;
            node.stop().await;
        }
    }
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

//! The target in Rust: a node with a scope of `pg`, as any user of this crate would write it.
//!
//! What it can be asked by `erpc` are the functions of `dp_bench` that a target on OTP has, under
//! the same names.

#![expect(clippy::print_stdout, reason = "it's how it answers")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use data_publisher::node::Process;
use data_publisher::rpc::Exception;
use data_publisher::term::{List, Term};
use data_publisher::{Cookie, Node, NodeConfig, Pg, atom, tuple, wire};
use tokio::sync::oneshot;

use crate::support::secret::unheard_cookie;
use crate::{clock, health, pace};

/// Operations in one batch, where single ones are too short to be timed.
pub(crate) const BATCH: u32 = 200;

/// Runs until standard input ends; with `dial`, connects to that node as soon as the scope runs.
pub(crate) async fn run(name: &str, epmd_port: u16, dial: Option<&str>) -> Result<()> {
    let node = data_publisher::start(config(name, epmd_port)?).await?;
    let target = Target { pg: Pg::start(&node, atom!("bench"))?, member: Arc::new(node.spawn()) };
    target.allow(&node);
    pace::allow(&node, &target.pg, &target.member);
    health::allow(&node);
    if let Some(peer) = dial {
        node.connect(peer).await?;
    }
    println!("ready");
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    node.stop().await;
    Ok(())
}

/// The settings all nodes in Rust have here: as the BEAM ones, they connect to nobody by themselves.
pub(crate) fn config(name: &str, epmd_port: u16) -> Result<NodeConfig> {
    let config = NodeConfig::new(name)?.cookie(Cookie::new(unheard_cookie())?).epmd_port(epmd_port);
    Ok(config.embedded_epmd(false).mesh(false))
}

#[derive(Clone)]
struct Target {
    pg: Pg,
    /// A process that does nothing.
    member: Arc<Process>,
}

type Answer = Result<Term, Exception>;

impl Target {
    fn allow(&self, node: &Node) {
        let (rpc, module) = (node.rpc(), || atom!("dp_bench"));
        let target = self.clone();
        rpc.allow(module(), atom!("view"), 1, move |_| {
            let target = target.clone();
            async move { Ok(target.view()) }
        });
        let target = self.clone();
        rpc.allow(module(), atom!("joins"), 3, move |arguments| {
            let target = target.clone();
            async move { target.joins(&arguments).await }
        });
        let target = self.clone();
        rpc.allow(module(), atom!("stamped_joins"), 2, move |arguments| {
            let target = target.clone();
            async move { target.stamped_joins(&arguments).await }
        });
        let target = self.clone();
        rpc.allow(module(), atom!("reads"), 4, move |arguments| {
            let target = target.clone();
            async move { target.reads(&arguments).await }
        });
        rpc.allow(module(), atom!("codec"), 2, |arguments| async move { codec(&arguments) });
        let target = self.clone();
        rpc.allow(module(), atom!("has"), 2, move |arguments| {
            let target = target.clone();
            async move {
                let group = group_name(arguments[1].integer()?);
                Ok((!target.pg.get_members(&group).is_empty()).into())
            }
        });
    }

    fn view(&self) -> Term {
        let groups = self.pg.which_groups();
        let members: usize = groups.iter().map(|group| self.pg.get_members(group).len()).sum();
        tuple![groups.len() as u64, members as u64]
    }

    async fn joins(&self, arguments: &List) -> Answer {
        let (from, to) = (arguments[1].integer()?, arguments[2].integer()?);
        for number in from..=to {
            self.join(group_name(number)).await?;
        }
        Ok(atom!("ok").into())
    }

    async fn stamped_joins(&self, arguments: &List) -> Answer {
        for _ in 0..arguments[1].integer()? {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.join(clock::now().into()).await?;
        }
        Ok(atom!("ok").into())
    }

    async fn join(&self, group: Term) -> Result<(), Exception> {
        let joined = self.pg.join(group, self.member.pid()).await;
        joined.map_err(|error| Exception::error(Term::binary_of(error.to_string())))
    }

    async fn reads(&self, arguments: &List) -> Answer {
        let (group, batches) = (arguments[1].clone(), arguments[2].integer()?);
        let written = match &arguments[3] {
            others if others.is_atom("others") => (1_000_000..1_000_100).map(group_name).collect(),
            same if same.is_atom("same") => vec![group.clone()],
            _ => Vec::new(),
        };
        let done = Arc::new(AtomicBool::new(false));
        let (target, seen) = (self.clone(), done.clone());
        let (begun, begins) = oneshot::channel();
        let writing = tokio::spawn(async move { target.write(&written, &seen, begun).await });
        // It never begins where there's nothing to write.
        let _ = begins.await;
        let pg = self.pg.clone();
        let times = tokio::task::spawn_blocking(move || {
            measure(batches, || assert!(!black_box(pg.get_members(&group)).is_empty()))
        });
        let times = times.await;
        done.store(true, Ordering::Relaxed);
        match (times, writing.await) {
            (Ok(times), Ok(Ok(count))) => Ok(tuple![times, count]),
            (_, Ok(Err(exception))) => Err(exception),
            _ => Err(Exception::error(atom!("panic"))),
        }
    }

    /// Joins and leaves these groups in turns until it's told to end; how many of both it made. Says
    /// when it has begun.
    async fn write(
        &self,
        groups: &[Term],
        done: &AtomicBool,
        begun: oneshot::Sender<()>,
    ) -> Result<u64, Exception> {
        let (mut count, mut begun) = (0, Some(begun));
        if groups.is_empty() {
            return Ok(count);
        }
        for group in groups.iter().cycle() {
            if done.load(Ordering::Relaxed) {
                break;
            }
            self.join(group.clone()).await?;
            let left = self.pg.leave(group.clone(), self.member.pid()).await;
            left.map_err(|error| Exception::error(Term::binary_of(error.to_string())))?;
            count += 2;
            if let Some(begun) = begun.take() {
                let _ = begun.send(());
            }
        }
        Ok(count)
    }
}

fn codec(arguments: &List) -> Answer {
    let (bytes, batches) = (arguments[0].binary()?, arguments[1].integer()?);
    let term = wire::decode(bytes).map_err(|_| Exception::badarg())?;
    let decoding = measure(batches, || {
        let _ = black_box(wire::decode(black_box(bytes)));
    });
    let mut again = Vec::new();
    let encoding = measure(batches, || {
        again.clear();
        let _ = black_box(wire::encode(black_box(&term), &mut again));
    });
    assert_eq!(again, bytes, "decoding and encoding it gives the same");
    Ok(tuple![decoding, encoding])
}

/// How long each batch took, in nanoseconds.
fn measure(batches: i64, mut operation: impl FnMut()) -> Term {
    let batch = |_| {
        let start = Instant::now();
        (0..BATCH).for_each(|_| operation());
        Term::from(start.elapsed().as_nanos() as u64)
    };
    Term::list_of((0..batches).map(batch).collect::<Vec<_>>())
}

/// As `dp_bench:group/1`.
pub(crate) fn group_name(number: i64) -> Term {
    Term::binary_of(format!("group-{number:07}"))
}

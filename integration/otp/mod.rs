//! One story after the other between Rust nodes and real nodes of one release, each on OTP 25, 27 and
//! 29.

#![expect(clippy::print_stdout, reason = "a test that measures says what it saw")]

mod callers;
mod connect;
mod global;
mod large;
mod load;
mod races;
mod scope;

use std::time::Duration;

use anyhow::{Context, Result};
use data_publisher::node::{Limits, NodeConfig};
use data_publisher::pg::Pg;
use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{Cookie, Node};

use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_until};

/// Makes a test for each release of a function that takes one.
macro_rules! on_each_release {
    ($($name:ident)*) => {$(
        mod $name {
            use crate::support::Otp;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn otp_25() -> anyhow::Result<()> {
                super::$name(Otp::R25).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn otp_27() -> anyhow::Result<()> {
                super::$name(Otp::R27).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn otp_29() -> anyhow::Result<()> {
                super::$name(Otp::R29).await
            }
        }
    )*};
}
pub(crate) use on_each_release;

/// How a Rust node is seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Visible,
    Hidden,
}

pub(crate) const BOTH: [Seen; 2] = [Seen::Visible, Seen::Hidden];

pub(crate) fn config(name: &str, epmd: &Epmd) -> Result<NodeConfig> {
    let config = NodeConfig::new(format!("{name}@127.0.0.1"))?;
    Ok(config.cookie(Cookie::new(cookie())?).epmd_port(epmd.port()))
}

async fn rust_node(name: &str, epmd: &Epmd, seen: Seen) -> Result<Node> {
    let config = config(name, epmd)?;
    let config = if seen == Seen::Hidden { config.hidden() } else { config };
    Ok(data_publisher::start(config).await?)
}

/// Limits with which a peer that is gone is noticed soon.
pub(crate) fn short_limits() -> Limits {
    let mut limits = Limits::default();
    limits.tick_time = Duration::from_secs(8);
    limits
}

/// A pid of ours as an Erlang expression that gives the pid there.
pub(crate) fn erlang_pid(pid: &Pid) -> String {
    let (node, id, serial, creation) = (&pid.node, pid.id, pid.serial, pid.creation);
    format!(
        "binary_to_term(<<131,88,119,{len},\"{node}\",{id}:32,{serial}:32,{creation}:32>>)",
        len = node.as_str().len(),
    )
}

/// Waits until the Rust view of a group is so many members.
pub(crate) async fn wait_members(
    pg: &Pg,
    group: &Term,
    count: usize,
    limit: Duration,
) -> Result<()> {
    let what = format!("{} members of {group} at {}", count, pg.name());
    wait_until(&what, limit, async || {
        let members = pg.get_members(group);
        if members.len() == count { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await
}

/// Waits until nodes are connected to ours, exactly these.
pub(crate) async fn wait_nodes(node: &Node, expected: &[&str]) -> Result<()> {
    wait_until(&format!("{} is connected to {expected:?}", node.name()), SOON, async || {
        let nodes = node.nodes();
        let same = nodes.iter().map(NodeName::as_str).eq(expected.iter().copied());
        if same { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await
}

/// A node of the release named `a`, in an EPMD of its own.
async fn erl(otp: Otp) -> Result<(Epmd, ErlNode)> {
    let epmd = Epmd::start_of(otp).await?;
    let node = ErlNode::start(otp, "a", &epmd).await.context("starting erl")?;
    Ok((epmd, node))
}

//! Publishers other than `pg`, between Rust nodes and real nodes: OTP 29 with its own `data_publisher`,
//! 25 and 27 with ours from `erlang/`.

mod callers;
mod elixir;
mod examples;
mod kv;
mod rolling;
mod typed;
mod unreadable;
pub(crate) mod versions;

use anyhow::{Context, Result};
use data_publisher::Cookie;
use data_publisher::node::{Node, NodeConfig, Process, Received};
use data_publisher::term::Term;

use crate::support::{Epmd, ErlNode, Otp, SOON, cookie};

/// A Rust node, hidden or not.
async fn rust_node(name: &str, epmd: &Epmd, hidden: bool) -> Result<Node> {
    let config = NodeConfig::new(format!("{name}@127.0.0.1"))?;
    let config = config.cookie(Cookie::new(cookie())?).epmd_port(epmd.port());
    Ok(data_publisher::start(if hidden { config.hidden() } else { config }).await?)
}

/// A BEAM node with `data_publisher`, its own or ours, and with `dp_kv`.
async fn beam_node(otp: Otp, name: &str, epmd: &Epmd) -> Result<ErlNode> {
    let node = ErlNode::start(otp, name, epmd).await?;
    load(&node).await?;
    Ok(node)
}

/// Also needed after each restart of the node.
pub(crate) async fn load(node: &ErlNode) -> Result<()> {
    if node.otp() != Otp::R29 {
        node.load("erlang/otp25/data_publisher.erl").await?;
    }
    node.load("erlang/src/dp_kv_keeper.erl").await?;
    node.load("erlang/src/dp_kv.erl").await
}

async fn next(process: &mut Process) -> Result<Term> {
    let received = tokio::time::timeout(SOON, process.receive()).await.context("no message")?;
    received.map(Received::into_term).context("the process has ended")
}

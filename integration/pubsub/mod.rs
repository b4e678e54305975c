//! `Phoenix.PubSub` with Elixir nodes of each release: a stand-in for the packages, compiled and run by
//! the release's own Elixir.

mod cluster;
mod command;

use std::time::Duration;

use anyhow::{Context, Result};
use data_publisher::phoenix_pubsub::{Notice, PubSub, Subscription};
use data_publisher::{Cookie, Node, NodeConfig};

use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

/// What the Elixir nodes run.
const STAND_IN: &str = "integration/elixir/pubsub.ex";

/// The name in all tests, as Elixir and as we write it.
const NAME: &str = "MyApp.PubSub";

/// The group's name in Erlang.
const GROUP: &str = "'Elixir.MyApp.PubSub.Adapter'";

/// An Elixir node with a pubsub of so many workers, and a process `C` that collects topic "t".
async fn elixir(otp: Otp, name: &str, epmd: &Epmd, pool_size: u16) -> Result<ErlNode> {
    let node = ErlNode::options(otp, name, epmd.port()).start_elixir(STAND_IN).await?;
    let start = format!(
        "Phoenix.PubSub.start({NAME}, pool_size: {pool_size}); \
         Process.register(PubSubProbe.collect({NAME}, \"t\"), C)"
    );
    assert_eq!(node.elixir(&start).await?, "true");
    Ok(node)
}

/// A Rust node in the same EPMD with the pubsub, started in the given moment.
async fn rust(name: &str, epmd: &Epmd) -> Result<(Node, PubSub)> {
    let config = NodeConfig::new(format!("{name}@127.0.0.1"))?;
    let config = config.cookie(Cookie::new(cookie())?).epmd_port(epmd.port());
    let node = data_publisher::start(config).await?;
    let pubsub = PubSub::start(&node, NAME).await?;
    Ok((node, pubsub))
}

/// Connects and waits until both sides know that the other is a member of all groups of the pool.
async fn meet(node: &Node, pubsub: &PubSub, others: &[&ErlNode], pool_size: u16) -> Result<()> {
    for other in others {
        node.connect(other.name()).await?;
        tokio::time::timeout(SOON, pubsub.wait_for(&other.name().parse()?)).await??;
    }
    for other in others {
        for number in 1..=pool_size {
            let is_member =
                format!("lists:member('{}', [node(P) || P <- {}])", node.name(), members(number));
            wait_eval(other, &is_member, "true", SOON).await?;
        }
    }
    Ok(())
}

/// The members of a group of the pool as an Erlang expression.
fn members(number: u16) -> String {
    let group = match number {
        1 => GROUP.to_owned(),
        _ => format!("'Elixir.MyApp.PubSub.Adapter_{number}'"),
    };
    format!("pg:get_members('Elixir.Phoenix.PubSub', {group})")
}

/// What the collector of a node has, as soon as it's this.
async fn wait_told(node: &ErlNode, expected: &str, limit: Duration) -> Result<()> {
    wait_until(&format!("{node} was told {expected}"), limit, async || {
        let told = node.elixir("PubSubProbe.told(Process.whereis(C))").await;
        let told = told.map_err(|error| format!("{error:#}"))?;
        if told == expected { Ok(()) } else { Err(told) }
    })
    .await
}

async fn next(subscription: &mut Subscription) -> Result<Notice> {
    tokio::time::timeout(SOON, subscription.next()).await?.context("the pubsub has ended")
}

//! Many nodes in one process, the same ones for both targets: idle connections, or peers.
//!
//! A peer is a process under the scope's name that meets the target's scope as any other does, and
//! reads all it's told; it has no members, and keeps nothing but a count of the joins. So what a
//! target does for it is what it does for any peer, while the machine has little to do beside it.

#![expect(clippy::print_stdout, reason = "it's how it answers")]

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use data_publisher::epmd::Epmd;
use data_publisher::node::{Process, Received};
use data_publisher::term::NodeName;
use data_publisher::{Node, atom, map, tuple};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

use crate::target;

/// What the nodes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Connected, and that's all.
    Idle,
    /// Peers of the target's scope.
    Peers,
}

/// Starts so many nodes and connects them to the target; runs until standard input ends.
///
/// `heard N` returns when each peer was told of N joins since its start.
pub(crate) async fn run(
    role: Role,
    count: usize,
    name: &str,
    epmd_port: u16,
    target: &str,
) -> Result<()> {
    let target: NodeName = target.parse()?;
    // Nobody dials them, so they aren't in EPMD, where a thousand don't fit.
    let found = Epmd::new(epmd_port).lookup(target.host(), target.short()).await?;
    let port = found.context("the target isn't registered")?.port;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (mut nodes, mut heard) = (Vec::new(), Vec::new());
    for number in 0..count {
        let config = target::config(&format!("{number}-{name}"), epmd_port)?.hidden();
        let config = config.resolver(move |_: &NodeName| Some(address));
        let node = data_publisher::start(config).await?;
        node.connect(&target).await?;
        if role == Role::Peers {
            heard.push(start_peer(&node, &target).await?);
        }
        nodes.push(node);
    }
    println!("ready");
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    while let Some(question) = questions.next_line().await? {
        let Some(("heard", joins)) = question.split_once(' ') else {
            bail!("what is `{question}`?")
        };
        let joins: u64 = joins.parse()?;
        for heard in &mut heard {
            heard.wait_for(|heard| *heard >= joins).await.context("a peer has ended")?;
        }
        println!("heard");
    }
    for node in nodes {
        ensure!(node.nodes().contains(&target), "{} has lost the target", node.name());
        node.stop().await;
    }
    Ok(())
}

/// Starts a peer and returns when the target's scope and it know each other: it has been told of all
/// the scope has, by then. What comes back counts the joins it was told of since.
async fn start_peer(node: &Node, target: &NodeName) -> Result<watch::Receiver<u64>> {
    let mut process = node.spawn();
    node.register(atom!("bench"), process.pid())?;
    let hello = tuple![atom!("discover"), process.pid(), 1];
    node.send((atom!("bench"), target.clone()), hello).await?;

    let (count, heard) = watch::channel(0);
    let (node, mut synced) = (node.clone(), false);
    while !synced {
        let message = process.receive().await.context("its process has ended")?;
        synced = answer(&node, &process, message).await? == Some(Told::All);
    }
    // Ends with the node.
    tokio::spawn(async move {
        while let Some(message) = process.receive().await {
            match answer(&node, &process, message).await {
                Ok(Some(Told::Update)) => count.send_modify(|count| *count += 1),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    });
    Ok(heard)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    All,
    Update,
}

/// Says what a scope without members says.
async fn answer(node: &Node, process: &Process, message: Received) -> Result<Option<Told>> {
    let Received::Message { term, .. } = message else { return Ok(None) };
    if term.tagged("update").is_some() {
        return Ok(Some(Told::Update));
    }
    if term.tagged("$gen_cast").is_some() {
        return Ok(Some(Told::All));
    }
    let Some([scope, ..]) = term.tagged("discover") else { bail!("it was told {term}") };
    let nothing = tuple![atom!("local_data"), process.pid(), 1, map! {}];
    node.send(scope.pid()?, tuple![atom!("$gen_cast"), nothing]).await?;
    Ok(None)
}

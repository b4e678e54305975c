//! `ping`: connect, ask `net_kernel` as `net_adm:ping/1` does, say how long the answer took.

use std::time::{Duration, Instant};

use anyhow::Context;
use data_publisher::epmd::Epmd;
use data_publisher::node::{ConnectError, NodeConfig};
use data_publisher::term::NodeName;
use data_publisher::{atom, gen_server, tuple};

use crate::args::Ping;
use crate::{Answer, cure, output};

/// A node that doesn't answer counts as absent after this.
const LIMIT: Duration = Duration::from_millis(7500);

pub(super) async fn run(args: Ping) -> anyhow::Result<Answer> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => own_name("ping", &args.node)?,
    };
    // At any port of ours: nobody needs to find us.
    let config: NodeConfig = args.access.config(&name)?.mesh(false).port(0);
    let peer = || args.node.clone();
    if args.access.dist_port.is_none() {
        // Asked before we may have started an EPMD of our own, which knows nobody.
        let epmd = Epmd::new(args.access.epmd_port);
        match epmd.lookup(args.node.host(), args.node.short()).await {
            Ok(Some(_)) => {}
            Ok(None) => return pang(&ConnectError::NoSuchNode { node: peer() }.into()),
            Err(source) => {
                return pang(&ConnectError::Epmd { node: peer(), source: source.into() }.into());
            }
        }
    }
    let node = data_publisher::start(config).await?;
    let answer = match tokio::time::timeout(LIMIT, node.connect(&args.node)).await {
        Ok(Ok(())) => ask(&node, &args.node).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ConnectError::Timeout { node: args.node.clone() }.into()),
    };
    node.stop().await;
    match answer {
        Ok(took) => {
            output::say(&format!("pong {:.1} ms", took.as_secs_f64() * 1000.0))?;
            Ok(Answer::Yes)
        }
        Err(error) => pang(&error),
    }
}

fn pang(error: &anyhow::Error) -> anyhow::Result<Answer> {
    output::say("pang")?;
    output::complain(&cure::sentence(error));
    Ok(Answer::No)
}

/// How long a node took to say that it's there. It has got what we sent it before.
pub(super) async fn ask(node: &data_publisher::Node, peer: &NodeName) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let request = tuple![atom!("is_auth"), node.name()];
    let answer = gen_server::call(node, (atom!("net_kernel"), peer.clone()), request).await?;
    anyhow::ensure!(answer.is_atom("yes"), "net_kernel answered {answer}");
    Ok(started.elapsed())
}

/// A name that nobody has, beginning with the command's. The host must be one of ours, since the peer may dial back; at a
/// loopback address that is the peer's own.
pub(super) fn own_name(command: &str, peer: &NodeName) -> anyhow::Result<NodeName> {
    let host = match peer.host().parse::<std::net::IpAddr>() {
        Ok(address) if !address.is_loopback() => "127.0.0.1",
        _ => peer.host(),
    };
    NodeName::new(&format!("{command}{}@{host}", std::process::id())).context("own name")
}

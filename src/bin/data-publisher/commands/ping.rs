//! `ping`: connect, ask `net_kernel` as `net_adm:ping/1` does, say how long the answer took.

use std::time::{Duration, Instant};

use data_publisher::term::NodeName;
use data_publisher::{atom, gen_server, tuple};

use super::guest::{self, Absent};
use crate::args::Ping;
use crate::{Answer, cure, output};

pub(super) async fn run(args: Ping) -> anyhow::Result<Answer> {
    let node = match guest::connect(&args.guest, "ping", &args.node).await {
        Ok(node) => node,
        Err(Absent::Peer(error)) => return pang(&error.into()),
        Err(Absent::Us(error)) => return Err(error),
    };
    let answer = ask(&node, &args.node).await;
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

//! `call` and `cast`: a server on a node is asked or told something.

use std::time::Duration;

use data_publisher::gen_server::{self, CallError};
use data_publisher::term::Destination;

use super::guest;
use crate::args::{Call, Cast, Server};
use crate::{Answer, cure, output};

pub(super) async fn call(args: Call) -> anyhow::Result<Answer> {
    let Server { node: peer, to, term } = args.server;
    let node = guest::connect(&args.guest, "call", &peer).await?;
    let limit = Duration::from_secs_f64(args.timeout);
    let result = gen_server::call_within(&node, (to, peer), term, limit).await;
    node.stop().await;
    match result {
        Ok(reply) => {
            output::say(&reply.to_string())?;
            Ok(Answer::Yes)
        }
        Err(error @ (CallError::NoProc { .. } | CallError::Exit { .. })) => {
            output::complain(&cure::sentence(&error.into()));
            Ok(Answer::No)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn cast(args: Cast) -> anyhow::Result<Answer> {
    let Server { node: peer, to, term } = args.server;
    let node = guest::connect(&args.guest, "cast", &peer).await?;
    let to = Destination::Name(to, peer);
    let result = gen_server::cast(&node, to, term).await;
    // All that is queued leaves before the connection closes.
    node.stop().await;
    result?;
    Ok(Answer::Yes)
}

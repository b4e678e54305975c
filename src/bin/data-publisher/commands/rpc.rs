//! `rpc`: a function is called on a node.

use std::time::Duration;

use data_publisher::rpc::{self, RpcError};

use super::guest;
use crate::args::Rpc;
use crate::{Answer, cure, output};

pub(super) async fn run(args: Rpc) -> anyhow::Result<Answer> {
    let Rpc { node: peer, module, function, args: list, timeout, guest } = args;
    anyhow::ensure!(
        list.list().is_ok(),
        "ARGS `{list}` is no list. For one argument write [{list}]"
    );
    let node = guest::connect(&guest, "rpc", &peer).await?;
    let limit = Duration::from_secs_f64(timeout);
    let result = rpc::call_within(&node, &peer, module, function, list, limit).await;
    node.stop().await;
    match result {
        Ok(value) => {
            output::say(&value.to_string())?;
            Ok(Answer::Yes)
        }
        Err(error @ RpcError::Exception(_)) => {
            output::complain(&cure::sentence(&error.into()));
            Ok(Answer::No)
        }
        Err(error) => Err(error.into()),
    }
}

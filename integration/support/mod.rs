//! Real Erlang nodes, remote-controlled.
//!
//! A test starts an [`Epmd`] of its own on a port of its own, then as many [`ErlNode`]s of whatever
//! release it wants; so tests run at the same time and never meet. What a node shall do is said in Erlang
//! ([`ErlNode::eval`]) over a channel that has nothing to do with the distribution.
//!
//! Nothing that crashes on a node goes unseen: a crash report nobody expected
//! ([`ErlNode::expect_crash`]) fails the test, at [`ErlNode::finish`] or when the node is dropped. And
//! nothing stays behind, however the test ends. A release that can't be had fails the tests that want it.

mod certificates;
mod control;
mod elixir;
mod epmd;
mod node;
mod otp;
mod output;
pub(crate) mod secret;
mod watchdog;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

pub(crate) use self::{
    certificates::{Certificates, Security},
    epmd::{Epmd, free_port},
    node::{ErlNode, VM_FLAGS},
    otp::Otp,
    secret::{cookie, search, warnings},
};

/// Long enough for anything that takes milliseconds, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Asks until the condition gives a value, or fails with `what` and the last thing seen instead.
///
/// A condition says with `Err` what it sees now. One that doesn't return is given up at the deadline.
pub(crate) async fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(2);
    let mut last_seen = String::from("nothing yet");
    loop {
        match tokio::time::timeout_at(end, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last_seen = seen,
            Err(_) => {
                bail!("not within {deadline:?}: {what}; still asking, last seen: {last_seen}")
            }
        }
        if Instant::now() + pause > end {
            bail!("not within {deadline:?}: {what}; last seen: {last_seen}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Evaluates until the value is `expected`, as text; variables aren't kept.
pub(crate) async fn wait_eval(
    node: &ErlNode,
    expression: &str,
    expected: &str,
    deadline: Duration,
) -> Result<()> {
    let what = format!("{}: `{expression}` is `{expected}`", node.name());
    wait_until(&what, deadline, async || match node.peek(expression).await {
        Ok(value) if value == expected => Ok(()),
        Ok(value) => Err(value),
        Err(error) => Err(format!("{error:#}")),
    })
    .await
}

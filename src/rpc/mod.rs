//! Functions called on other nodes, and functions other nodes may call here: `rpc` and `erpc`.
//!
//! Out: [`call`] asks the other node for a process that runs the function (a spawn request, as
//! `erpc:call/5` does), and learns what it returned or raised. Output of the function appears at
//! that node's `user`, for as long as the connection lasts.
//!
//! In: `rpc:call`, `erpc:call`, their `multicall`, `cast` and `send_request`, and plain `spawn` reach
//! the functions that were [allowed](Rpc::allow), and no others: by default `erlang:node/0`,
//! `erlang:nodes/0`, `erlang:system_info/1` with a few keys, and `code:ensure_loaded/1`, which finds
//! no module. Any other is `undef`, at once, as if the module weren't there.
//!
//! `erlang:system_info(otp_release)` is `"29"`, though there is no OTP here: callers take it for what
//! they may send, and that is the newest release whose protocols we speak. `version`, `machine` and
//! `system_version` say what runs here in truth.
//!
//! ```no_run
//! # async fn example(node: data_publisher::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use data_publisher::{atom, list, rpc};
//!
//! // Here to there.
//! let there = "a@127.0.0.1".parse()?;
//! let reversed = rpc::call(&node, &there, atom!("lists"), atom!("reverse"), list![list![1, 2]]);
//! assert_eq!(reversed.await?, list![2, 1]);
//!
//! // There to here: `rpc:call('rust1@127.0.0.1', math, double, [21])`.
//! node.rpc().allow(atom!("math"), atom!("double"), 1, |args| async move {
//!     Ok((args[0].integer()? * 2).into()) // no integer: an error `badarg` at the caller
//! });
//! # Ok(()) }
//! ```

mod allowed;
mod exception;
mod known;
mod output;
mod rex;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::join_all;

pub use allowed::Rpc;
pub use exception::{Class, Exception};

use crate::atom;
use crate::node::router::Unsent;
use crate::node::{Node, Process, Received, SendError, SpawnRequest};
use crate::term::{Atom, Destination, List, NodeName, Reference, Term};

/// Default time a call waits for its result. (On the BEAM it is `infinity`.)
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The services a node starts with.
pub(crate) fn start(node: &Node) {
    known::allow(node);
    rex::start(node);
}

/// Calls a function on another node, as `erpc:call(Node, Module, Function, Args)`, waiting at most
/// [`CALL_TIMEOUT`]. Connects if need be. With our own node's name it calls what is allowed here.
///
/// `args` is a list: `list![1, atom!("a")]`.
///
/// # Errors
///
/// [`RpcError`]: `Exception` when the function raised one, `undef` among them. After `Timeout` and
/// `NoConnection` nobody knows whether it was or will be called.
pub async fn call(
    node: &Node,
    to: &NodeName,
    module: Atom,
    function: Atom,
    args: impl Into<Term>,
) -> Result<Term, RpcError> {
    call_within(node, to, module, function, args, CALL_TIMEOUT).await
}

/// As [`call`], with another limit of time.
///
/// # Errors
///
/// As [`call`].
pub async fn call_within(
    node: &Node,
    to: &NodeName,
    module: Atom,
    function: Atom,
    args: impl Into<Term>,
    limit: Duration,
) -> Result<Term, RpcError> {
    let args = args.into();
    let called = async {
        let Term::List(args) = args else { return Err(Exception::badarg().into()) };
        if to == node.name() {
            return Ok(node.rpc().call(&module, &function, args).await?);
        }
        node.connect(to).await.map_err(SendError::from)?;
        execute(node, to, module, function, args).await
    };
    match tokio::time::timeout(limit, called).await {
        Ok(result) => result,
        Err(_) => Err(RpcError::Timeout { node: to.clone(), limit }),
    }
}

/// Calls a function on another node and waits for nothing but a connection if there is none, as
/// `erpc:cast(Node, Module, Function, Args)`.
///
/// # Errors
///
/// [`SendError`] when the request hasn't left.
pub async fn cast(
    node: &Node,
    to: &NodeName,
    module: Atom,
    function: Atom,
    args: List,
) -> Result<(), SendError> {
    if to == node.name() {
        let rpc = node.rpc();
        tokio::spawn(async move { rpc.call(&module, &function, args).await });
        return Ok(());
    }
    node.connect(to).await?;
    let process = node.spawn();
    let args = vec![module.into(), function.into(), Term::List(args)].into();
    let (erpc, execute) = (atom!("erpc"), atom!("execute_cast"));
    let request = SpawnRequest::new(to.clone(), erpc.clone(), execute, args);
    let request = output::to_user(node, to, request);
    process.spawn_request_soon(request).await.1.map_err(|unsent| match unsent {
        Unsent::NoConnection => SendError::NoConnection { node: to.clone() },
        Unsent::TooLarge => SendError::TooLarge { to: Destination::Name(erpc, to.clone()) },
    })
}

/// Calls a function on each of the nodes, all at once, as `erpc:multicall/5`; each node's result in
/// the order in which they were given.
pub async fn multicall(
    node: &Node,
    nodes: impl IntoIterator<Item = NodeName>,
    module: Atom,
    function: Atom,
    args: impl Into<Term>,
    limit: Duration,
) -> Vec<(NodeName, Result<Term, RpcError>)> {
    let args = args.into();
    let calls = nodes.into_iter().map(|to| {
        let (module, function, args) = (module.clone(), function.clone(), args.clone());
        async move {
            let result = call_within(node, &to, module, function, args, limit).await;
            (to, result)
        }
    });
    join_all(calls).await
}

/// `erpc:execute_call(Ref, Module, Function, Args)` in a process of that node, which ends with what
/// came of it.
async fn execute(
    node: &Node,
    to: &NodeName,
    module: Atom,
    function: Atom,
    args: List,
) -> Result<Term, RpcError> {
    let mut caller = node.spawn();
    let mark = node.make_ref();
    let args = vec![(&mark).into(), module.into(), function.into(), Term::List(args)].into();
    let request =
        SpawnRequest::new(to.clone(), atom!("erpc"), atom!("execute_call"), args).monitor();
    let (reference, _) = caller.spawn_request_soon(output::to_user(node, to, request)).await;
    wait(&mut caller, to, &reference, &mark).await
}

async fn wait(
    caller: &mut Process,
    to: &NodeName,
    request: &Reference,
    mark: &Reference,
) -> Result<Term, RpcError> {
    let no_connection = || RpcError::NoConnection { node: to.clone() };
    loop {
        match caller.receive().await {
            Some(Received::SpawnReply { reference, result: Err(reason) })
                if reference == *request =>
            {
                return Err(match reason {
                    reason if reason == *"noconnection" => no_connection(),
                    reason => RpcError::Refused { node: to.clone(), reason },
                });
            }
            Some(Received::Down { reference, reason, .. }) if reference == *request => {
                if reason.is_atom("noconnection") {
                    return Err(no_connection());
                }
                return exception::read(&reason, mark).map_err(RpcError::Exception);
            }
            Some(_) => {}
            None => return Err(no_connection()),
        }
    }
}

/// Why a call of a function brought no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The function raised it. That there is no such function is one, too: an error `undef`.
    #[error(transparent)]
    Exception(#[from] Exception),
    /// No result in time.
    #[error("no result from {node} within {limit:?}")]
    Timeout {
        /// Who was asked.
        node: NodeName,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection was lost.
    #[error("the connection to {node} was lost")]
    NoConnection {
        /// Who was asked.
        node: NodeName,
    },
    /// The node started no process for it: `notsup`, `system_limit` ...
    #[error("{node} runs no function for us: {reason}")]
    Refused {
        /// Who was asked.
        node: NodeName,
        /// What it said.
        reason: Atom,
    },
    /// The request hasn't left.
    #[error(transparent)]
    Send(#[from] SendError),
}

//! `gen_server`'s protocol, both ways: calls and casts to processes anywhere in the cluster, and
//! servers here that answer them.
//!
//! A call is `{'$gen_call', {Pid, Tag}, Request}`, its reply `{Tag, Reply}`; a cast is
//! `{'$gen_cast', Request}` (`gen:call/4`, `gen_server:cast/2` of stdlib). Our tag is
//! `[alias|Reference]` as that of OTP's own calls: the reference is a monitor and an alias, and a
//! reply that comes too late finds neither.
//!
//! [`GenServer`] is the trait of a server, [`start`] runs one. What `sys` asks (`sys:get_state/1`,
//! `sys:suspend/1` ...) servers and scopes answer alike.

mod server;
mod sys;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::join_all;

use crate::node::router::{Router, Unsent};
use crate::node::{Monitored, Node, Process, Received, SendError, too_large};
use crate::term::{Atom, Destination, NodeName, Pid, Reference, Term};
use crate::{atom, tuple};

pub use server::{Caller, Context, GenServer, Next, Reply, start, start_registered};
pub(crate) use server::{keep, text_of};
pub(crate) use sys::{Shown, Sys, Verdict};

/// Default time a call waits for its reply, as `gen_server:call/2`.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls a process and waits for its reply, at most [`CALL_TIMEOUT`]. Connects to its node if need
/// be.
///
/// # Errors
///
/// [`CallError`].
pub async fn call(
    node: &Node,
    to: impl Into<Destination>,
    request: impl Into<Term>,
) -> Result<Term, CallError> {
    call_within(node, to, request, CALL_TIMEOUT).await
}

/// As [`call`], with another limit of time.
///
/// # Errors
///
/// [`CallError`].
pub async fn call_within(
    node: &Node,
    to: impl Into<Destination>,
    request: impl Into<Term>,
    limit: Duration,
) -> Result<Term, CallError> {
    let (to, request) = (to.into(), request.into());
    match tokio::time::timeout(limit, call_process(node, &to, request)).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Timeout { to, limit }),
    }
}

async fn call_process(node: &Node, to: &Destination, request: Term) -> Result<Term, CallError> {
    connect(node, to).await?;
    // A process of its own, so that any task may call.
    let mut caller = node.spawn();
    let (question, message) = ask(&caller, to, &request)?;
    node.send_from(Some(caller.pid()), to, &message).await?;
    answer(&mut caller, to, &question).await
}

async fn connect(node: &Node, to: &Destination) -> Result<(), SendError> {
    if to.node() != node.name() {
        node.connect(to.node()).await?;
    }
    Ok(())
}

/// As [`call`] by a process made for it, to a node that is connected: it never connects.
///
/// # Errors
///
/// [`CallError`]; [`CallError::NoConnection`] when there is no connection.
pub async fn call_connected(
    mut caller: Process,
    to: &Destination,
    request: Term,
) -> Result<Term, CallError> {
    let (question, message) = ask(&caller, to, &request)?;
    if !caller.send(to.clone(), message) {
        return Err(CallError::NoConnection { to: to.clone() });
    }
    let late = |_| CallError::Timeout { to: to.clone(), limit: CALL_TIMEOUT };
    tokio::time::timeout(CALL_TIMEOUT, answer(&mut caller, to, &question)).await.map_err(late)?
}

/// What a call waits for.
struct Question {
    /// Of its `Down`.
    monitor: Reference,
    /// Of its reply.
    tag: Term,
}

/// Monitors whom we are going to call: the reference is in the call's tag as well.
fn ask(caller: &Process, to: &Destination, request: &Term) -> Result<(Question, Term), CallError> {
    let monitor = caller.monitor_alias(monitored(to)?);
    let tag = Term::list_with_tail(vec![atom!("alias").into()], (&monitor).into());
    let message = tuple![atom!("$gen_call"), tuple![caller.pid(), &tag], request];
    Ok((Question { monitor, tag }, message))
}

fn monitored(to: &Destination) -> Result<Monitored, CallError> {
    match to {
        Destination::Pid(pid) => Ok(Monitored::Pid(pid.clone())),
        Destination::Name(name, on) => Ok(Monitored::Name(name.clone(), on.clone())),
        // Nobody can say whether it is still active.
        Destination::Alias(_) => Err(CallError::NoProc { to: to.clone() }),
    }
}

async fn answer(
    caller: &mut Process,
    to: &Destination,
    question: &Question,
) -> Result<Term, CallError> {
    loop {
        match caller.receive().await {
            Some(Received::Message { term, .. }) => {
                if let Ok([tag, reply]) = term.tuple::<2>()
                    && *tag == question.tag
                {
                    return Ok(reply.clone());
                }
            }
            Some(Received::Down { reference, reason, .. }) if reference == question.monitor => {
                return Err(ended(to, reason));
            }
            Some(_) => {}
            None => return Err(CallError::NoConnection { to: to.clone() }),
        }
    }
}

fn ended(to: &Destination, reason: Term) -> CallError {
    let to = to.clone();
    match &reason {
        reason if reason.is_atom("noproc") => CallError::NoProc { to },
        reason if reason.is_atom("noconnection") => CallError::NoConnection { to },
        _ => CallError::Exit { to, reason },
    }
}

/// Sends `{'$gen_cast', Request}`. Nobody says whether it arrived.
///
/// # Errors
///
/// [`SendError`] when it hasn't left.
pub async fn cast(
    node: &Node,
    to: impl Into<Destination>,
    request: impl Into<Term>,
) -> Result<(), SendError> {
    node.send(to, tuple![atom!("$gen_cast"), request.into()]).await
}

/// Calls whoever has the name on each of the nodes, all at once, and waits for all of them, at most
/// `limit`. As `gen_server:multi_call/4`.
pub async fn multi_call(
    node: &Node,
    nodes: impl IntoIterator<Item = NodeName>,
    name: &Atom,
    request: impl Into<Term>,
    limit: Duration,
) -> MultiReply {
    let request = request.into();
    let calls = nodes.into_iter().map(|on| {
        let to = Destination::Name(name.clone(), on.clone());
        let called = call_within(node, to, request.clone(), limit);
        async { (on, called.await) }
    });
    let mut all = MultiReply::default();
    for (on, result) in join_all(calls).await {
        match result {
            Ok(reply) => all.replies.push((on, reply)),
            Err(error) => all.bad_nodes.push((on, error)),
        }
    }
    all
}

/// What [`multi_call`] brought, each part in the order in which the nodes were given.
#[derive(Clone, Debug, Default)]
pub struct MultiReply {
    /// Who replied, and what.
    pub replies: Vec<(NodeName, Term)>,
    /// Who didn't, and why.
    pub bad_nodes: Vec<(NodeName, CallError)>,
}

/// Tells a server to end with this reason, and waits until it has, at most [`CALL_TIMEOUT`]. Ours
/// and those on the BEAM understand it alike: `gen_server:stop/3`.
///
/// # Errors
///
/// [`CallError`]: `Exit` when it ended for another reason, `NoProc` when there was none.
pub async fn stop(
    node: &Node,
    to: impl Into<Destination>,
    reason: impl Into<Term>,
) -> Result<(), CallError> {
    let (to, reason) = (to.into(), reason.into());
    let stopped = async {
        connect(node, &to).await?;
        let mut caller = node.spawn();
        let monitor = caller.monitor(monitored(&to)?);
        let from = tuple![caller.pid(), &monitor];
        let request = tuple![atom!("terminate"), &reason];
        let message = tuple![atom!("system"), from, request];
        node.send_from(Some(caller.pid()), &to, &message).await?;
        loop {
            match caller.receive().await {
                Some(Received::Down { reason: why, .. }) if why == reason => return Ok(()),
                Some(Received::Down { reason: why, .. }) => return Err(ended(&to, why)),
                Some(_) => {}
                None => return Err(CallError::NoConnection { to: to.clone() }),
            }
        }
    };
    match tokio::time::timeout(CALL_TIMEOUT, stopped).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Timeout { to, limit: CALL_TIMEOUT }),
    }
}

/// Where the reply to `{Pid, Tag}` goes, the message being `{Tag, Reply}` in any case.
///
/// The tag of a caller is a reference, `[alias|Reference]` (`gen_server:call`),
/// `[[alias|Reference]|_]` (`multi_call` of OTP 27 and 29) or any other term. Those with an alias get
/// the reply at the alias, so that a late one doesn't litter the caller's mailbox.
///
/// Source: `gen:reply/2`, stdlib.
pub fn reply_destination(pid: &Pid, tag: &Term) -> Destination {
    match alias_of(tag) {
        Some(alias) => Destination::Alias(alias.clone()),
        None => Destination::Pid(pid.clone()),
    }
}

fn alias_of(tag: &Term) -> Option<&Reference> {
    let Term::ImproperList(list) = tag else { return None };
    match (list.elements(), list.tail()) {
        ([head], Term::Reference(reference)) if head.is_atom("alias") => Some(reference),
        ([head @ Term::ImproperList(_)], _) => alias_of(head),
        _ => None,
    }
}

/// A call taken apart: who calls, and what for.
pub(crate) struct Call<'a> {
    pub(crate) from: &'a Pid,
    pub(crate) tag: &'a Term,
    pub(crate) request: &'a Term,
}

/// Whether somebody waits for a reply: a call, or `{system, From, Request}`.
pub(crate) fn is_call(message: &Term) -> bool {
    ["$gen_call", "system"].iter().any(|label| message.tagged(label).is_some())
}

/// Reads `{'$gen_call', {Pid, Tag}, Request}`.
pub(crate) fn read_call(message: &Term) -> Option<Call<'_>> {
    read_labelled(message, "$gen_call")
}

/// Reads `{Label, {Pid, Tag}, Request}`.
fn read_labelled<'a>(message: &'a Term, label: &str) -> Option<Call<'a>> {
    let [from, request] = message.tagged(label)? else { return None };
    let [Term::Pid(from), tag] = from.tuple::<2>().ok()? else { return None };
    Some(Call { from, tag, request })
}

impl Call<'_> {
    /// Answers: `{Tag, Reply}`, to where the tag says.
    pub(crate) fn reply(&self, process: &Process, reply: impl Into<Term>) {
        reply_to(process.router(), process.pid(), (self.from, self.tag), reply.into());
    }
}

/// Sends `{Tag, Reply}`, or `{Tag, {error, {system_limit, too_large}}}` if that can't be sent: the caller
/// may wait for ever, as that of `sys:get_state/2` with `infinity`. `false` if nothing was sent.
fn reply_to(router: &Router, server: &Pid, (from, tag): (&Pid, &Term), reply: Term) -> bool {
    let to = reply_destination(from, tag);
    let mut sent = router.send(Some(server), &to, &tuple![tag, reply]);
    if sent == Err(Unsent::TooLarge) {
        let error = tuple![atom!("error"), too_large()];
        sent = router.send(Some(server), &to, &tuple![tag, error]);
    }
    sent.is_ok()
}

/// Why a call brought no reply.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No reply in time. The process may have done what was asked.
    #[error("no reply from {to} within {limit:?}")]
    Timeout {
        /// Who was called.
        to: Destination,
        /// How long was waited.
        limit: Duration,
    },
    /// There is no such process.
    #[error("there is no process {to}")]
    NoProc {
        /// Who was called.
        to: Destination,
    },
    /// The connection to its node was lost.
    #[error("the connection to {to} was lost")]
    NoConnection {
        /// Who was called.
        to: Destination,
    },
    /// The process ended before it replied.
    #[error("{to} ended: {reason}")]
    Exit {
        /// Who was called.
        to: Destination,
        /// Why it ended.
        reason: Term,
    },
    /// The request hasn't left.
    #[error(transparent)]
    Send(#[from] SendError),
}

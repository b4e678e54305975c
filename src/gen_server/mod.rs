//! `gen_server`'s protocol towards other processes: a call, a cast, and the reply.
//!
//! A call is `{'$gen_call', {Pid, Tag}, Request}`, its reply `{Tag, Reply}`; a cast is
//! `{'$gen_cast', Request}` (`gen:call/4`, `gen_server:cast/2` of stdlib).

use std::time::Duration;

use crate::node::{Monitored, Node, Process, Received, SendError};
use crate::term::{Destination, Pid, Reference, Term};
use crate::{atom, tuple};

/// Default time a call waits for its reply, as `gen_server:call/2`.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls a process and waits for its reply, at most [`CALL_TIMEOUT`].
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
    if to.node() != node.name() {
        node.connect(to.node()).await.map_err(SendError::from)?;
    }
    // A process of its own: its pid is no longer alive when a late reply comes, which is dropped.
    let mut caller = node.spawn();
    let (monitor, message) = ask(&caller, to, &request)?;
    node.send_from(Some(caller.pid()), to, &message).await?;
    answer(&mut caller, to, &monitor).await
}

/// As [`call`] by a process made for it, to a node that is connected.
pub(crate) async fn call_connected(
    mut caller: Process,
    to: &Destination,
    request: Term,
) -> Result<Term, CallError> {
    let (monitor, message) = ask(&caller, to, &request)?;
    if !caller.send(to.clone(), message) {
        return Err(CallError::NoConnection { to: to.clone() });
    }
    let late = |_| CallError::Timeout { to: to.clone(), limit: CALL_TIMEOUT };
    tokio::time::timeout(CALL_TIMEOUT, answer(&mut caller, to, &monitor)).await.map_err(late)?
}

/// Monitors whom we are going to call: the reference is the call's tag as well.
fn ask(caller: &Process, to: &Destination, request: &Term) -> Result<(Reference, Term), CallError> {
    let object = match to {
        Destination::Pid(pid) => Monitored::Pid(pid.clone()),
        Destination::Name(name, on) => Monitored::Name(name.clone(), on.clone()),
        Destination::Alias(_) => return Err(CallError::NoProc { to: to.clone() }),
    };
    let monitor = caller.monitor(object);
    let from = tuple![caller.pid(), &monitor];
    Ok((monitor, tuple![atom!("$gen_call"), from, request]))
}

async fn answer(
    caller: &mut Process,
    to: &Destination,
    monitor: &Reference,
) -> Result<Term, CallError> {
    loop {
        match caller.receive().await {
            Some(Received::Message { term, .. }) => {
                if let Ok([Term::Reference(tag), reply]) = term.tuple::<2>()
                    && tag == monitor
                {
                    return Ok(reply.clone());
                }
            }
            Some(Received::Down { reason, .. }) => {
                return Err(match &reason {
                    reason if reason.is_atom("noproc") => CallError::NoProc { to: to.clone() },
                    reason if reason.is_atom("noconnection") => {
                        CallError::NoConnection { to: to.clone() }
                    }
                    _ => CallError::Exit { to: to.clone(), reason },
                });
            }
            Some(_) => {}
            None => return Err(CallError::NoConnection { to: to.clone() }),
        }
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

/// Reads `{'$gen_call', {Pid, Tag}, Request}`.
pub(crate) fn read_call(message: &Term) -> Option<Call<'_>> {
    let [from, request] = message.tagged("$gen_call")? else { return None };
    let [Term::Pid(from), tag] = from.tuple::<2>().ok()? else { return None };
    Some(Call { from, tag, request })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;
    use crate::term::{Creation, NodeName, Reference};

    #[test]
    fn a_reply_goes_where_the_form_of_the_tag_says() {
        let node = NodeName::new("a@b").unwrap();
        let pid = Pid { node: node.clone(), id: 1, serial: 0, creation: Creation(4) };
        let reference = Reference::new(node, Creation(4), &[1, 2, 3]).unwrap();
        let alias = Term::list_with_tail(vec![atom!("alias").into()], (&reference).into());
        let nested = Term::list_with_tail(vec![alias.clone()], (&reference).into());
        let to_pid = Destination::Pid(pid.clone());
        let to_alias = Destination::Alias(reference.clone());

        assert_eq!(reply_destination(&pid, &(&reference).into()), to_pid);
        assert_eq!(reply_destination(&pid, &tuple![&reference, atom!("n@h")]), to_pid);
        assert_eq!(reply_destination(&pid, &alias), to_alias);
        assert_eq!(reply_destination(&pid, &nested), to_alias);
        assert_eq!(reply_destination(&pid, &list![atom!("alias"), &reference]), to_pid);
    }
}

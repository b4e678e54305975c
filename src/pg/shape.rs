//! What may leave towards a peer's scope, as a check on every single message: for tests, and for
//! whoever changes the publisher.
//!
//! A `pg` on the BEAM crashes on everything else, and takes the members of its node with it. The
//! second part of the promise, that nobody is told to leave a group they don't know of, is a matter
//! of order and checked by the simulation.

use super::legacy;
use crate::engine::Version;
use crate::term::Term;

/// Whether a scope of this version survives the message; `None`: it isn't known who listens.
pub fn is_allowed_shape(version: Option<&Version>, message: &Term) -> bool {
    match version {
        None => is_short_discover(message),
        Some(version) if legacy::is_spoken_by(version) => {
            is_short_discover(message) || is_join(message) || is_leave(message) || is_sync(message)
        }
        Some(_) => {
            is_short_discover(message)
                || matches!(message.tagged("discover"), Some([Term::Pid(_), _]))
                || is_update(message)
                || is_local_data(message)
        }
    }
}

/// `{discover, Pid}`.
fn is_short_discover(message: &Term) -> bool {
    matches!(message.tagged("discover"), Some([Term::Pid(_)]))
}

/// `{join, Pid, Group, [Pid, ...]}`.
fn is_join(message: &Term) -> bool {
    matches!(message.tagged("join"), Some([Term::Pid(_), _, pids]) if is_members(pids))
}

/// `{leave, Pid, Pid, [Group, ...]}`.
fn is_leave(message: &Term) -> bool {
    matches!(
        message.tagged("leave"),
        Some([Term::Pid(_), Term::Pid(_), Term::List(groups)]) if !groups.is_empty()
    )
}

/// `{'$gen_cast', {sync, Pid, [{Group, [Pid, ...]}]}}`, no group twice.
fn is_sync(message: &Term) -> bool {
    let Some([cast]) = message.tagged("$gen_cast") else { return false };
    let Some([Term::Pid(_), Term::List(groups)]) = cast.tagged("sync") else { return false };
    let mut names: Vec<&Term> = Vec::new();
    let all_good = groups.iter().all(|pair| match pair.tuple::<2>() {
        Ok([name, pids]) => {
            names.push(name);
            is_members(pids)
        }
        Err(_) => false,
    });
    names.sort();
    all_good && names.windows(2).all(|two| two[0] != two[1])
}

/// `{update, Pid, [{Group, Add, Remove}]}`, with something in it.
fn is_update(message: &Term) -> bool {
    let Some([Term::Pid(_), Term::List(changes)]) = message.tagged("update") else { return false };
    let is_change = |change: &Term| match change.tuple::<3>() {
        Ok([_, add, remove]) => {
            is_pids(add) && is_pids(remove) && (is_members(add) || is_members(remove))
        }
        Err(_) => false,
    };
    !changes.is_empty() && changes.iter().all(is_change)
}

/// `{'$gen_cast', {local_data, Pid, Version, #{Group => [Pid, ...]}}}`.
fn is_local_data(message: &Term) -> bool {
    let Some([cast]) = message.tagged("$gen_cast") else { return false };
    match cast.tagged("local_data") {
        Some([Term::Pid(_), _, Term::Map(groups)]) => {
            groups.pairs().iter().all(|(_, pids)| is_members(pids))
        }
        _ => false,
    }
}

/// A proper list of pids.
fn is_pids(term: &Term) -> bool {
    matches!(term, Term::List(pids) if pids.iter().all(|pid| matches!(pid, Term::Pid(_))))
}

/// The same with at least one.
fn is_members(term: &Term) -> bool {
    is_pids(term) && *term != Term::NIL
}

//! Version 0 of `pg`, the words of OTP 23 to 28: `join`, `leave`, `sync` and the short `discover`.
//!
//! A scope of these releases crashes on what it doesn't expect, and all its members are lost. So
//! what is sent keeps to the narrowest form all of them take: `sync` as a cast, the others plain; no
//! group without members; and of a `leave` the form with one pid, because OTP 25 keeps an empty group
//! after one with several, and crashes on the next `sync` that has members in it.
//!
//! Source: `pg`, OTP 25 and 27: `handle_info/2`, `handle_cast/2`, `sync_groups/5`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::members::Groups;
use super::publisher::{Change, PgPublisher, pids_term, read_groups, read_pids};
use crate::engine::{PeerMessage, Version};
use crate::term::{BadTerm, Pid, Term};
use crate::{atom, tuple};

/// Most memberships one `leave` can end: its pids times its groups. No release sends both as long
/// lists, and a short message mustn't make long work.
const MOST_LEAVES: usize = 1 << 20;

/// Whether a peer of this version has to be spoken to in these words.
pub(super) fn is_spoken_by(version: &Version) -> bool {
    version.0 == Term::Integer(0)
}

/// `{sync, Me, [{Group, Pids}]}`.
pub(super) fn sync_term(me: &Pid, data: &Groups) -> Term {
    let groups = data.sorted().into_iter().map(|(group, bag)| tuple![group, pids_term(bag.iter())]);
    tuple![atom!("sync"), me, Term::list_of(groups)]
}

/// `{leave, Me, Pid, Groups}` and `{join, Me, Group, Pids}`, in the order of the changes. Leaves
/// that follow each other are one message for each pid.
pub(super) fn update_terms(me: &Pid, update: &[Change]) -> Vec<Term> {
    let mut messages = Vec::new();
    let mut leaves = Leaves::default();
    for Change { group, add, remove } in update {
        for pid in remove.iter() {
            leaves.add(pid, group);
        }
        if !add.is_empty() {
            leaves.write(me, &mut messages);
            messages.push(tuple![atom!("join"), me, group, pids_term(&**add)]);
        }
    }
    leaves.write(me, &mut messages);
    messages
}

/// Who leaves which groups, in the order they were told.
#[derive(Default)]
struct Leaves<'a> {
    of: Vec<(&'a Pid, Vec<&'a Term>)>,
    places: FxHashMap<&'a Pid, usize>,
}

impl<'a> Leaves<'a> {
    fn add(&mut self, pid: &'a Pid, group: &'a Term) {
        let place = *self.places.entry(pid).or_insert(self.of.len());
        match self.of.get_mut(place) {
            Some((_, groups)) => groups.push(group),
            None => self.of.push((pid, vec![group])),
        }
    }

    fn write(&mut self, me: &Pid, messages: &mut Vec<Term>) {
        self.places.clear();
        messages.extend(self.of.drain(..).map(|(pid, groups)| {
            tuple![atom!("leave"), me, pid, Term::list_of(groups.into_iter().cloned())]
        }));
    }
}

/// Reads a message of version 0; `None` for all others.
pub(super) fn read(message: &Term) -> Option<PeerMessage<PgPublisher>> {
    match message.tuple_elements().ok()? {
        [word, Term::Pid(peer)] if word.is_atom("discover") => {
            Some(PeerMessage::Discover { peer: peer.clone(), version: 0.into() })
        }
        [word, Term::Pid(peer), group, pids] if word.is_atom("join") => {
            Some(update_message(peer, read_join(group, pids)))
        }
        [word, Term::Pid(peer), pids, groups] if word.is_atom("leave") => {
            Some(update_message(peer, read_leave(pids, groups)))
        }
        [word, Term::Pid(peer), groups] if word.is_atom("sync") => {
            let (peer, label) = (peer.clone(), Version::from(0));
            Some(match read_sync(groups) {
                Ok(data) => PeerMessage::LocalData { peer, label, data },
                Err(_) => PeerMessage::Unreadable { peer, label: Some(label) },
            })
        }
        _ => None,
    }
}

fn update_message(peer: &Pid, read: Result<Vec<Change>, BadTerm>) -> PeerMessage<PgPublisher> {
    let peer = peer.clone();
    match read {
        Ok(update) => PeerMessage::Update { peer, update },
        Err(_) => PeerMessage::Unreadable { peer, label: None },
    }
}

fn read_join(group: &Term, pids: &Term) -> Result<Vec<Change>, BadTerm> {
    let (group, add) = (group.clone(), read_pid_or_pids(pids)?);
    Ok(vec![Change { group, add, remove: Arc::default() }])
}

fn read_leave(pids: &Term, groups: &Term) -> Result<Vec<Change>, BadTerm> {
    let pids = read_pid_or_pids(pids)?;
    let groups = groups.list()?;
    if pids.len().saturating_mul(groups.len()) > MOST_LEAVES {
        return Err(BadTerm {
            expected: "a leave of at most 1,048,576 memberships".into(),
            found: format!("{} pids and {} groups", pids.len(), groups.len()),
        });
    }
    let leave = |group: &Term| {
        let (group, remove) = (group.clone(), pids.clone());
        Change { group, add: Arc::default(), remove }
    };
    Ok(groups.iter().map(leave).collect())
}

fn read_sync(groups: &Term) -> Result<Groups, BadTerm> {
    read_groups(groups.list()?.iter().map(|pair| {
        let [group, pids] = pair.tuple::<2>()?;
        Ok((group, pids))
    }))
}

fn read_pid_or_pids(term: &Term) -> Result<Arc<[Pid]>, BadTerm> {
    match term {
        Term::Pid(pid) => Ok(Arc::new([pid.clone()])),
        _ => read_pids(term),
    }
}

//! The engine's messages as terms: what comes wrapped how, and the three that peers exchange.
//!
//! `discover` and `update` travel plain, `local_data` as a cast. Reading, either wrapping is taken.
//!
//! Source: `data_publisher:handle_info/2` and `handle_cast/2`, OTP 29.

use super::publisher::{DataPublisher, PeerMessage, Version};
use crate::term::{Pid, Pieces, Term};
use crate::{atom, tuple};

/// How a message came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Envelope<'a> {
    /// `{'$gen_call', From, Request}`.
    Call { from: &'a Term, request: &'a Term },
    /// `{'$gen_cast', Message}` or just `Message`.
    Message(&'a Term),
}

pub(super) fn open(message: &Term) -> Envelope<'_> {
    if let Some([from, request]) = message.tagged("$gen_call") {
        Envelope::Call { from, request }
    } else if let Some([message]) = message.tagged("$gen_cast") {
        Envelope::Message(message)
    } else {
        Envelope::Message(message)
    }
}

/// `None` for everything that isn't one of the three with a pid at its place.
pub(super) fn read<P: DataPublisher>(message: &Term, publisher: &P) -> Option<PeerMessage<P>> {
    if let Some([Term::Pid(peer), version]) = message.tagged("discover") {
        return Some(PeerMessage::Discover {
            peer: peer.clone(),
            version: Version(version.clone()),
        });
    }
    if let Some([Term::Pid(peer), label, data]) = message.tagged("local_data") {
        let (peer, label) = (peer.clone(), Version(label.clone()));
        return Some(match publisher.read_local_data(data) {
            Ok(data) => PeerMessage::LocalData { peer, label, data },
            Err(_) => PeerMessage::Unreadable { peer, label: Some(label) },
        });
    }
    if let Some([Term::Pid(peer), update]) = message.tagged("update") {
        return Some(match publisher.read_update(update) {
            Ok(update) => PeerMessage::Update { peer: peer.clone(), update },
            Err(_) => PeerMessage::Unreadable { peer: peer.clone(), label: None },
        });
    }
    None
}

/// As [`read`] of what [`open`] gives, taken from pieces. `None` also for much that [`read`] reads.
pub(super) fn take<P: DataPublisher>(
    pieces: &mut impl Pieces,
    publisher: &P,
) -> Option<PeerMessage<P>> {
    match pieces.tuple()? {
        3 => {
            pieces.word("update")?;
            let peer = pieces.pid()?;
            let update = publisher.take_update(pieces)?;
            Some(PeerMessage::Update { peer, update })
        }
        2 => {
            pieces.word("$gen_cast")?;
            (pieces.tuple()? == 4).then_some(())?;
            pieces.word("local_data")?;
            let (peer, label) = (pieces.pid()?, Version(pieces.term()?));
            let data = publisher.take_local_data(pieces)?;
            Some(PeerMessage::LocalData { peer, label, data })
        }
        _ => None,
    }
}

/// Who says something of which the rest can't be read: `{Word, Pid, ...}`. With the label if it's local
/// data.
pub(super) fn take_sender(pieces: &mut impl Pieces) -> Option<(Pid, Option<Version>)> {
    let (mut elements, mut word) = (pieces.tuple()?, pieces.term()?);
    if elements == 2 && word.is_atom("$gen_cast") {
        (elements, word) = (pieces.tuple()?, pieces.term()?);
    }
    let peer = pieces.pid()?;
    let is_data = elements == 4 && word.is_atom("local_data");
    Some((peer, if is_data { pieces.term().map(Version) } else { None }))
}

/// `{local_data, Me, Label, Data}`.
pub(super) fn local_data(me: &Pid, label: &Version, data: Term) -> Term {
    tuple![atom!("local_data"), me, &label.0, data]
}

/// `{update, Me, Update}`.
pub(super) fn update(me: &Pid, update: Term) -> Term {
    tuple![atom!("update"), me, update]
}

/// `{'$gen_cast', Message}`, as `gen_server:cast/2` sends it.
pub(super) fn cast(message: Term) -> Term {
    tuple![atom!("$gen_cast"), message]
}

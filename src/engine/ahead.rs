//! Messages of peers that are read before those in front of them are handled.
//!
//! What an update changes is mostly in memory that no cache holds, and waiting for that is most of what
//! the update costs. Of several at once the publisher can touch it all, so that one wait serves for all of them.

use super::action::Action;
use super::engine::Engine;
use super::message;
use super::publisher::{DataPublisher, PeerMessage};
use crate::term::{NodeName, Pieces};

impl<P: DataPublisher> Engine<P> {
    /// Reads a message of a peer and does nothing yet. `None` if it must be handled as a term, by
    /// [`Input::Message`](super::Input::Message).
    pub fn take(&self, pieces: &mut impl Pieces) -> Option<PeerMessage<P>> {
        message::take(pieces, &self.publisher)
    }

    /// Has the publisher look at the updates among these messages, which are handled next. Changes nothing.
    pub fn look_ahead(&self, messages: &[PeerMessage<P>]) {
        let mut updates = messages
            .iter()
            .filter_map(|message| match message {
                PeerMessage::Update { peer, update } => Some((peer, update)),
                _ => None,
            })
            .peekable();
        // Those of one connection are of one peer, if it doesn't lie.
        let Some((first, _)) = updates.peek() else { return };
        if let Some(known) = self.peers.get(first)
            && let Some(view) = self.view.read()
        {
            self.publisher.look_ahead(updates.map(|(_, update)| update), &known.data, &view);
        }
    }

    /// Handles a message that [`take`](Self::take) has read.
    pub fn handle_taken(
        &mut self,
        from: &NodeName,
        message: PeerMessage<P>,
        actions: &mut Vec<Action<P>>,
    ) {
        self.peer_message(from, message, actions);
    }

    /// A message as bytes, to be taken apart where they stand. `false` if it must be handled as a term,
    /// by [`Input::Message`](super::Input::Message); then nothing was done.
    pub fn handle_pieces(
        &mut self,
        from: &NodeName,
        pieces: &mut impl Pieces,
        actions: &mut Vec<Action<P>>,
    ) -> bool {
        self.take(pieces).is_some_and(|message| {
            self.peer_message(from, message, actions);
            true
        })
    }
}

//! Signals to frames, of the kind that was agreed on: one direction of one connection.
//!
//! With [`Flags::DIST_HDR_ATOM_CACHE`] or [`Flags::FRAGMENTS`] each frame begins with a list of atoms,
//! which is empty without the first; with the second large messages are cut into fragments, so that
//! others can go between them.

use super::atom_cache::AtomsOut;
use super::codec::{EncodeError, VERSION};
use super::signal::{Body, FIRST_FRAGMENT, FRAGMENT, Signal, Target, WITH_ATOMS, encode, finish};
use super::{Flags, MAX_MESSAGE};
use crate::term::Pid;

/// Bytes of payload in a fragment, as on the BEAM.
pub const FRAGMENT_SIZE: usize = 64 << 10;

/// Bytes before the payload of a fragment that isn't the first.
pub const FRAGMENT_HEAD: usize = 4 + 2 + 8 + 8;

/// More than a list of the atoms of a control tuple takes.
const LIST: usize = 1 << 10;

/// Writes the frames of one connection.
#[derive(Debug)]
pub struct Outbound {
    flags: Flags,
    atoms: AtomsOut,
    /// What stands behind the list of atoms, while it's not known which those are.
    body: Vec<u8>,
    /// The message before.
    last: Last,
    sequences: u64,
}

/// How a message's frame began, and between whom it was: the next one between them begins alike, as
/// long as no new atom comes into the peer's slots.
#[derive(Debug, Default)]
struct Last {
    start: Vec<u8>,
    between: Option<(Pid, Target)>,
}

impl Last {
    fn is(&self, from: &Pid, to: &Target) -> bool {
        !self.start.is_empty()
            && (self.between.as_ref()).is_some_and(|last| last.0 == *from && last.1 == *to)
    }
}

/// In which order a frame leaves, compared to those written before and after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Order {
    /// In the order of writing.
    Kept,
    /// Later than frames written after it: then nothing of it may depend on the order.
    Late,
}

/// A message that leaves in several frames: the first up to its payload, and how many there are.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) head: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) fragments: u64,
}

impl Outbound {
    /// For a connection on which these flags are in force.
    pub fn new(flags: Flags) -> Self {
        Self {
            flags,
            atoms: AtomsOut::default(),
            body: Vec::new(),
            last: Last::default(),
            sequences: 0,
        }
    }

    /// Whether frames begin with a list of atoms.
    fn has_lists(&self) -> bool {
        self.flags.has_atom_lists()
    }

    /// What is in force.
    pub(crate) fn flags(&self) -> Flags {
        self.flags
    }

    /// Where in an encoded term that begins with 131 the payload begins.
    pub fn payload_start(&self) -> usize {
        usize::from(self.has_lists())
    }

    /// Whether a payload of so many bytes leaves in fragments.
    pub(crate) fn cuts(&self, payload: usize) -> bool {
        self.flags.contains(Flags::FRAGMENTS) && payload > FRAGMENT_SIZE
    }

    /// Appends the whole frame of a signal.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is then as it was.
    pub fn signal(
        &mut self,
        signal: &Signal,
        order: Order,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if !self.has_lists() {
            return encode(signal, self.flags, out);
        }
        let flags = self.flags;
        self.listed(order, 0, out, |body| body.signal(signal, flags)).map(drop)
    }

    /// Appends the frame of a signal that has a payload up to that, of so many bytes, which must follow.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `out` is then as it was.
    pub(crate) fn signal_head(
        &mut self,
        signal: &Signal,
        payload: usize,
        order: Order,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if !self.has_lists() {
            return super::signal::encode_head(signal, payload, self.flags, out);
        }
        let flags = self.flags;
        self.listed(order, payload, out, |body| body.head(signal, flags)).map(drop)
    }

    /// Appends the frame of a message up to its payload, of so many bytes, which must follow.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`]; `out` is then as it was.
    pub fn send_head(
        &mut self,
        from: &Pid,
        to: &Target,
        payload: usize,
        order: Order,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if !self.has_lists() {
            return super::signal::encode_send_head(from, to, payload, self.flags, out);
        }
        let start = out.len();
        if order == Order::Kept && self.last.is(from, to) {
            out.extend_from_slice(&self.last.start);
            return finish(out, start, payload).inspect_err(|_| out.truncate(start));
        }
        let flags = self.flags;
        let any_new = self.listed(order, payload, out, |body| body.send(Some(from), to, flags))?;
        if order == Order::Kept && !any_new {
            self.last.start.clear();
            self.last.start.extend_from_slice(out.get(start..).unwrap_or_default());
            self.last.between = Some((from.clone(), to.clone()));
        }
        Ok(())
    }

    /// Whether the peer gets a new atom with it.
    fn listed(
        &mut self,
        order: Order,
        more: usize,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Body<'_>) -> Result<(), EncodeError>,
    ) -> Result<bool, EncodeError> {
        self.body.clear();
        self.atoms.begin();
        let cached = order == Order::Kept && self.flags.contains(Flags::DIST_HDR_ATOM_CACHE);
        write(&mut Body::listed(&mut self.body, cached.then_some(&mut self.atoms)))?;
        if self.body.len().saturating_add(more) > MAX_MESSAGE - LIST {
            return Err(EncodeError::TooLarge);
        }
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, VERSION, WITH_ATOMS]);
        let any_new = self.atoms.finish(out);
        if any_new {
            self.last.start.clear();
        }
        out.append(&mut self.body);
        finish(out, start, more)?;
        Ok(any_new)
    }

    /// Begins a message in fragments.
    pub(crate) fn cut_message(
        &mut self,
        from: &Pid,
        to: &Target,
        payload: usize,
    ) -> Result<Cut, EncodeError> {
        self.cut(payload, |body, flags| body.send(Some(from), to, flags))
    }

    /// Begins any signal that has a payload, in fragments.
    pub(crate) fn cut_signal(
        &mut self,
        signal: &Signal,
        payload: usize,
    ) -> Result<Cut, EncodeError> {
        self.cut(payload, |body, flags| body.head(signal, flags))
    }

    fn cut(
        &mut self,
        payload: usize,
        write: impl FnOnce(&mut Body<'_>, Flags) -> Result<(), EncodeError>,
    ) -> Result<Cut, EncodeError> {
        if payload > MAX_MESSAGE {
            return Err(EncodeError::TooLarge);
        }
        self.sequences += 1;
        let (sequence, fragments) = (self.sequences, payload.div_ceil(FRAGMENT_SIZE) as u64);
        let mut head = vec![0, 0, 0, 0, VERSION, FIRST_FRAGMENT];
        head.extend_from_slice(&sequence.to_be_bytes());
        head.extend_from_slice(&fragments.to_be_bytes());
        // No atoms listed: other frames may leave between the writing of this and its leaving.
        head.push(0);
        write(&mut Body::listed(&mut head, None), self.flags)?;
        finish(&mut head, 0, payload.min(FRAGMENT_SIZE))?;
        Ok(Cut { head, sequence, fragments })
    }
}

/// What stands before the payload of a fragment that isn't the first.
pub(crate) fn fragment_head(sequence: u64, fragment: u64, payload: usize) -> [u8; FRAGMENT_HEAD] {
    let mut head = [0; FRAGMENT_HEAD];
    let length = (payload + FRAGMENT_HEAD - 4) as u32;
    let fields = (length.to_be_bytes().into_iter())
        .chain([VERSION, FRAGMENT])
        .chain(sequence.to_be_bytes())
        .chain(fragment.to_be_bytes());
    for (to, from) in head.iter_mut().zip(fields) {
        *to = from;
    }
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::term::{Creation, NodeName, Term};
    use crate::wire::signal::Signal;
    use crate::wire::{FragmentLimits, Inbound};

    fn pid(id: u32) -> Pid {
        Pid { node: NodeName::new("a@b").unwrap(), id, serial: 0, creation: Creation(9) }
    }

    proptest! {
        /// Names that share a slot of the atom cache come between messages that begin alike.
        #[test]
        fn a_message_is_the_same_whatever_was_written_before(
            sent in proptest::collection::vec((0..3_u32, 0..40_u32, any::<bool>(), any::<u8>()), 0..60),
        ) {
            let flags = Flags::OFFERED;
            let mut outbound = Outbound::new(flags);
            let limits = FragmentLimits { sequences: 1, bytes: 100, message: 100 };
            let mut inbound = Inbound::new(flags, limits);
            for (from, name, to_name, payload) in sent {
                // A thousand names, so that some of the forty have a slot in common.
                let name = Target::Name(crate::term::Atom::new(&format!("n{}", name * 25)).unwrap());
                let to = if to_name { name } else { Target::Pid(pid(7)) };
                let payload = [97, payload];
                let mut frame = Vec::new();
                outbound.send_head(&pid(from), &to, payload.len(), Order::Kept, &mut frame).unwrap();
                frame.extend_from_slice(&payload);
                let (signal, _) = inbound.frame(&frame[4..]).unwrap().unwrap();
                let message = Term::Integer(payload[1].into());
                prop_assert_eq!(signal, Signal::Send { from: Some(pid(from)), to, message });
            }
        }
    }
}

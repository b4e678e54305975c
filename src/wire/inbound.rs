//! Frames to signals, of the kind that was agreed on: one direction of one connection.

use super::Flags;
use super::atom_cache::AtomsIn;
use super::codec::Reader;
use super::fragments::{FragmentLimits, Fragments};
use super::signal::{self, FIRST_FRAGMENT, FRAGMENT, Signal, SignalError, WITH_ATOMS};
use crate::term::Atom;

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct Inbound {
    flags: Flags,
    atoms: AtomsIn,
    /// The list of the frame being read; kept for its memory.
    list: Vec<Atom>,
    fragments: Fragments,
}

impl Inbound {
    /// For a connection on which these flags are in force.
    pub fn new(flags: Flags, limits: FragmentLimits) -> Self {
        let fragments = Fragments::new(limits);
        Self { flags, atoms: AtomsIn::default(), list: Vec::new(), fragments }
    }

    /// Reads a frame, as [`Deframer::next_frame`](super::Deframer::next_frame) gives it. Gives a signal
    /// and the bytes it took, unless more fragments of it must come.
    ///
    /// # Errors
    ///
    /// [`SignalError`]. After one the atom cache or a message may be incomplete: nothing more can be
    /// read from this connection.
    pub fn frame(&mut self, frame: &[u8]) -> Result<Option<(Signal, usize)>, SignalError> {
        if !self.flags.has_atom_lists() {
            return signal::decode(frame).map(|signal| Some((signal, frame.len())));
        }
        let mut reader = Reader::new(frame);
        let kind = (reader.u8().ok(), reader.u8().ok());
        let fragments = self.flags.contains(Flags::FRAGMENTS);
        match kind {
            (Some(131), Some(WITH_ATOMS)) => {
                self.list(&mut reader)?;
                let signal = signal::decode_listed(reader.rest(), &self.list)?;
                Ok(Some((signal, frame.len())))
            }
            (Some(131), Some(first @ (FIRST_FRAGMENT | FRAGMENT))) if fragments => {
                let number = |reader: &mut Reader<'_>| {
                    reader.array().map(u64::from_be_bytes).map_err(SignalError::Head)
                };
                let (sequence, fragment) = (number(&mut reader)?, number(&mut reader)?);
                let whole = if first == FIRST_FRAGMENT {
                    self.list(&mut reader)?;
                    self.fragments.first(sequence, fragment, &self.list, reader.rest())?
                } else {
                    self.fragments.add(sequence, fragment, reader.rest())?
                };
                let Some(whole) = whole else { return Ok(None) };
                let signal = signal::decode_listed(&whole.bytes, &whole.atoms)?;
                Ok(Some((signal, whole.bytes.len())))
            }
            (first, second) => {
                Err(SignalError::WrongKind { first: [first, second], expected: WITH_ATOMS })
            }
        }
    }

    fn list(&mut self, reader: &mut Reader<'_>) -> Result<(), SignalError> {
        self.atoms.read(reader, &mut self.list).map_err(SignalError::Head)
    }
}

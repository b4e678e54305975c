//! Frames to signals, of the kind that was agreed on: one direction of one connection.
//!
//! Messages come by the hundred thousand from one process to one other, and their frames then begin
//! with the same bytes: the same atoms, the same control tuple. Such a frame isn't read again up to
//! its payload.

use super::Flags;
use super::atom_cache::{AtomIn, AtomsIn};
use super::codec::Reader;
use super::fragments::{FragmentLimits, Fragments, Whole};
use super::signal::{
    self, FIRST_FRAGMENT, FRAGMENT, Head, Payload, Signal, SignalError, Target, WITH_ATOMS,
};
use crate::term::Pid;

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct Inbound {
    flags: Flags,
    atoms: AtomsIn,
    /// The list of the frame being read; kept for its memory, and for frames like it.
    list: Vec<AtomIn>,
    fragments: Fragments,
    /// The last message in fragments.
    whole: Whole,
    last: Last,
}

/// The last frame, if it held a message: what a further one begins with that is like it.
#[derive(Debug, Default)]
struct Last {
    /// All before the payload; empty if the next frame must be read from its start.
    start: Vec<u8>,
    op: i32,
    from: Option<Pid>,
    to: Option<Target>,
}

/// What a frame brings.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has nothing else")]
pub enum Incoming<'a> {
    /// A message.
    Message(Message<'a>),
    /// Any other signal, and the bytes it took.
    Signal(Signal, usize),
}

/// A message that isn't decoded yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message<'a> {
    /// Who sent it, unless it went to a pid in the old form.
    pub from: Option<&'a Pid>,
    /// To whom.
    pub to: &'a Target,
    /// What.
    pub payload: Payload<'a>,
    /// The bytes it took.
    pub bytes: usize,
    /// Whether `from`, `to` and the atoms listed are those of the message before, and nothing came
    /// between the two.
    pub alike: bool,
}

impl Inbound {
    /// For a connection on which these flags are in force.
    pub fn new(flags: Flags, limits: FragmentLimits) -> Self {
        Self {
            flags,
            atoms: AtomsIn::default(),
            list: Vec::new(),
            fragments: Fragments::new(limits),
            whole: Whole::default(),
            last: Last::default(),
        }
    }

    /// Reads a frame, as [`Deframer::next_frame`](super::Deframer::next_frame) gives it. Gives a signal
    /// and the bytes it took, unless more fragments of it must come.
    ///
    /// # Errors
    ///
    /// [`SignalError`]. After one the atom cache or a message may be incomplete: nothing more can be
    /// read from this connection.
    pub fn frame(&mut self, frame: &[u8]) -> Result<Option<(Signal, usize)>, SignalError> {
        Ok(Some(match self.incoming(frame)? {
            None => return Ok(None),
            Some(Incoming::Signal(signal, bytes)) => (signal, bytes),
            Some(Incoming::Message(Message { from, to, payload, bytes, .. })) => {
                let (from, to) = (from.cloned(), to.clone());
                (Signal::Send { from, to, message: payload.decode()? }, bytes)
            }
        }))
    }

    /// As [`frame`](Self::frame), but a message isn't decoded.
    ///
    /// # Errors
    ///
    /// [`SignalError`], as there.
    pub fn incoming<'a>(
        &'a mut self,
        frame: &'a [u8],
    ) -> Result<Option<Incoming<'a>>, SignalError> {
        if !self.last.start.is_empty()
            && let Some(bytes) = frame.strip_prefix(&*self.last.start)
        {
            let versioned = !self.flags.has_atom_lists();
            let payload = Payload { bytes, atoms: &self.list, versioned, op: self.last.op };
            return Ok(self.last.message(payload, frame.len(), true));
        }
        self.last.start.clear();
        if !self.flags.has_atom_lists() {
            return match signal::head_of_frame(frame)? {
                Head::Signal(signal) => Ok(Some(Incoming::Signal(signal, frame.len()))),
                Head::Message { from, to, payload } => {
                    Ok(self.last.remember(from, to, payload, frame, true))
                }
            };
        }
        let mut reader = Reader::new(frame);
        let kind = (reader.u8().ok(), reader.u8().ok());
        let fragments = self.flags.contains(Flags::FRAGMENTS);
        match kind {
            (Some(131), Some(WITH_ATOMS)) => {
                let any_new = self.list(&mut reader)?;
                match signal::head(reader.rest(), Some(&self.list))? {
                    Head::Signal(signal) => Ok(Some(Incoming::Signal(signal, frame.len()))),
                    Head::Message { from, to, payload } => {
                        Ok(self.last.remember(from, to, payload, frame, !any_new))
                    }
                }
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
                self.whole = whole;
                let bytes = self.whole.bytes.len();
                match signal::head(&self.whole.bytes, Some(&self.whole.atoms))? {
                    Head::Signal(signal) => Ok(Some(Incoming::Signal(signal, bytes))),
                    Head::Message { from, to, payload } => {
                        Ok(self.last.remember(from, to, payload, &self.whole.bytes, false))
                    }
                }
            }
            (first, second) => {
                Err(SignalError::WrongKind { first: [first, second], expected: WITH_ATOMS })
            }
        }
    }

    /// Bytes that have come of messages in fragments, and how many these may be in the end.
    pub(crate) fn unfinished(&self) -> (usize, usize) {
        self.fragments.unfinished()
    }

    /// Gives back the memory of a message in fragments.
    pub(crate) fn forget_whole(&mut self) {
        if !self.whole.bytes.is_empty() {
            self.whole = Whole::default();
        }
    }

    fn list(&mut self, reader: &mut Reader<'_>) -> Result<bool, SignalError> {
        self.atoms.read(reader, &mut self.list).map_err(SignalError::Head)
    }
}

impl Last {
    /// A message read in full; a further frame may be like this one if `repeats`.
    fn remember<'a>(
        &'a mut self,
        from: Option<Pid>,
        to: Target,
        payload: Payload<'a>,
        frame: &[u8],
        repeats: bool,
    ) -> Option<Incoming<'a>> {
        if repeats && let Some(start) = frame.get(..frame.len() - payload.bytes.len()) {
            self.start.extend_from_slice(start);
        }
        self.op = payload.op;
        self.from = from;
        self.to = Some(to);
        self.message(payload, frame.len(), false)
    }

    fn message<'a>(
        &'a self,
        payload: Payload<'a>,
        bytes: usize,
        alike: bool,
    ) -> Option<Incoming<'a>> {
        let (from, to) = (self.from.as_ref(), self.to.as_ref()?);
        Some(Incoming::Message(Message { from, to, payload, bytes, alike }))
    }
}

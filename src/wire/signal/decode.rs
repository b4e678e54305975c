//! The way in: a frame's bytes to a signal.

use super::{PASS_THROUGH, PidOrName, Signal, SignalError, Target, altact, elements_of, op};
use crate::term::{Atom, Pid, Pieces, Reference, Term};
use crate::wire::atom_cache::AtomIn;
use crate::wire::codec::{DecodeError, Reader, Usual, VERSION, tag};

/// Reads a frame without a list of atoms, as [`Deframer::next_frame`](crate::wire::Deframer::next_frame) gives it.
///
/// # Errors
///
/// [`SignalError`]. Ticks are frames without a signal and an error here.
pub fn decode(frame: &[u8]) -> Result<Signal, SignalError> {
    match head_of_frame(frame)? {
        Head::Signal(signal) => Ok(signal),
        Head::Message { from, to, payload } => {
            Ok(Signal::Send { from, to, message: payload.decode()? })
        }
    }
}

/// As [`decode`], without the payload of a message.
pub(in crate::wire) fn head_of_frame(frame: &[u8]) -> Result<Head<'_>, SignalError> {
    let Some((&PASS_THROUGH, rest)) = frame.split_first() else {
        return Err(SignalError::WrongKind {
            first: [frame.first().copied(), frame.get(1).copied()],
            expected: PASS_THROUGH,
        });
    };
    head(rest, None)
}

/// Reads what stands behind the byte 112 or behind a frame's list of atoms, which is `atoms` then.
pub(in crate::wire) fn head<'a>(
    rest: &'a [u8],
    atoms: Option<&'a [AtomIn]>,
) -> Result<Head<'a>, SignalError> {
    let (atoms, versioned) = (atoms.unwrap_or_default(), atoms.is_none());
    let reader = Reader::with_atoms(rest, atoms);
    let mut control = Control { reader, atoms, versioned, op: 0 };
    let elements = control.open().map_err(SignalError::Control)?;
    let op = control.op;
    let needs = elements_of(op).ok_or(SignalError::UnknownOp { op })?;
    if elements < needs || (elements > needs && op != op::ALTACT_SIG_SEND) {
        return Err(SignalError::BadArity { op, elements });
    }
    control.signal(elements)
}

/// What a frame holds; of a message the payload isn't read yet.
#[derive(Debug)]
pub(in crate::wire) enum Head<'a> {
    Message { from: Option<Pid>, to: Target, payload: Payload<'a> },
    Signal(Signal),
}

/// A message as it stands in its frame.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    pub(in crate::wire) bytes: &'a [u8],
    /// The atoms its frame lists.
    pub(in crate::wire) atoms: &'a [AtomIn],
    /// Whether it's led by 131.
    pub(in crate::wire) versioned: bool,
    /// The number of the signal it came with.
    pub(in crate::wire) op: i32,
}

#[cfg(any(test, feature = "testing"))]
impl<'a> Payload<'a> {
    /// A term led by 131, as if it had come in a frame without a list of atoms.
    pub(crate) fn of_term(bytes: &'a [u8]) -> Self {
        Self { bytes, atoms: &[], versioned: true, op: op::SEND }
    }
}

impl Payload<'_> {
    /// The message as a term.
    ///
    /// # Errors
    ///
    /// [`SignalError::NoPayload`], [`SignalError::Payload`].
    pub fn decode(&self) -> Result<Term, SignalError> {
        let op = self.op;
        if self.bytes.is_empty() {
            return Err(SignalError::NoPayload { op });
        }
        let mut reader = Reader::with_atoms(self.bytes, self.atoms);
        let term = if self.versioned { reader.versioned_term() } else { reader.term() };
        term.map_err(|source| SignalError::Payload { op, source })
    }

    /// How many bytes it has.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks for it")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The message to be taken apart where it stands; `None` if that isn't possible.
    pub fn pieces(&self) -> Option<impl Pieces> {
        let bytes = if self.versioned { self.bytes.strip_prefix(&[VERSION])? } else { self.bytes };
        Some(Usual::new(bytes, self.atoms))
    }
}

struct Control<'a> {
    reader: Reader<'a>,
    atoms: &'a [AtomIn],
    /// Whether each term is led by 131.
    versioned: bool,
    op: i32,
}

impl<'a> Control<'a> {
    /// Up to the number; gives the elements of the tuple.
    fn open(&mut self) -> Result<usize, DecodeError> {
        if self.versioned {
            self.reader.version()?;
        }
        let elements = self.reader.tuple()?;
        self.op = self.reader.small_integer()?;
        Ok(elements)
    }

    /// All after the number. The fields are read in the order in which they stand in the tuple.
    fn signal(mut self, elements: usize) -> Result<Head<'a>, SignalError> {
        let op = self.op;
        Ok(Head::Signal(match op {
            op::SEND | op::SEND_TT => {
                self.skip()?;
                let to = Target::Pid(self.pid()?);
                self.skip_if(op == op::SEND_TT)?;
                return Ok(self.message_to(None, to));
            }
            op::SEND_SENDER | op::SEND_SENDER_TT => {
                let (from, to) = (Some(self.pid()?), Target::Pid(self.pid()?));
                self.skip_if(op == op::SEND_SENDER_TT)?;
                return Ok(self.message_to(from, to));
            }
            op::REG_SEND | op::REG_SEND_TT => {
                let from = Some(self.pid()?);
                self.skip()?;
                let to = Target::Name(self.atom()?);
                self.skip_if(op == op::REG_SEND_TT)?;
                return Ok(self.message_to(from, to));
            }
            op::ALIAS_SEND | op::ALIAS_SEND_TT => {
                let (from, to) = (Some(self.pid()?), Target::Alias(self.reference()?));
                self.skip_if(op == op::ALIAS_SEND_TT)?;
                return Ok(self.message_to(from, to));
            }
            op::ALTACT_SIG_SEND => return self.altact(elements),
            op::LINK => Signal::Link { from: self.pid()?, to: self.pid()? },
            op::UNLINK_ID => {
                Signal::Unlink { id: self.unsigned()?, from: self.pid()?, to: self.pid()? }
            }
            op::UNLINK_ID_ACK => {
                Signal::UnlinkAck { id: self.unsigned()?, from: self.pid()?, to: self.pid()? }
            }
            op::EXIT | op::EXIT_TT => {
                let (from, to) = (self.pid()?, self.pid()?);
                self.skip_if(op == op::EXIT_TT)?;
                Signal::Exit { from, to, reason: self.reason_here() }
            }
            op::PAYLOAD_EXIT | op::PAYLOAD_EXIT_TT => {
                let (from, to) = (self.pid()?, self.pid()?);
                self.skip_if(op == op::PAYLOAD_EXIT_TT)?;
                Signal::Exit { from, to, reason: self.reason()? }
            }
            op::EXIT2 | op::EXIT2_TT => {
                let (from, to) = (self.pid()?, Target::Pid(self.pid()?));
                self.skip_if(op == op::EXIT2_TT)?;
                Signal::Exit2 { from, to, reason: self.reason_here() }
            }
            op::PAYLOAD_EXIT2 | op::PAYLOAD_EXIT2_TT => {
                let (from, to) = (self.pid()?, Target::Pid(self.pid()?));
                self.skip_if(op == op::PAYLOAD_EXIT2_TT)?;
                Signal::Exit2 { from, to, reason: self.reason()? }
            }
            op::GROUP_LEADER => Signal::GroupLeader { leader: self.pid()?, to: self.pid()? },
            op::MONITOR_P => {
                let (from, target) = (self.pid()?, self.pid_or_name()?);
                Signal::Monitor { from, target, reference: self.reference()? }
            }
            op::DEMONITOR_P => {
                let (from, target) = (self.pid()?, self.pid_or_name()?);
                Signal::Demonitor { from, target, reference: self.reference()? }
            }
            op::MONITOR_P_EXIT => {
                let (from, to) = (self.pid_or_name()?, self.pid()?);
                let reference = self.reference()?;
                Signal::MonitorExit { from, to, reference, reason: self.reason_here() }
            }
            op::PAYLOAD_MONITOR_P_EXIT => {
                let (from, to) = (self.pid_or_name()?, self.pid()?);
                let reference = self.reference()?;
                Signal::MonitorExit { from, to, reference, reason: self.reason()? }
            }
            op::SPAWN_REQUEST | op::SPAWN_REQUEST_TT => {
                let reference = self.reference()?;
                let (from, group_leader) = (self.pid()?, self.pid()?);
                let mfa = self.mfa()?;
                let options = self.term()?;
                self.skip_if(op == op::SPAWN_REQUEST_TT)?;
                let args = match self.payload().decode() {
                    Err(error) if error.is_beyond_limits() => undecodable(),
                    args => args?,
                };
                Signal::SpawnRequest { reference, from, group_leader, mfa, options, args }
            }
            op::SPAWN_REPLY | op::SPAWN_REPLY_TT => {
                let (reference, to) = (self.reference()?, self.pid()?);
                let flags = self.unsigned()? as u32;
                Signal::SpawnReply { reference, to, flags, result: self.pid_or_name()? }
            }
            op => return Err(SignalError::UnknownOp { op }),
        }))
    }

    /// A message to there, whose payload comes next.
    fn message_to(self, from: Option<Pid>, to: Target) -> Head<'a> {
        Head::Message { from, to, payload: self.payload() }
    }

    /// `{37, Flags, From, To [, Token [, ...]]}`.
    fn altact(mut self, elements: usize) -> Result<Head<'a>, SignalError> {
        let flags = self.unsigned()?;
        let from = self.pid()?;
        let to = if flags & altact::ALIAS != 0 {
            Target::Alias(self.reference()?)
        } else if flags & altact::NAME != 0 {
            Target::Name(self.atom()?)
        } else {
            Target::Pid(self.pid()?)
        };
        if flags & altact::TOKEN != 0 && elements < 5 {
            return Err(SignalError::BadArity { op: self.op, elements });
        }
        for _ in 4..elements {
            self.skip()?;
        }
        if flags & altact::EXIT != 0 {
            return Ok(Head::Signal(Signal::Exit2 { from, to, reason: self.reason()? }));
        }
        Ok(self.message_to(Some(from), to))
    }

    /// What stands behind the control tuple.
    fn payload(&self) -> Payload<'a> {
        let Self { atoms, versioned, op, .. } = *self;
        Payload { bytes: self.reader.rest(), atoms, versioned, op }
    }

    /// A reason behind the control tuple.
    fn reason(&self) -> Result<Term, SignalError> {
        match self.payload().decode() {
            Err(SignalError::Payload { .. }) => Ok(undecodable()),
            result => result,
        }
    }

    /// A reason in the control tuple, its last element.
    fn reason_here(&mut self) -> Term {
        self.reader.term().unwrap_or_else(|_| undecodable())
    }

    fn mfa(&mut self) -> Result<(Atom, Atom, u8), SignalError> {
        let elements = self.reader.tuple().map_err(SignalError::Control)?;
        if elements != 3 {
            return Err(SignalError::BadArity { op: self.op, elements });
        }
        let (module, function) = (self.atom()?, self.atom()?);
        let arity = self.unsigned()?;
        let what = "a function of more than 255 arguments";
        let arity = u8::try_from(arity).map_err(|_| self.bad(what))?;
        Ok((module, function, arity))
    }

    fn pid_or_name(&mut self) -> Result<PidOrName, SignalError> {
        match self.reader.peek() {
            Ok(tag::NEW_PID | tag::PID) => self.pid().map(PidOrName::Pid),
            _ => self.atom().map(PidOrName::Name),
        }
    }

    /// An integer of 64 bits, never negative.
    fn unsigned(&mut self) -> Result<u64, SignalError> {
        let value = match self.term()? {
            Term::Integer(value) => u64::try_from(value).ok(),
            Term::BigInteger(value) => u64::try_from(value.value()).ok(),
            _ => None,
        };
        value.ok_or_else(|| self.bad("no integer of 0 to 64 bits"))
    }

    fn bad(&self, what: &'static str) -> SignalError {
        SignalError::Control(DecodeError::BadValue { what, at: self.reader.at() })
    }

    fn pid(&mut self) -> Result<Pid, SignalError> {
        self.reader.pid().map_err(SignalError::Control)
    }

    fn reference(&mut self) -> Result<Reference, SignalError> {
        self.reader.reference().map_err(SignalError::Control)
    }

    fn atom(&mut self) -> Result<Atom, SignalError> {
        self.reader.atom().map_err(SignalError::Control)
    }

    fn term(&mut self) -> Result<Term, SignalError> {
        self.reader.term().map_err(SignalError::Control)
    }

    /// An element without use for us: a trace token, or the `''` of a field long gone.
    fn skip(&mut self) -> Result<(), SignalError> {
        self.term().map(drop)
    }

    fn skip_if(&mut self, there: bool) -> Result<(), SignalError> {
        if there { self.skip() } else { Ok(()) }
    }
}

fn undecodable() -> Term {
    Term::Atom(crate::atom!("undecodable"))
}

//! The way in: a frame's bytes to a signal.

use super::{PASS_THROUGH, PidOrName, Signal, SignalError, Target, altact, elements_of, op};
use crate::term::{Atom, Pid, Reference, Term};
use crate::wire::codec::{DecodeError, Reader, tag};

/// Reads a frame without a list of atoms, as [`Deframer::next_frame`](crate::wire::Deframer::next_frame) gives it.
///
/// # Errors
///
/// [`SignalError`]. Ticks are frames without a signal and an error here.
pub fn decode(frame: &[u8]) -> Result<Signal, SignalError> {
    let Some((&PASS_THROUGH, rest)) = frame.split_first() else {
        return Err(SignalError::WrongKind {
            first: [frame.first().copied(), frame.get(1).copied()],
            expected: PASS_THROUGH,
        });
    };
    body(Control { reader: Reader::new(rest), versioned: true, op: 0 })
}

/// Reads what stands behind a frame's list of atoms.
pub(in crate::wire) fn decode_listed(rest: &[u8], atoms: &[Atom]) -> Result<Signal, SignalError> {
    body(Control { reader: Reader::with_atoms(rest, atoms), versioned: false, op: 0 })
}

fn body(mut control: Control<'_>) -> Result<Signal, SignalError> {
    let elements = control.open().map_err(SignalError::Control)?;
    let op = control.op;
    let needs = elements_of(op).ok_or(SignalError::UnknownOp { op })?;
    if elements < needs || (elements > needs && op != op::ALTACT_SIG_SEND) {
        return Err(SignalError::BadArity { op, elements });
    }
    control.signal(elements)
}

struct Control<'a> {
    reader: Reader<'a>,
    /// Whether each term is led by 131.
    versioned: bool,
    op: i32,
}

impl Control<'_> {
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
    fn signal(mut self, elements: usize) -> Result<Signal, SignalError> {
        let op = self.op;
        Ok(match op {
            op::SEND | op::SEND_TT => {
                self.skip()?;
                let to = Target::Pid(self.pid()?);
                self.skip_if(op == op::SEND_TT)?;
                Signal::Send { from: None, to, message: self.message()? }
            }
            op::SEND_SENDER | op::SEND_SENDER_TT => {
                let (from, to) = (Some(self.pid()?), Target::Pid(self.pid()?));
                self.skip_if(op == op::SEND_SENDER_TT)?;
                Signal::Send { from, to, message: self.message()? }
            }
            op::REG_SEND | op::REG_SEND_TT => {
                let from = Some(self.pid()?);
                self.skip()?;
                let to = Target::Name(self.atom()?);
                self.skip_if(op == op::REG_SEND_TT)?;
                Signal::Send { from, to, message: self.message()? }
            }
            op::ALIAS_SEND | op::ALIAS_SEND_TT => {
                let (from, to) = (Some(self.pid()?), Target::Alias(self.reference()?));
                self.skip_if(op == op::ALIAS_SEND_TT)?;
                Signal::Send { from, to, message: self.message()? }
            }
            op::ALTACT_SIG_SEND => self.altact(elements)?,
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
                let args = self.message()?;
                Signal::SpawnRequest { reference, from, group_leader, mfa, options, args }
            }
            op::SPAWN_REPLY | op::SPAWN_REPLY_TT => {
                let (reference, to) = (self.reference()?, self.pid()?);
                let flags = self.unsigned()? as u32;
                Signal::SpawnReply { reference, to, flags, result: self.pid_or_name()? }
            }
            op => return Err(SignalError::UnknownOp { op }),
        })
    }

    /// `{37, Flags, From, To [, Token [, ...]]}`.
    fn altact(&mut self, elements: usize) -> Result<Signal, SignalError> {
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
        Ok(if flags & altact::EXIT != 0 {
            Signal::Exit2 { from, to, reason: self.reason()? }
        } else {
            Signal::Send { from: Some(from), to, message: self.message()? }
        })
    }

    fn message(&mut self) -> Result<Term, SignalError> {
        let op = self.op;
        if self.reader.is_empty() {
            return Err(SignalError::NoPayload { op });
        }
        let term = if self.versioned { self.reader.versioned_term() } else { self.reader.term() };
        term.map_err(|source| SignalError::Payload { op, source })
    }

    /// A reason behind the control tuple.
    fn reason(&mut self) -> Result<Term, SignalError> {
        match self.message() {
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

//! The way out: a signal to a frame's bytes.

use super::{PASS_THROUGH, PidOrName, Signal, Target, altact, elements_of, op};
use crate::term::{Pid, Reference, Term};
use crate::wire::codec::{self, EncodeError, VERSION, tag};
use crate::wire::{Flags, MAX_MESSAGE};

/// Appends the whole frame of a signal, its length included, in the form the agreed flags ask for.
///
/// # Errors
///
/// [`EncodeError`]; `out` is then as it was.
pub fn encode(signal: &Signal, flags: Flags, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut frame = Frame::new(out);
    frame.signal(signal, flags).and_then(|()| frame.finish(0)).inspect_err(|_| out.truncate(start))
}

/// Appends the part of a message's frame that differs from one receiver to the next: the length and
/// the control tuple. A payload of `payload_len` bytes, made by [`codec::encode`] once for all, must
/// follow.
///
/// # Errors
///
/// [`EncodeError::TooLarge`]; `out` is then as it was.
pub fn encode_send_head(
    from: &Pid,
    to: &Target,
    payload_len: usize,
    flags: Flags,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut frame = Frame::new(out);
    frame
        .send(Some(from), to, flags)
        .and_then(|()| frame.finish(payload_len))
        .inspect_err(|_| out.truncate(start))
}

/// A frame being written.
struct Frame<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Frame<'a> {
    /// Begins with a length to be filled in.
    fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, PASS_THROUGH]);
        Self { out, start }
    }

    /// Fills in the length, counting `more` bytes that the caller appends.
    fn finish(&mut self, more: usize) -> Result<(), EncodeError> {
        let length = (self.out.len() - self.start - 4).saturating_add(more);
        if length > MAX_MESSAGE {
            return Err(EncodeError::TooLarge);
        }
        if let Some(place) = self.out.get_mut(self.start..).and_then(<[u8]>::first_chunk_mut) {
            *place = (length as u32).to_be_bytes();
        }
        Ok(())
    }

    fn signal(&mut self, signal: &Signal, flags: Flags) -> Result<(), EncodeError> {
        match signal {
            Signal::Send { from, to, message } => {
                self.send(from.as_ref(), to, flags)?;
                self.payload(message)
            }
            Signal::Link { from, to } => {
                self.control(op::LINK);
                self.pids(from, to);
                Ok(())
            }
            Signal::Unlink { id, from, to } => {
                self.control(op::UNLINK_ID);
                codec::bare(&Term::from(*id), self.out)?;
                self.pids(from, to);
                Ok(())
            }
            Signal::UnlinkAck { id, from, to } => {
                self.control(op::UNLINK_ID_ACK);
                codec::bare(&Term::from(*id), self.out)?;
                self.pids(from, to);
                Ok(())
            }
            Signal::Exit { from, to, reason } => {
                let ops = (op::PAYLOAD_EXIT, op::EXIT);
                self.with_reason(ops, flags, reason, |frame| frame.pids(from, to))
            }
            Signal::Exit2 { from, to: Target::Pid(to), reason } => {
                let ops = (op::PAYLOAD_EXIT2, op::EXIT2);
                self.with_reason(ops, flags, reason, |frame| frame.pids(from, to))
            }
            Signal::Exit2 { from, to, reason } => {
                if !flags.contains(Flags::ALTACT_SIG) {
                    return Err(EncodeError::NotNegotiated { flag: "ALTACT_SIG" });
                }
                let kind = if matches!(to, Target::Name(_)) { altact::NAME } else { altact::ALIAS };
                self.control(op::ALTACT_SIG_SEND);
                codec::put_integer((altact::EXIT | kind).cast_signed(), self.out);
                codec::put_pid(from, self.out);
                self.target(to);
                self.payload(reason)
            }
            Signal::GroupLeader { leader, to } => {
                self.control(op::GROUP_LEADER);
                self.pids(leader, to);
                Ok(())
            }
            Signal::Monitor { from, target, reference } => {
                self.control(op::MONITOR_P);
                self.monitor(from, target, reference);
                Ok(())
            }
            Signal::Demonitor { from, target, reference } => {
                self.control(op::DEMONITOR_P);
                self.monitor(from, target, reference);
                Ok(())
            }
            Signal::MonitorExit { from, to, reference, reason } => {
                let ops = (op::PAYLOAD_MONITOR_P_EXIT, op::MONITOR_P_EXIT);
                self.with_reason(ops, flags, reason, |frame| {
                    frame.pid_or_name(from);
                    codec::put_pid(to, frame.out);
                    codec::put_reference(reference, frame.out);
                })
            }
            Signal::SpawnRequest { reference, from, group_leader, mfa, options, args } => {
                self.control(op::SPAWN_REQUEST);
                codec::put_reference(reference, self.out);
                self.pids(from, group_leader);
                let (module, function, arity) = mfa;
                self.out.extend_from_slice(&[tag::SMALL_TUPLE, 3]);
                codec::put_atom(module, self.out);
                codec::put_atom(function, self.out);
                codec::put_integer((*arity).into(), self.out);
                codec::bare(options, self.out)?;
                self.payload(args)
            }
            Signal::SpawnReply { reference, to, flags, result } => {
                self.control(op::SPAWN_REPLY);
                codec::put_reference(reference, self.out);
                codec::put_pid(to, self.out);
                codec::put_integer((*flags).into(), self.out);
                self.pid_or_name(result);
                Ok(())
            }
        }
    }

    /// The control tuple of a message.
    fn send(&mut self, from: Option<&Pid>, to: &Target, flags: Flags) -> Result<(), EncodeError> {
        match (from, to) {
            (Some(from), Target::Pid(to)) if flags.contains(Flags::SEND_SENDER) => {
                self.control(op::SEND_SENDER);
                self.pids(from, to);
            }
            (_, Target::Pid(to)) => {
                self.control(op::SEND);
                self.nothing();
                codec::put_pid(to, self.out);
            }
            (Some(from), Target::Name(_)) => {
                self.control(op::REG_SEND);
                codec::put_pid(from, self.out);
                self.nothing();
                self.target(to);
            }
            (Some(from), Target::Alias(_)) => {
                self.control(op::ALIAS_SEND);
                codec::put_pid(from, self.out);
                self.target(to);
            }
            (None, Target::Name(_) | Target::Alias(_)) => return Err(EncodeError::NoSender),
        }
        Ok(())
    }

    /// The newer form has the reason behind the tuple, the older one as its last element.
    fn with_reason(
        &mut self,
        (newer, older): (i32, i32),
        flags: Flags,
        reason: &Term,
        fields: impl FnOnce(&mut Self),
    ) -> Result<(), EncodeError> {
        if flags.contains(Flags::EXIT_PAYLOAD) {
            self.control(newer);
            fields(self);
            self.payload(reason)
        } else {
            self.control(older);
            fields(self);
            codec::bare(reason, self.out)
        }
    }

    /// `131`, the tuple's head and the number.
    fn control(&mut self, op: i32) {
        let elements = elements_of(op).unwrap_or_default() as u8;
        self.out.extend_from_slice(&[VERSION, tag::SMALL_TUPLE, elements]);
        codec::put_integer(op.into(), self.out);
    }

    fn payload(&mut self, term: &Term) -> Result<(), EncodeError> {
        codec::encode(term, self.out)
    }

    fn pids(&mut self, first: &Pid, second: &Pid) {
        codec::put_pid(first, self.out);
        codec::put_pid(second, self.out);
    }

    fn monitor(&mut self, from: &Pid, target: &PidOrName, reference: &Reference) {
        codec::put_pid(from, self.out);
        self.pid_or_name(target);
        codec::put_reference(reference, self.out);
    }

    fn pid_or_name(&mut self, target: &PidOrName) {
        match target {
            PidOrName::Pid(pid) => codec::put_pid(pid, self.out),
            PidOrName::Name(name) => codec::put_atom(name, self.out),
        }
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Pid(pid) => codec::put_pid(pid, self.out),
            Target::Name(name) => codec::put_atom(name, self.out),
            Target::Alias(reference) => codec::put_reference(reference, self.out),
        }
    }

    /// `''`, in fields that once held something.
    fn nothing(&mut self) {
        self.out.extend_from_slice(&[tag::SMALL_ATOM_UTF8, 0]);
    }
}

//! The way out: a signal to a frame's bytes.

use super::{PASS_THROUGH, PidOrName, Signal, Target, altact, elements_of, op};
use crate::term::{Atom, Pid, Reference, Term};
use crate::wire::atom_cache::AtomsOut;
use crate::wire::codec::{self, EncodeError, VERSION, tag};
use crate::wire::{Flags, MAX_MESSAGE};

/// Appends the whole frame of a signal, its length included, in the form the agreed flags ask for,
/// the frame being of the kind without a list of atoms.
///
/// # Errors
///
/// [`EncodeError`]; `out` is then as it was.
pub fn encode(signal: &Signal, flags: Flags, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut frame = Body::new(out);
    frame
        .begin()
        .signal(signal, flags)
        .and_then(|()| finish(out, start, 0))
        .inspect_err(|_| out.truncate(start))
}

/// As [`encode_send_head`], for a signal that [has a payload](Signal::payload).
///
/// # Errors
///
/// [`EncodeError`]; `out` is then as it was.
pub(in crate::wire) fn encode_head(
    signal: &Signal,
    payload_len: usize,
    flags: Flags,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut frame = Body::new(out);
    frame
        .begin()
        .head(signal, flags)
        .and_then(|()| finish(out, start, payload_len))
        .inspect_err(|_| out.truncate(start))
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
    let mut frame = Body::new(out);
    frame
        .begin()
        .send(Some(from), to, flags)
        .and_then(|()| finish(out, start, payload_len))
        .inspect_err(|_| out.truncate(start))
}

/// Fills in the length of the frame that begins at `start`, counting `more` bytes that the caller
/// appends.
pub(in crate::wire) fn finish(
    out: &mut [u8],
    start: usize,
    more: usize,
) -> Result<(), EncodeError> {
    let length = (out.len() - start).saturating_sub(4).saturating_add(more);
    if length > MAX_MESSAGE {
        return Err(EncodeError::TooLarge);
    }
    if let Some(place) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *place = (length as u32).to_be_bytes();
    }
    Ok(())
}

/// What a frame says being written: the control tuple and, for some signals, a payload.
pub(in crate::wire) struct Body<'a> {
    out: &'a mut Vec<u8>,
    /// Whether each term is led by 131.
    versioned: bool,
    /// Where atoms of the control tuple are listed, if the frame has a list.
    atoms: Option<&'a mut AtomsOut>,
}

impl<'a> Body<'a> {
    /// Of a frame without a list of atoms.
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, versioned: true, atoms: None }
    }

    /// Of a frame with a list of atoms, which stays empty without `atoms`.
    pub(in crate::wire) fn listed(out: &'a mut Vec<u8>, atoms: Option<&'a mut AtomsOut>) -> Self {
        Self { out, versioned: false, atoms }
    }

    /// The frame's length, to be filled in, and its kind.
    fn begin(&mut self) -> &mut Self {
        self.out.extend_from_slice(&[0, 0, 0, 0, PASS_THROUGH]);
        self
    }

    pub(in crate::wire) fn signal(
        &mut self,
        signal: &Signal,
        flags: Flags,
    ) -> Result<(), EncodeError> {
        self.head(signal, flags)?;
        match signal.payload(flags) {
            Some(payload) => self.payload(payload),
            None => Ok(()),
        }
    }

    /// All but the payload, if there is one.
    pub(in crate::wire) fn head(
        &mut self,
        signal: &Signal,
        flags: Flags,
    ) -> Result<(), EncodeError> {
        match signal {
            Signal::Send { from, to, .. } => self.send(from.as_ref(), to, flags),
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
            Signal::Exit2 { from, to, .. } => {
                if !flags.contains(Flags::ALTACT_SIG) {
                    return Err(EncodeError::NotNegotiated { flag: "ALTACT_SIG" });
                }
                let kind = if matches!(to, Target::Name(_)) { altact::NAME } else { altact::ALIAS };
                self.control(op::ALTACT_SIG_SEND);
                codec::put_integer((altact::EXIT | kind).cast_signed(), self.out);
                self.pid(from);
                self.target(to);
                Ok(())
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
                    frame.pid(to);
                    frame.reference(reference);
                })
            }
            Signal::SpawnRequest { reference, from, group_leader, mfa, options, .. } => {
                self.control(op::SPAWN_REQUEST);
                self.reference(reference);
                self.pids(from, group_leader);
                let (module, function, arity) = mfa;
                self.out.extend_from_slice(&[tag::SMALL_TUPLE, 3]);
                self.atom(module);
                self.atom(function);
                codec::put_integer((*arity).into(), self.out);
                codec::bare(options, self.out)
            }
            Signal::SpawnReply { reference, to, flags, result } => {
                self.control(op::SPAWN_REPLY);
                self.reference(reference);
                self.pid(to);
                codec::put_integer((*flags).into(), self.out);
                self.pid_or_name(result);
                Ok(())
            }
        }
    }

    /// The control tuple of a message.
    pub(in crate::wire) fn send(
        &mut self,
        from: Option<&Pid>,
        to: &Target,
        flags: Flags,
    ) -> Result<(), EncodeError> {
        match (from, to) {
            (Some(from), Target::Pid(to)) if flags.contains(Flags::SEND_SENDER) => {
                self.control(op::SEND_SENDER);
                self.pids(from, to);
            }
            (_, Target::Pid(to)) => {
                self.control(op::SEND);
                self.nothing();
                self.pid(to);
            }
            (Some(from), Target::Name(_)) => {
                self.control(op::REG_SEND);
                self.pid(from);
                self.nothing();
                self.target(to);
            }
            // As OTP 29 does once both know it.
            (Some(from), Target::Alias(_)) if flags.contains(Flags::ALTACT_SIG) => {
                self.control(op::ALTACT_SIG_SEND);
                codec::put_integer(altact::ALIAS.cast_signed(), self.out);
                self.pid(from);
                self.target(to);
            }
            (Some(from), Target::Alias(_)) => {
                self.control(op::ALIAS_SEND);
                self.pid(from);
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
            Ok(())
        } else {
            self.control(older);
            fields(self);
            codec::bare(reason, self.out)
        }
    }

    /// The tuple's head and the number.
    fn control(&mut self, op: i32) {
        let elements = elements_of(op).unwrap_or_default() as u8;
        self.version();
        self.out.extend_from_slice(&[tag::SMALL_TUPLE, elements]);
        codec::put_integer(op.into(), self.out);
    }

    fn payload(&mut self, term: &Term) -> Result<(), EncodeError> {
        self.version();
        codec::bare(term, self.out)
    }

    fn version(&mut self) {
        if self.versioned {
            self.out.push(VERSION);
        }
    }

    fn atom(&mut self, atom: &Atom) {
        match self.atoms.as_mut().and_then(|atoms| atoms.index(atom)) {
            Some(index) => self.out.extend_from_slice(&[tag::ATOM_CACHE, index]),
            None => codec::put_atom(atom, self.out),
        }
    }

    fn pid(&mut self, pid: &Pid) {
        self.out.push(tag::NEW_PID);
        self.atom(pid.node.atom());
        codec::put_pid_words(pid, self.out);
    }

    fn reference(&mut self, reference: &Reference) {
        self.out.push(tag::NEWER_REFERENCE);
        self.out.extend_from_slice(&(reference.words().len() as u16).to_be_bytes());
        self.atom(reference.node().atom());
        codec::put_reference_words(reference, self.out);
    }

    fn pids(&mut self, first: &Pid, second: &Pid) {
        self.pid(first);
        self.pid(second);
    }

    fn monitor(&mut self, from: &Pid, target: &PidOrName, reference: &Reference) {
        self.pid(from);
        self.pid_or_name(target);
        self.reference(reference);
    }

    fn pid_or_name(&mut self, target: &PidOrName) {
        match target {
            PidOrName::Pid(pid) => self.pid(pid),
            PidOrName::Name(name) => self.atom(name),
        }
    }

    fn target(&mut self, target: &Target) {
        match target {
            Target::Pid(pid) => self.pid(pid),
            Target::Name(name) => self.atom(name),
            Target::Alias(reference) => self.reference(reference),
        }
    }

    /// `''`, in fields that once held something.
    fn nothing(&mut self) {
        self.out.extend_from_slice(&[tag::SMALL_ATOM_UTF8, 0]);
    }
}

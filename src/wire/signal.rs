//! Signals: what one frame says, and how to say it.
//!
//! Control tuples are read and written field by field, without a term in between, so a message costs
//! its payload and little more. Own code instead of `erl_dist`'s `Message`, which swaps two fields of
//! a traced message, knows no op 37, and decodes payloads with `eetf`.
//!
//! Out go the forms the agreed flags ask for. In come all forms at any time: what the BEAM encodes
//! while a connection is still being made uses the old ones (seen on every automatic connect). Trace
//! tokens are dropped. As on the BEAM, bytes after the last term are ignored, and elements after those
//! we know only in op 37, which announces that it may grow.
//!
//! Source: *Distribution Protocol*, erts user's guide; `erts_net_message` in
//! `erts/emulator/beam/dist.c`, OTP 25 and 29.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::{Head, head, head_of_frame};
pub use decode::{Payload, decode};
pub(super) use encode::{Body, encode_head, finish};
pub use encode::{encode, encode_send_head};

use std::fmt;

use super::{DecodeError, Flags, FragmentError};
use crate::term::{Atom, Destination, Pid, Reference, Term};
use crate::{atom, tuple};

/// First byte of a frame that uses neither atom tables nor fragments.
const PASS_THROUGH: u8 = 112;

/// Second byte, after 131, of a frame that begins with a list of atoms.
pub(super) const WITH_ATOMS: u8 = 68;

/// Second byte, after 131, of the first fragment of a message.
pub(super) const FIRST_FRAGMENT: u8 = 69;

/// Second byte, after 131, of another fragment.
pub(super) const FRAGMENT: u8 = 70;

/// Numbers of signals, by their names in the documents.
mod op {
    pub(super) const LINK: i32 = 1;
    pub(super) const SEND: i32 = 2;
    pub(super) const EXIT: i32 = 3;
    pub(super) const REG_SEND: i32 = 6;
    pub(super) const GROUP_LEADER: i32 = 7;
    pub(super) const EXIT2: i32 = 8;
    pub(super) const SEND_TT: i32 = 12;
    pub(super) const EXIT_TT: i32 = 13;
    pub(super) const REG_SEND_TT: i32 = 16;
    pub(super) const EXIT2_TT: i32 = 18;
    pub(super) const MONITOR_P: i32 = 19;
    pub(super) const DEMONITOR_P: i32 = 20;
    pub(super) const MONITOR_P_EXIT: i32 = 21;
    pub(super) const SEND_SENDER: i32 = 22;
    pub(super) const SEND_SENDER_TT: i32 = 23;
    pub(super) const PAYLOAD_EXIT: i32 = 24;
    pub(super) const PAYLOAD_EXIT_TT: i32 = 25;
    pub(super) const PAYLOAD_EXIT2: i32 = 26;
    pub(super) const PAYLOAD_EXIT2_TT: i32 = 27;
    pub(super) const PAYLOAD_MONITOR_P_EXIT: i32 = 28;
    pub(super) const SPAWN_REQUEST: i32 = 29;
    pub(super) const SPAWN_REQUEST_TT: i32 = 30;
    pub(super) const SPAWN_REPLY: i32 = 31;
    pub(super) const SPAWN_REPLY_TT: i32 = 32;
    pub(super) const ALIAS_SEND: i32 = 33;
    pub(super) const ALIAS_SEND_TT: i32 = 34;
    pub(super) const UNLINK_ID: i32 = 35;
    pub(super) const UNLINK_ID_ACK: i32 = 36;
    pub(super) const ALTACT_SIG_SEND: i32 = 37;
}

/// Bits of op 37's flags. Bit 1 (priority) changes nothing for us; others may come.
mod altact {
    pub(super) const TOKEN: u64 = 2;
    pub(super) const ALIAS: u64 = 4;
    pub(super) const NAME: u64 = 8;
    pub(super) const EXIT: u64 = 16;
}

/// Elements of a control tuple, the number included; `None` for numbers without a signal.
fn elements_of(op: i32) -> Option<usize> {
    use op::{
        ALIAS_SEND, ALIAS_SEND_TT, ALTACT_SIG_SEND, DEMONITOR_P, EXIT, EXIT_TT, EXIT2, EXIT2_TT,
        GROUP_LEADER, LINK, MONITOR_P, MONITOR_P_EXIT, PAYLOAD_EXIT, PAYLOAD_EXIT_TT,
        PAYLOAD_EXIT2, PAYLOAD_EXIT2_TT, PAYLOAD_MONITOR_P_EXIT, REG_SEND, REG_SEND_TT, SEND,
        SEND_SENDER, SEND_SENDER_TT, SEND_TT, SPAWN_REPLY, SPAWN_REPLY_TT, SPAWN_REQUEST,
        SPAWN_REQUEST_TT, UNLINK_ID, UNLINK_ID_ACK,
    };
    Some(match op {
        LINK | SEND | GROUP_LEADER | SEND_SENDER | PAYLOAD_EXIT | PAYLOAD_EXIT2 | ALIAS_SEND => 3,
        EXIT
        | EXIT2
        | REG_SEND
        | SEND_TT
        | SEND_SENDER_TT
        | PAYLOAD_EXIT_TT
        | PAYLOAD_EXIT2_TT
        | ALIAS_SEND_TT
        | MONITOR_P
        | DEMONITOR_P
        | PAYLOAD_MONITOR_P_EXIT
        | UNLINK_ID
        | UNLINK_ID_ACK
        | ALTACT_SIG_SEND => 4,
        EXIT_TT | EXIT2_TT | REG_SEND_TT | MONITOR_P_EXIT | SPAWN_REPLY => 5,
        SPAWN_REQUEST | SPAWN_REPLY_TT => 6,
        SPAWN_REQUEST_TT => 7,
        _ => return None,
    })
}

/// A signal between processes of two nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are the words of the protocol; units don't occur")]
pub enum Signal {
    /// A message (ops 2, 6, 22, 33, 37). Who sent it is told unless it went to a pid in the old form.
    Send { from: Option<Pid>, to: Target, message: Term },
    /// `from` links itself to `to` (op 1).
    Link { from: Pid, to: Pid },
    /// `from` removes its link to `to` (op 35). Must be answered by an [`Signal::UnlinkAck`] with the
    /// same id before anything else goes to `from`.
    Unlink { id: u64, from: Pid, to: Pid },
    /// The answer to an [`Signal::Unlink`] (op 36).
    UnlinkAck { id: u64, from: Pid, to: Pid },
    /// `from`, linked to `to`, has ended (ops 3, 24). A reason that can't be decoded is the atom
    /// `undecodable`: the end of a process mustn't get lost with it.
    Exit { from: Pid, to: Pid, reason: Term },
    /// `from` called `exit(to, reason)` (ops 8, 26, 37). The reason as in [`Signal::Exit`].
    Exit2 { from: Pid, to: Target, reason: Term },
    /// `to` gets a new group leader (op 7).
    GroupLeader { leader: Pid, to: Pid },
    /// `from` monitors a process here (op 19). Must be answered by a [`Signal::MonitorExit`] once the
    /// process ends, or at once with `noproc` if there is none.
    Monitor { from: Pid, target: PidOrName, reference: Reference },
    /// `from` ends its monitor (op 20). Unknown references are normal.
    Demonitor { from: Pid, target: PidOrName, reference: Reference },
    /// What was monitored as `from` has ended: a `DOWN` (ops 21, 28). The reason as in
    /// [`Signal::Exit`].
    MonitorExit { from: PidOrName, to: Pid, reference: Reference, reason: Term },
    /// `from` asks for a process (op 29); answered by a [`Signal::SpawnReply`]. Arguments beyond our
    /// limits are the atom `undecodable`: who asks must hear that there will be no process.
    SpawnRequest {
        reference: Reference,
        from: Pid,
        group_leader: Pid,
        /// Module, function and arity.
        mfa: (Atom, Atom, u8),
        options: Term,
        args: Term,
    },
    /// The answer to a [`Signal::SpawnRequest`] (op 31).
    SpawnReply {
        reference: Reference,
        to: Pid,
        /// 1: a link was made. 2: a monitor was made.
        flags: u32,
        /// The new process's pid, or an atom that says why there is none.
        result: PidOrName,
    },
}

impl Signal {
    /// What stands behind the control tuple, which is all of the signal that may be large; `None` if
    /// nothing does. Exit reasons do where [`Flags::EXIT_PAYLOAD`] is in force.
    pub(crate) fn payload(&self, flags: Flags) -> Option<&Term> {
        match self {
            Self::Send { message, .. } => Some(message),
            Self::SpawnRequest { args, .. } => Some(args),
            Self::Exit2 { to: Target::Name(_) | Target::Alias(_), reason, .. } => Some(reason),
            Self::Exit { reason, .. }
            | Self::Exit2 { reason, .. }
            | Self::MonitorExit { reason, .. } => {
                flags.contains(Flags::EXIT_PAYLOAD).then_some(reason)
            }
            Self::Link { .. }
            | Self::Unlink { .. }
            | Self::UnlinkAck { .. }
            | Self::GroupLeader { .. }
            | Self::Monitor { .. }
            | Self::Demonitor { .. }
            | Self::SpawnReply { .. } => None,
        }
    }

    /// Gives an end that is too large to be told the reason `{system_limit, too_large}`. `false` for any
    /// other signal.
    pub(crate) fn shorten(&mut self) -> bool {
        match self {
            Self::Exit { reason, .. }
            | Self::Exit2 { reason, .. }
            | Self::MonitorExit { reason, .. } => {
                *reason = too_large();
                true
            }
            _ => false,
        }
    }

    /// The process it comes from. A `DOWN` of a name comes from who had it, which isn't told.
    pub fn sender(&self) -> Option<&Pid> {
        match self {
            Self::Send { from, .. } => from.as_ref(),
            Self::MonitorExit { from: PidOrName::Pid(from), .. }
            | Self::Link { from, .. }
            | Self::Unlink { from, .. }
            | Self::UnlinkAck { from, .. }
            | Self::Exit { from, .. }
            | Self::Exit2 { from, .. }
            | Self::Monitor { from, .. }
            | Self::Demonitor { from, .. }
            | Self::SpawnRequest { from, .. } => Some(from),
            Self::MonitorExit { .. } | Self::GroupLeader { .. } | Self::SpawnReply { .. } => None,
        }
    }
}

/// What takes the place of a term that is too large to be sent: `{system_limit, too_large}`.
pub(crate) fn too_large() -> Term {
    tuple![atom!("system_limit"), atom!("too_large")]
}

/// Where a message goes on the node that gets it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// A process.
    Pid(Pid),
    /// Whoever is registered under the name.
    Name(Atom),
    /// A process alias.
    Alias(Reference),
}

/// A process by its pid or registered name: what can be monitored.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PidOrName {
    /// A process.
    Pid(Pid),
    /// Whoever is registered under the name. A `DOWN` carries the name if the monitor did.
    Name(Atom),
}

impl From<Pid> for Target {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl From<PidOrName> for Target {
    fn from(target: PidOrName) -> Self {
        match target {
            PidOrName::Pid(pid) => Self::Pid(pid),
            PidOrName::Name(name) => Self::Name(name),
        }
    }
}

/// Without the node of a name: the connection it's sent over leads there.
impl From<Destination> for Target {
    fn from(to: Destination) -> Self {
        match to {
            Destination::Pid(pid) => Self::Pid(pid),
            Destination::Name(name, _) => Self::Name(name),
            Destination::Alias(reference) => Self::Alias(reference),
        }
    }
}

impl From<Pid> for PidOrName {
    fn from(pid: Pid) -> Self {
        Self::Pid(pid)
    }
}

impl From<Atom> for PidOrName {
    fn from(name: Atom) -> Self {
        Self::Name(name)
    }
}

impl From<&PidOrName> for Term {
    fn from(target: &PidOrName) -> Self {
        match target {
            PidOrName::Pid(pid) => pid.into(),
            PidOrName::Name(name) => name.into(),
        }
    }
}

/// A frame isn't a signal. The stream itself is still in step: the next frame can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The frame is of another kind than was agreed on, or none at all.
    #[error("a frame begins with {} instead of {expected}", Bytes(first))]
    WrongKind {
        /// Its first two bytes, as far as there are any.
        first: [Option<u8>; 2],
        /// What was agreed on: 112, or 68 after 131.
        expected: u8,
    },
    /// What stands before the control tuple can't be decoded.
    #[error("bad head of a frame")]
    Head(#[source] DecodeError),
    /// Fragments don't make a message.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// The control tuple can't be decoded.
    #[error("bad control message")]
    Control(#[source] DecodeError),
    /// No signal has this number. 4 and 5 once had a meaning; the BEAM closes on them too.
    #[error("no signal has the number {op}")]
    UnknownOp {
        /// The number.
        op: i32,
    },
    /// The control tuple has more or fewer elements than its number asks for.
    #[error("signal {op} with {elements} elements")]
    BadArity {
        /// The signal's number.
        op: i32,
        /// Elements of its tuple.
        elements: usize,
    },
    /// A signal without the payload its number asks for.
    #[error("signal {op} without a payload")]
    NoPayload {
        /// The signal's number.
        op: i32,
    },
    /// The message can't be decoded. Who was to get it is known, what it said isn't.
    #[error("bad payload of signal {op}")]
    Payload {
        /// The signal's number.
        op: i32,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl SignalError {
    /// Whether a message may well be a term, for all that was read of it, but is beyond our limits.
    pub fn is_beyond_limits(&self) -> bool {
        matches!(self, Self::Payload { source, .. } if source.is_beyond_limits())
    }
}

/// Bytes in an error: `131 68`, or `nothing`.
struct Bytes<'a>(&'a [Option<u8>]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter().flatten();
        match bytes.next() {
            None => f.write_str("nothing"),
            Some(first) => {
                write!(f, "{first}")?;
                bytes.try_for_each(|byte| write!(f, " {byte}"))
            }
        }
    }
}

//! Bytes to frames to signals, and back. No sockets, no clock, no state but the [`Deframer`]'s.
//!
//! After the handshake, a connection carries frames, each led by its length in four bytes:
//!
//! ```text
//! 0 0 0 0                                  a tick
//! Length:32 112 131 Control                a signal such as a link
//! Length:32 112 131 Control 131 Payload    a signal with a message or an exit reason
//! ```
//!
//! `Control` is a tuple whose first element is the signal's number; both are terms in the external
//! format. Where [`Flags::DIST_HDR_ATOM_CACHE`] or [`Flags::FRAGMENTS`] were agreed on, as with every
//! BEAM, frames are of other kinds, and terms in them have no 131:
//!
//! ```text
//! Length:32 131 68 Atoms Control [Payload]                            atoms listed for both
//! Length:32 131 69 Sequence:64 Fragment:64 Atoms Control Payload      the begin of a large message
//! Length:32 131 70 Sequence:64 Fragment:64 Payload                    more of it
//! ```
//!
//! What a peer sends is a claim until its bytes are here: nothing is allocated by a length that was
//! only read, a count is at most the bytes left (a term has at least one), nothing recurses by what a peer says. The
//! crates `eetf` and `erl_dist` break each of these rules (five bytes abort the process, two make it
//! panic), so they don't stand on this path; `eetf` serves the tests as a second opinion.

mod atom_cache;
pub mod codec;
pub mod eetf;
pub mod flags;
pub mod fragments;
pub mod frame;
pub mod inbound;
pub mod messages;
pub mod outbound;
mod recent;
pub mod signal;
#[cfg(test)]
pub(crate) mod testing;

pub use codec::{DecodeError, EncodeError, decode, decode_prefix, encode};
pub use flags::Flags;
pub use fragments::{FragmentError, FragmentLimits};
pub use frame::{Deframer, FrameError};
pub use inbound::{Inbound, Incoming, Message};
pub use messages::Messages;
pub use outbound::Outbound;
pub use signal::{Payload, PidOrName, Signal, SignalError, Target};

/// How deep a term from a peer may nest: tuples, lists, maps, funs and records in each other.
///
/// Real data is less than 20 deep, a list of any length is 1 deep. The BEAM has no limit; we
/// have one, since comparing, hashing and dropping a term do recurse.
///
/// What is beyond this or [`MAX_INTEGER`], and for all that was read of it a term, doesn't cost its
/// sender the connection, unless a caller would wait for ever: see [`node`](crate::node).
pub const MAX_DEPTH: usize = 256;

/// Most bytes of a frame, of one encoded term, and of a compressed term once inflated: 256 MiB.
///
/// A peer's whole state may come as one frame: a million groups of `pg` are about 70 MB. Too small
/// a limit means that a big scope never syncs.
pub const MAX_MESSAGE: usize = 256 << 20;

/// Most bytes of an integer from a peer: 64 KiB. What is done with integers costs more than their
/// size.
pub const MAX_INTEGER: usize = 64 << 10;

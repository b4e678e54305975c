//! Terms to bytes and back: Erlang's external term format.
//!
//! Own code instead of the crate `eetf`, which two bytes make panic, five make abort, and which
//! recurses by what it's told. Here neither direction recurses more than eight deep, counts are held against the bytes
//! left, and what the BEAM refuses with `badarg` is refused: a key twice in a map, infinities, bit
//! strings with 9 bits in a byte. Terms come out canonical (see [`term`](crate::term)): a "string" is
//! the list it stands for, five in a big integer is five.
//!
//! Written is what `term_to_binary/1` writes from OTP 26 on, byte for byte, except for the order of
//! keys in a map, which depends on the BEAM's memory.
//!
//! Source: *External Term Format*, erts user's guide; `erts/emulator/beam/external.c`.

mod decode;
mod encode;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
mod usual;

pub(super) use decode::Reader;
pub use decode::{DecodeError, decode, decode_prefix};
pub use encode::{EncodeError, encode};
pub(super) use encode::{bare, put_atom, put_integer, put_pid_words, put_reference_words};
pub(super) use usual::Usual;

/// Leads every term in the external format.
pub(super) const VERSION: u8 = 131;

/// The first byte of each kind of term, by its name in the documents without `_EXT`.
pub(super) mod tag {
    pub(in crate::wire) const RECORD: u8 = 67;
    pub(in crate::wire) const NEW_FLOAT: u8 = 70;
    pub(in crate::wire) const BIT_BINARY: u8 = 77;
    pub(in crate::wire) const COMPRESSED: u8 = 80;
    /// An atom by its place in the list at the start of the frame.
    pub(in crate::wire) const ATOM_CACHE: u8 = 82;
    pub(in crate::wire) const NEW_PID: u8 = 88;
    pub(in crate::wire) const NEW_PORT: u8 = 89;
    pub(in crate::wire) const NEWER_REFERENCE: u8 = 90;
    pub(in crate::wire) const SMALL_INTEGER: u8 = 97;
    pub(in crate::wire) const INTEGER: u8 = 98;
    pub(in crate::wire) const FLOAT: u8 = 99;
    pub(in crate::wire) const ATOM: u8 = 100;
    pub(in crate::wire) const REFERENCE: u8 = 101;
    pub(in crate::wire) const PORT: u8 = 102;
    pub(in crate::wire) const PID: u8 = 103;
    pub(in crate::wire) const SMALL_TUPLE: u8 = 104;
    pub(in crate::wire) const LARGE_TUPLE: u8 = 105;
    pub(in crate::wire) const NIL: u8 = 106;
    pub(in crate::wire) const STRING: u8 = 107;
    pub(in crate::wire) const LIST: u8 = 108;
    pub(in crate::wire) const BINARY: u8 = 109;
    pub(in crate::wire) const SMALL_BIG: u8 = 110;
    pub(in crate::wire) const LARGE_BIG: u8 = 111;
    pub(in crate::wire) const NEW_FUN: u8 = 112;
    pub(in crate::wire) const EXPORT: u8 = 113;
    pub(in crate::wire) const NEW_REFERENCE: u8 = 114;
    pub(in crate::wire) const SMALL_ATOM: u8 = 115;
    pub(in crate::wire) const MAP: u8 = 116;
    pub(in crate::wire) const ATOM_UTF8: u8 = 118;
    pub(in crate::wire) const SMALL_ATOM_UTF8: u8 = 119;
    pub(in crate::wire) const V4_PORT: u8 = 120;
}

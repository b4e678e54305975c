//! Erlang terms, canonical: two terms that Erlang calls equal by `=:=` are equal, hash alike and
//! print alike, whichever way they came in.
//!
//! That is what a key of a replicated map needs. So an integer that fits 64 bits is never a
//! [`BigInteger`], a list whose tail is a list is never an [`ImproperList`], a map is sorted, and a
//! string of bytes is the list it stands for. The types of the parts keep these laws; a `Term`
//! needs no check once it exists.
//!
//! [`Ord`] is Erlang's term order (`number < atom < reference < fun < port < pid < tuple < record <
//! map < nil < list < bit string`), made total: of two terms that are equal by `==` but not by
//! `=:=`, the one with an integer where the other has a float comes first.
//!
//! Bytes are the matter of [`wire`](crate::wire).

mod atom;
mod binary;
mod build;
mod display;
mod id;
mod list;
mod map;
mod number;
mod order;
mod parse;
mod pieces;
mod read;
#[cfg(test)]
pub(crate) mod testing;
mod zero;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use atom::{Atom, AtomTooLong};
pub use binary::Binary;
pub use id::{BadNodeName, Creation, Destination, NodeName, Pid, Port, Reference};
pub use list::{ImproperList, List};
pub use map::{DuplicateKey, Map};
pub use number::{BigInteger, Float};
pub use parse::ParseError;
pub use pieces::Pieces;
pub use read::{BadTerm, Excerpt};

/// What [`atom!`](crate::atom) expands to needs a path into this crate.
#[doc(hidden)]
pub mod macro_support {
    pub use arcstr::literal;
}

/// Any Erlang value.
///
/// 32 bytes; a clone counts references and never copies content, but for a few bytes of a binary. Nothing here limits how deep terms
/// nest; what comes from a peer is at most [`wire::MAX_DEPTH`](crate::wire::MAX_DEPTH) deep.
#[derive(Clone, Eq, Hash, PartialEq)]
pub enum Term {
    /// An integer of 64 bits.
    Integer(i64),
    /// Any other integer.
    BigInteger(BigInteger),
    /// A finite float.
    Float(Float),
    /// An atom.
    Atom(Atom),
    /// A reference.
    Reference(Reference),
    /// A function.
    Fun(Arc<Fun>),
    /// A port.
    Port(Port),
    /// A process identifier.
    Pid(Pid),
    /// A tuple.
    Tuple(Arc<[Term]>),
    /// A map.
    Map(Map),
    /// A proper list; `[]` too.
    List(List),
    /// A list whose last tail is no list, `[a|b]`.
    ImproperList(Arc<ImproperList>),
    /// A binary: whole bytes.
    Binary(Binary),
    /// A bit string whose last byte isn't full.
    BitString(BitString),
    /// A native record of OTP 29, which sends them to every peer.
    Record(Arc<Record>),
}

/// A function value: a thing to hold and to send back, never to call here.
///
/// Two closures are equal if they are of the same code and close over equal terms, whoever made
/// them: `pid` doesn't count, and neither does `old_index`. So it is on the BEAM.
#[derive(Clone, Debug)]
pub enum Fun {
    /// `fun Module:Function/Arity`.
    External {
        /// The module.
        module: Atom,
        /// The function's name.
        function: Atom,
        /// How many arguments it takes.
        arity: u8,
    },
    /// A closure, as `NEW_FUN_EXT` has it.
    Internal {
        /// How many arguments it takes.
        arity: u8,
        /// MD5 of the module's significant parts.
        uniq: [u8; 16],
        /// Its place in the module's table of funs.
        index: u32,
        /// The module it was made in.
        module: Atom,
        /// As `index`, of the old format.
        old_index: u32,
        /// As `uniq`, of the old format.
        old_uniq: u32,
        /// The process that made it.
        pid: Pid,
        /// What it closes over.
        free: Vec<Term>,
    },
}

/// Module, function, arity, `uniq`, the other two numbers, what it closes over.
type FunIdentity<'a> = (&'a Atom, Option<&'a Atom>, u8, &'a [u8], [u32; 2], &'a [Term]);

impl Fun {
    /// All that tells funs apart; funs of the two kinds never have the same.
    fn identity(&self) -> FunIdentity<'_> {
        match self {
            Self::External { module, function, arity } => {
                (module, Some(function), *arity, &[], [0; 2], &[])
            }
            Self::Internal { arity, uniq, index, module, old_uniq, free, .. } => {
                (module, None, *arity, uniq, [*index, *old_uniq], free)
            }
        }
    }
}

impl PartialEq for Fun {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Fun {}

impl Hash for Fun {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// A native record, `#Module:Name{Field = Value}` of OTP 29 (tag 67).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Record {
    /// Flag byte; 0 in all records seen.
    pub flags: u8,
    /// The module that defines it.
    pub module: Atom,
    /// Its name.
    pub name: Atom,
    /// Field names and values, in the order of the definition.
    pub fields: Vec<(Atom, Term)>,
}

/// A bit string that isn't whole bytes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BitString {
    bytes: Arc<[u8]>,
    last_bits: u8,
}

impl BitString {
    /// Bits of the last byte that count, 1 to 7: the high ones.
    pub fn last_bits(&self) -> u8 {
        self.last_bits
    }

    /// The bytes; the unused low bits of the last are 0.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Term {
    /// `[]`.
    pub const NIL: Self = Self::List(List::EMPTY);

    /// A tuple of these elements.
    pub fn tuple_of(elements: impl Into<Arc<[Self]>>) -> Self {
        Self::Tuple(elements.into())
    }

    /// A proper list of these elements.
    pub fn list_of(elements: impl IntoIterator<Item = Self>) -> Self {
        Self::List(elements.into_iter().collect())
    }

    /// `[E1, E2 | Tail]`, a proper list if the tail is one.
    pub fn list_with_tail(elements: Vec<Self>, tail: Self) -> Self {
        ImproperList::term(elements, tail)
    }

    /// A binary of these bytes; text is given as its UTF-8.
    pub fn binary_of(bytes: impl AsRef<[u8]>) -> Self {
        Self::Binary(bytes.as_ref().into())
    }

    /// A list of characters, what Erlang writes as `"text"`.
    pub fn string_of(text: &str) -> Self {
        Self::list_of(text.chars().map(|c| Self::Integer(i64::from(u32::from(c)))))
    }

    /// A bit string whose last byte has only `last_bits` bits, 1 to 8; the rest of that byte is
    /// cleared. With 8, or without bytes, it's a binary. `None` if `last_bits` is out of range.
    pub fn bit_string_of(bytes: impl Into<Vec<u8>>, last_bits: u8) -> Option<Self> {
        let mut bytes: Vec<u8> = bytes.into();
        match last_bits {
            8 => Some(Self::Binary(bytes.into())),
            1..=7 => match bytes.last_mut() {
                None => None,
                Some(last) => {
                    *last &= 0xff << (8 - last_bits);
                    Some(Self::BitString(BitString { bytes: bytes.into(), last_bits }))
                }
            },
            _ => None,
        }
    }

    /// A float; `None` for infinities and NaN, which Erlang doesn't have.
    pub fn float_of(value: f64) -> Option<Self> {
        Float::new(value).map(Self::Float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_32_bytes() {
        assert_eq!(size_of::<Term>(), 32);
    }

    #[test]
    fn unused_bits_do_not_tell_bit_strings_apart() {
        assert_eq!(Term::bit_string_of([0b1010_0000], 3), Term::bit_string_of([0b1011_1111], 3));
        assert_eq!(Term::bit_string_of([1, 2], 8), Some(Term::binary_of([1, 2])));
        assert_eq!(Term::bit_string_of([], 3), None);
    }
}

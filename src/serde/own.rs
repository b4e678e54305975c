//! Our own types inside users' types: [`Term`], [`Atom`], pids and their like.
//!
//! With our reader and writer they pass as they are, by [`handover`]. Other formats get a text: that
//! of an atom or a node name, Erlang's syntax of any other term; only pids, references and ports,
//! which Erlang's syntax hasn't, show all they are made of, `<a@127.0.0.1/1795.92.0>` with the
//! creation behind the node.
//!
//! In between there is a third thing. For types that are `untagged`, have a `tag` or a `flatten`,
//! serde first copies all there is into a type of its own, asking our reader what it sees, and reads
//! the value from the copy. Such a copy can't tell lists from tuples, so a [`Term`] that might be one
//! isn't read from it; the rest is told apart by signs that come through: text that isn't borrowed
//! was an atom, text that is was a binary, a newtype struct of bytes was a pid, reference or port.

use std::fmt;
use std::marker::PhantomData;

use ::serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use ::serde::ser::{Serialize, Serializer};
use num_bigint::BigInt;

use super::handover;
use crate::term::{Atom, Creation, List, Map, NodeName, Pid, Port, Reference, Term};

/// What makes a type pass as a term.
pub(super) trait Own: Sized {
    /// What it's called in errors.
    const NAME: &'static str;

    fn to_term(&self) -> Term;

    fn of_term(term: Term) -> Option<Self>;

    /// Writes the text for other formats.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads what [`write`](Self::write) writes.
    fn of_text(text: &str) -> Option<Self>;
}

/// A [`Serialize`] that offers the term, or writes the text.
struct Offer<'a, T>(&'a T);

impl<T: Own> Serialize for Offer<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if handover::offer(|| self.0.to_term()) {
            serializer.serialize_unit()
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<T: Own> fmt::Display for Offer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

pub(super) fn serialize<T: Own, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_newtype_struct(handover::NAME, &Offer(value))
}

fn deserialize<'de, T: Own, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    from.deserialize_newtype_struct(handover::NAME, OwnVisitor(PhantomData))
}

/// Takes the term that is handed over; or else what serde's copy or another format has.
struct OwnVisitor<T>(PhantomData<T>);

impl<T: Own> OwnVisitor<T> {
    fn term<E: de::Error>(self, term: Term) -> Result<T, E> {
        let wrong = || E::invalid_type(Unexpected::Other("another term"), &self);
        T::of_term(term).ok_or_else(wrong)
    }

    /// What serde's copy of a term has.
    fn copied<E: de::Error>(self, term: impl Into<Term>, as_: Unexpected<'_>) -> Result<T, E> {
        match handover::manners_of_reading() {
            Some(_) => self.term(term.into()),
            None => Err(E::invalid_type(as_, &self)),
        }
    }

    fn text<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::of_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de, T: Own> Visitor<'de> for OwnVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        match handover::manners_of_reading() {
            Some(_) => inner.deserialize_any(self),
            None => inner.deserialize_str(self),
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        match handover::take() {
            Some(term) => self.term(term),
            None => self.copied(Term::tuple_of([]), Unexpected::Unit),
        }
    }

    fn visit_none<E: de::Error>(self) -> Result<T, E> {
        let none = handover::manners_of_reading().unwrap_or_default().none();
        self.copied(none, Unexpected::Option)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        self.copied(value, Unexpected::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.copied(value, Unexpected::Signed(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.copied(value, Unexpected::Unsigned(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<T, E> {
        self.copied(BigInt::from(value), Unexpected::Other("integer"))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<T, E> {
        self.copied(BigInt::from(value), Unexpected::Other("integer"))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        match Term::float_of(value) {
            Some(term) => self.copied(term, Unexpected::Float(value)),
            None => Err(E::invalid_value(Unexpected::Float(value), &self)),
        }
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<T, E> {
        match handover::manners_of_reading() {
            Some(_) => self.term(Term::binary_of(text)),
            None => self.text(text),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        if handover::manners_of_reading().is_none() {
            return self.text(text);
        }
        match Atom::new(text) {
            Ok(atom) => self.term(atom.into()),
            Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<T, E> {
        self.copied(Term::binary_of(bytes), Unexpected::Bytes(bytes))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        match std::str::from_utf8(bytes).ok().and_then(of_mark) {
            Some(term) => self.copied(term, Unexpected::Bytes(bytes)),
            None => Err(E::invalid_value(Unexpected::Bytes(bytes), &self)),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _elements: A) -> Result<T, A::Error> {
        Err(de::Error::invalid_type(
            Unexpected::Other("a list or a tuple inside of an untagged, tagged or flattened type"),
            &self,
        ))
    }
}

macro_rules! own {
    ($($type:ty),*) => {$(
        /// As the term it is; other formats get a text (see [`serde`](crate::serde)).
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(self, serializer)
            }
        }

        /// From the term it is, or in other formats from the text it's written as.
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize(deserializer)
            }
        }
    )*};
}

own!(Term, Atom, NodeName, Pid, Reference, Port, Map, List);

impl Own for Term {
    const NAME: &'static str = "a term";

    fn to_term(&self) -> Term {
        self.clone()
    }

    fn of_term(term: Term) -> Option<Self> {
        Some(term)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => pid.write(f),
            Self::Reference(reference) => reference.write(f),
            Self::Port(port) => port.write(f),
            term => write!(f, "{term}"),
        }
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| of_mark(text))
    }
}

impl Own for Atom {
    const NAME: &'static str = "an atom";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::Atom(atom) => Some(atom),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }

    fn of_text(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl Own for NodeName {
    const NAME: &'static str = "a node name";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        Atom::of_term(term)?.try_into().ok()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }

    fn of_text(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl Own for Pid {
    const NAME: &'static str = "a pid";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::Pid(pid) => Some(pid),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}/{}.{}.{}>", self.node, self.creation, self.id, self.serial)
    }

    fn of_text(text: &str) -> Option<Self> {
        let (node, numbers) = mark_parts(text.strip_prefix('<')?)?;
        match numbers[..] {
            [creation, id, serial] => Some(Self {
                node,
                id: id.try_into().ok()?,
                serial: serial.try_into().ok()?,
                creation: Creation(creation.try_into().ok()?),
            }),
            _ => None,
        }
    }
}

impl Own for Reference {
    const NAME: &'static str = "a reference";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::Reference(reference) => Some(reference),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#Ref<{}/{}", self.node(), self.creation())?;
        for word in self.words().iter().rev() {
            write!(f, ".{word}")?;
        }
        f.write_str(">")
    }

    fn of_text(text: &str) -> Option<Self> {
        let (node, numbers) = mark_parts(text.strip_prefix("#Ref<")?)?;
        let (creation, words) = numbers.split_first()?;
        let words: Option<Vec<u32>> =
            words.iter().rev().map(|word| u32::try_from(*word).ok()).collect();
        Self::new(node, Creation(u32::try_from(*creation).ok()?), &words?)
    }
}

impl Own for Port {
    const NAME: &'static str = "a port";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::Port(port) => Some(port),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#Port<{}/{}.{}>", self.node, self.creation, self.id)
    }

    fn of_text(text: &str) -> Option<Self> {
        let (node, numbers) = mark_parts(text.strip_prefix("#Port<")?)?;
        match numbers[..] {
            [creation, id] => {
                Some(Self { node, creation: Creation(creation.try_into().ok()?), id })
            }
            _ => None,
        }
    }
}

impl Own for Map {
    const NAME: &'static str = "a map";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::Map(map) => Some(map),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_term().write(f)
    }

    fn of_text(text: &str) -> Option<Self> {
        Self::of_term(Term::of_text(text)?)
    }
}

impl Own for List {
    const NAME: &'static str = "a proper list";

    fn to_term(&self) -> Term {
        self.into()
    }

    fn of_term(term: Term) -> Option<Self> {
        match term {
            Term::List(list) => Some(list),
            _ => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_term().write(f)
    }

    fn of_text(text: &str) -> Option<Self> {
        Self::of_term(Term::of_text(text)?)
    }
}

/// A number.
impl Serialize for Creation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A number.
impl<'de> Deserialize<'de> for Creation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self)
    }
}

/// The node and the numbers of `node/1.2.3>`. A slash is a letter like others in a node's name, so
/// it's the last one that counts.
fn mark_parts(text: &str) -> Option<(NodeName, Vec<u64>)> {
    let (node, numbers) = text.strip_suffix('>')?.rsplit_once('/')?;
    let numbers: Option<_> = numbers.split('.').map(|number| number.parse().ok()).collect();
    Some((NodeName::new(node).ok()?, numbers?))
}

fn of_mark(text: &str) -> Option<Term> {
    Pid::of_text(text)
        .map(Term::Pid)
        .or_else(|| Reference::of_text(text).map(Term::Reference))
        .or_else(|| Port::of_text(text).map(Term::Port))
}

/// The sign by which a term that serde has no word for comes through serde's copy, if it has one.
pub(super) fn mark(term: &Term) -> Option<String> {
    matches!(term, Term::Pid(_) | Term::Reference(_) | Term::Port(_))
        .then(|| Offer(term).to_string())
}

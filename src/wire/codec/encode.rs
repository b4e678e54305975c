//! The way out: terms to bytes. Below a few levels a list of what is still to be written takes the place
//! of recursion, since a term made here may nest as deep as it likes.

use std::slice;

use num_bigint::{BigInt, Sign};
use smallvec::SmallVec;

use super::{VERSION, tag};
use crate::term::{Atom, Fun, Map, NodeName, Pid, Port, Record, Reference, Term};
use crate::wire::MAX_MESSAGE;

/// Appends 131 and the term, as `term_to_binary(Term)` of OTP 26 and later.
///
/// # Errors
///
/// [`EncodeError::TooLarge`]; `out` is then as it was.
pub fn encode(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(VERSION);
    bare(term, out).inspect_err(|_| out.truncate(start))
}

/// Why something can't be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("more than {MAX_MESSAGE} bytes")]
    TooLarge,
    /// A message to a name or an alias, of no sender: there is no signal for it.
    #[error("a message to a name or an alias needs a sender")]
    NoSender,
    /// A signal that only exists with a flag that wasn't agreed on.
    #[error("the signal needs {flag}, which wasn't agreed on")]
    NotNegotiated {
        /// The flag's name.
        flag: &'static str,
    },
}

/// The one thing that can be wrong with a term.
struct TooLarge;

impl From<TooLarge> for EncodeError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// As [`encode`], without the 131. After an error `out` holds a part of the term.
pub(in crate::wire) fn bare(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    within(MAX_MESSAGE, term, out)
}

/// As [`bare`], of at most `most` bytes.
pub(super) fn within(most: usize, term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let most = out.len().saturating_add(most);
    let mut writer = Writer { out, most, todo: SmallVec::new() };
    writer.values(slice::from_ref(term), 0)?;
    Ok(writer.check(0)?)
}
/// Tuples and lists with fewer terms around them are written by recursion: most of all there are.
const SHALLOW: usize = 8;

struct Writer<'a, 'out> {
    out: &'out mut Vec<u8>,
    /// Where `out` may end at most.
    most: usize,
    /// What is left to write, the next last.
    todo: SmallVec<[Todo<'a>; 2]>,
}

enum Todo<'a> {
    Terms(slice::Iter<'a, Term>),
    /// The same, and then the end of a proper list.
    List(slice::Iter<'a, Term>),
    Pairs(slice::Iter<'a, (Term, Term)>),
    Fields(slice::Iter<'a, (Atom, Term)>),
    /// A fun is complete whose size belongs at `at`.
    SizeOfFun {
        at: usize,
    },
}

impl<'a> Writer<'a, '_> {
    /// Terms with so many around them.
    fn values(&mut self, terms: &'a [Term], depth: usize) -> Result<(), TooLarge> {
        for term in terms {
            match term {
                Term::Atom(atom) => put_atom(atom, self.out),
                Term::Pid(pid) => put_pid(pid, self.out),
                Term::Binary(bytes) => self.binary(bytes)?,
                Term::Integer(value) => put_integer(*value, self.out),
                Term::Tuple(elements) if depth < SHALLOW => {
                    self.tuple(elements.len())?;
                    self.values(elements, depth + 1)?;
                }
                Term::List(list) if depth < SHALLOW => {
                    if self.list(list)? {
                        self.values(list, depth + 1)?;
                        self.out.push(tag::NIL);
                    }
                }
                Term::Map(map) if depth < SHALLOW => self.pairs(map, depth + 1)?,
                _ => self.all(term)?,
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn pairs(&mut self, map: &'a Map, depth: usize) -> Result<(), TooLarge> {
        self.head(tag::MAP, map.len())?;
        map.pairs().iter().try_for_each(|(key, value)| {
            self.values(slice::from_ref(key), depth)?;
            self.values(slice::from_ref(value), depth)
        })
    }

    /// A term and all its parts, however deep.
    #[inline(never)]
    fn all(&mut self, term: &'a Term) -> Result<(), TooLarge> {
        self.term(term)?;
        while let Some(todo) = self.todo.last_mut() {
            let next = match todo {
                Todo::Terms(terms) => terms.next(),
                Todo::List(terms) => {
                    let next = terms.next();
                    if next.is_none() {
                        self.out.push(tag::NIL);
                    }
                    next
                }
                Todo::Pairs(pairs) => pairs.next().map(|(key, value)| {
                    self.todo.push(Todo::Terms(slice::from_ref(value).iter()));
                    key
                }),
                Todo::Fields(fields) => fields.next().map(|(_, value)| value),
                Todo::SizeOfFun { at } => {
                    let size = self.out.len() - *at;
                    if let Some(place) = self.out.get_mut(*at..).and_then(<[u8]>::first_chunk_mut) {
                        *place = (size as u32).to_be_bytes();
                    }
                    None
                }
            };
            match next {
                Some(term) => self.term(term)?,
                None => {
                    self.todo.pop();
                }
            }
        }
        Ok(())
    }

    /// Writes all of a term without parts; of others the head, and puts the parts on the list.
    fn term(&mut self, term: &'a Term) -> Result<(), TooLarge> {
        match term {
            Term::Integer(value) => put_integer(*value, self.out),
            Term::BigInteger(value) => self.big_integer(value.value())?,
            Term::Float(value) => {
                self.out.push(tag::NEW_FLOAT);
                self.out.extend_from_slice(&value.value().to_be_bytes());
            }
            Term::Atom(atom) => put_atom(atom, self.out),
            Term::Reference(reference) => put_reference(reference, self.out),
            Term::Port(port) => put_port(port, self.out),
            Term::Pid(pid) => put_pid(pid, self.out),
            Term::Tuple(elements) => {
                self.tuple(elements.len())?;
                self.todo.push(Todo::Terms(elements.iter()));
            }
            Term::Map(map) => self.map(map)?,
            Term::List(list) => {
                if self.list(list)? {
                    self.todo.push(Todo::List(list.iter()));
                }
            }
            Term::ImproperList(list) => {
                self.head(tag::LIST, list.elements().len())?;
                self.todo.push(Todo::Terms(slice::from_ref(list.tail()).iter()));
                self.todo.push(Todo::Terms(list.elements().iter()));
            }
            Term::Binary(bytes) => self.binary(bytes)?,
            Term::BitString(bits) => {
                self.head(tag::BIT_BINARY, bits.bytes().len())?;
                self.out.push(bits.last_bits());
                self.out.extend_from_slice(bits.bytes());
            }
            Term::Fun(fun) => self.fun(fun)?,
            Term::Record(record) => self.record(record)?,
        }
        Ok(())
    }

    /// `Tag Count:32`, if so many more bytes may be written: each element has one at least.
    #[inline]
    fn head(&mut self, tag: u8, count: usize) -> Result<(), TooLarge> {
        self.check(count)?;
        let [a, b, c, d] = (count as u32).to_be_bytes();
        self.out.extend_from_slice(&[tag, a, b, c, d]);
        Ok(())
    }

    #[inline]
    fn check(&self, more: usize) -> Result<(), TooLarge> {
        match self.out.len().checked_add(more) {
            Some(len) if len <= self.most => Ok(()),
            _ => Err(TooLarge),
        }
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        self.head(tag::BINARY, bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn tuple(&mut self, count: usize) -> Result<(), TooLarge> {
        match u8::try_from(count) {
            Ok(few) => {
                self.check(count)?;
                self.out.extend_from_slice(&[tag::SMALL_TUPLE, few]);
                Ok(())
            }
            Err(_) => self.head(tag::LARGE_TUPLE, count),
        }
    }

    /// All of a list without elements or of nothing but bytes; else its head, and `true`: elements and
    /// an end must follow.
    #[inline]
    fn list(&mut self, list: &[Term]) -> Result<bool, TooLarge> {
        let byte = |term: &Term| match term {
            Term::Integer(value) => u8::try_from(*value).ok(),
            _ => None,
        };
        match u16::try_from(list.len()) {
            Ok(0) => self.out.push(tag::NIL),
            Ok(len) if list.iter().all(|term| byte(term).is_some()) => {
                self.check(list.len())?;
                self.out.push(tag::STRING);
                self.out.extend_from_slice(&len.to_be_bytes());
                self.out.extend(list.iter().filter_map(byte));
            }
            _ => {
                self.head(tag::LIST, list.len())?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn map(&mut self, map: &'a Map) -> Result<(), TooLarge> {
        self.head(tag::MAP, map.len())?;
        self.todo.push(Todo::Pairs(map.pairs().iter()));
        Ok(())
    }

    fn big_integer(&mut self, value: &BigInt) -> Result<(), TooLarge> {
        let (sign, digits) = value.to_bytes_le();
        match u8::try_from(digits.len()) {
            Ok(len) => self.out.extend_from_slice(&[tag::SMALL_BIG, len]),
            Err(_) => self.head(tag::LARGE_BIG, digits.len())?,
        }
        self.out.push(u8::from(sign == Sign::Minus));
        self.out.extend_from_slice(&digits);
        Ok(())
    }

    fn fun(&mut self, fun: &'a Fun) -> Result<(), TooLarge> {
        match fun {
            Fun::External { module, function, arity } => {
                self.out.push(tag::EXPORT);
                put_atom(module, self.out);
                put_atom(function, self.out);
                put_integer((*arity).into(), self.out);
            }
            Fun::Internal { arity, uniq, index, module, old_index, old_uniq, pid, free } => {
                self.out.push(tag::NEW_FUN);
                let at = self.out.len();
                self.out.extend_from_slice(&[0; 4]);
                self.out.push(*arity);
                self.out.extend_from_slice(uniq);
                self.out.extend_from_slice(&index.to_be_bytes());
                self.check(free.len())?;
                self.out.extend_from_slice(&(free.len() as u32).to_be_bytes());
                put_atom(module, self.out);
                // The BEAM writes these 32 bits as if signed.
                put_integer(old_index.cast_signed().into(), self.out);
                put_integer(old_uniq.cast_signed().into(), self.out);
                put_pid(pid, self.out);
                self.todo.push(Todo::SizeOfFun { at });
                self.todo.push(Todo::Terms(free.iter()));
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &'a Record) -> Result<(), TooLarge> {
        self.head(tag::RECORD, record.fields.len())?;
        self.out.push(record.flags);
        put_atom(&record.module, self.out);
        put_atom(&record.name, self.out);
        for (name, _) in &record.fields {
            put_atom(name, self.out);
        }
        self.todo.push(Todo::Fields(record.fields.iter()));
        Ok(())
    }
}

pub(in crate::wire) fn put_integer(value: i64, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend_from_slice(&[tag::SMALL_INTEGER, byte]);
    } else if let Ok(value) = i32::try_from(value) {
        let [a, b, c, d] = value.to_be_bytes();
        out.extend_from_slice(&[tag::INTEGER, a, b, c, d]);
    } else {
        let digits = value.unsigned_abs().to_le_bytes();
        let len = 8 - value.unsigned_abs().leading_zeros() / 8;
        out.extend_from_slice(&[tag::SMALL_BIG, len as u8, u8::from(value < 0)]);
        out.extend(digits.iter().take(len as usize));
    }
}

#[inline]
pub(in crate::wire) fn put_atom(atom: &Atom, out: &mut Vec<u8>) {
    let text = atom.as_str();
    if let Ok(len) = u8::try_from(text.len()) {
        out.extend_from_slice(&[tag::SMALL_ATOM_UTF8, len]);
    } else {
        // At most 255 characters of at most 4 bytes.
        out.push(tag::ATOM_UTF8);
        out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(text.as_bytes());
}

#[inline]
fn put_pid(pid: &Pid, out: &mut Vec<u8>) {
    let node = pid.node.as_str();
    if let Ok(len) = u8::try_from(node.len()) {
        out.extend_from_slice(&[tag::NEW_PID, tag::SMALL_ATOM_UTF8, len]);
        out.extend_from_slice(node.as_bytes());
    } else {
        out.push(tag::NEW_PID);
        put_node(&pid.node, out);
    }
    put_pid_words(pid, out);
}

/// What stands behind a pid's node.
pub(in crate::wire) fn put_pid_words(pid: &Pid, out: &mut Vec<u8>) {
    let words =
        u128::from(pid.id) << 64 | u128::from(pid.serial) << 32 | u128::from(pid.creation.0);
    let [_, _, _, _, words @ ..] = words.to_be_bytes();
    out.extend_from_slice(&words);
}

fn put_reference(reference: &Reference, out: &mut Vec<u8>) {
    out.push(tag::NEWER_REFERENCE);
    out.extend_from_slice(&(reference.words().len() as u16).to_be_bytes());
    put_node(reference.node(), out);
    put_reference_words(reference, out);
}

/// What stands behind a reference's node.
pub(in crate::wire) fn put_reference_words(reference: &Reference, out: &mut Vec<u8>) {
    out.extend_from_slice(&reference.creation().0.to_be_bytes());
    for word in reference.words() {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// As OTP 26 and later, in 64 bits whatever the number; OTP 25 reads it too.
fn put_port(port: &Port, out: &mut Vec<u8>) {
    out.push(tag::V4_PORT);
    put_node(&port.node, out);
    out.extend_from_slice(&port.id.to_be_bytes());
    out.extend_from_slice(&port.creation.0.to_be_bytes());
}

fn put_node(node: &NodeName, out: &mut Vec<u8>) {
    put_atom(node.atom(), out);
}

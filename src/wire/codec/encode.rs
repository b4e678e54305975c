//! The way out: terms to bytes. A list of what is still to be written takes the place of recursion,
//! since a term made here may nest as deep as it likes.

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

/// As [`encode`], without the 131. After an error `out` holds a part of the term.
pub(in crate::wire) fn bare(term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    within(MAX_MESSAGE, term, out)
}

/// As [`bare`], of at most `most` bytes.
pub(super) fn within(most: usize, term: &Term, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let most = out.len().saturating_add(most);
    let mut writer = Writer { out, most, todo: SmallVec::new() };
    writer.term(term)?;
    while let Some(todo) = writer.todo.last_mut() {
        let next = match todo {
            Todo::Terms(terms) => put_small(terms, writer.out),
            Todo::List(terms) => {
                let next = put_small(terms, writer.out);
                if next.is_none() {
                    writer.out.push(tag::NIL);
                }
                next
            }
            Todo::Pairs(pairs) => pairs.next().map(|(key, value)| {
                writer.todo.push(Todo::Terms(slice::from_ref(value).iter()));
                key
            }),
            Todo::Fields(fields) => fields.next().map(|(_, value)| value),
            Todo::SizeOfFun { at } => {
                let size = writer.out.len() - *at;
                if let Some(place) = writer.out.get_mut(*at..).and_then(<[u8]>::first_chunk_mut) {
                    *place = (size as u32).to_be_bytes();
                }
                None
            }
        };
        match next {
            Some(term) => writer.term(term)?,
            None => {
                writer.todo.pop();
            }
        }
    }
    writer.check(0)
}

/// Writes the next terms as long as they have no parts, and gives the first that has, if one does.
fn put_small<'a>(terms: &mut slice::Iter<'a, Term>, out: &mut Vec<u8>) -> Option<&'a Term> {
    terms.find(|term| {
        match term {
            Term::Integer(value) => put_integer(*value, out),
            Term::Atom(atom) => put_atom(atom, out),
            Term::Pid(pid) => put_pid(pid, out),
            Term::List(list) if list.is_empty() => out.push(tag::NIL),
            _ => return true,
        }
        false
    })
}

/// Most messages nest no deeper, and then the list of what is left to write needs no memory.
const INLINE: usize = 8;

struct Writer<'a, 'out> {
    out: &'out mut Vec<u8>,
    /// Where `out` may end at most.
    most: usize,
    /// What is left to write, the next last.
    todo: SmallVec<[Todo<'a>; INLINE]>,
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
    /// Writes all of a term without parts; of others the head, and puts the parts on the list.
    fn term(&mut self, term: &'a Term) -> Result<(), EncodeError> {
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
                match u8::try_from(elements.len()) {
                    Ok(count) => self.out.extend_from_slice(&[tag::SMALL_TUPLE, count]),
                    Err(_) => self.head(tag::LARGE_TUPLE, elements.len())?,
                }
                self.todo.push(Todo::Terms(elements.iter()));
            }
            Term::Map(map) => self.map(map)?,
            Term::List(list) => self.list(list)?,
            Term::ImproperList(list) => {
                self.head(tag::LIST, list.elements().len())?;
                self.todo.push(Todo::Terms(slice::from_ref(list.tail()).iter()));
                self.todo.push(Todo::Terms(list.elements().iter()));
            }
            Term::Binary(bytes) => {
                self.head(tag::BINARY, bytes.len())?;
                self.out.extend_from_slice(bytes);
            }
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
    fn head(&mut self, tag: u8, count: usize) -> Result<(), EncodeError> {
        self.check(count)?;
        let [a, b, c, d] = (count as u32).to_be_bytes();
        self.out.extend_from_slice(&[tag, a, b, c, d]);
        Ok(())
    }

    fn check(&self, more: usize) -> Result<(), EncodeError> {
        match self.out.len().checked_add(more) {
            Some(len) if len <= self.most => Ok(()),
            _ => Err(EncodeError::TooLarge),
        }
    }

    fn list(&mut self, list: &'a [Term]) -> Result<(), EncodeError> {
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
                self.todo.push(Todo::List(list.iter()));
            }
        }
        Ok(())
    }

    fn map(&mut self, map: &'a Map) -> Result<(), EncodeError> {
        self.head(tag::MAP, map.len())?;
        self.todo.push(Todo::Pairs(map.pairs().iter()));
        Ok(())
    }

    fn big_integer(&mut self, value: &BigInt) -> Result<(), EncodeError> {
        let (sign, digits) = value.to_bytes_le();
        match u8::try_from(digits.len()) {
            Ok(len) => self.out.extend_from_slice(&[tag::SMALL_BIG, len]),
            Err(_) => self.head(tag::LARGE_BIG, digits.len())?,
        }
        self.out.push(u8::from(sign == Sign::Minus));
        self.out.extend_from_slice(&digits);
        Ok(())
    }

    fn fun(&mut self, fun: &'a Fun) -> Result<(), EncodeError> {
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

    fn record(&mut self, record: &'a Record) -> Result<(), EncodeError> {
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

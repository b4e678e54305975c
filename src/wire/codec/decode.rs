//! The way in: bytes of a peer to terms, whatever their form.
//!
//! What is usual [`Usual`] reads, if all goes well. A [`Reader`] walks over the bytes once. Finished values lie on one stack; for each tuple, list,
//! map, fun or record not yet complete a [`Frame`] says where on that stack its part begins and how
//! many values it still waits for.

use std::mem;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use num_bigint::{BigInt, Sign};
use smallvec::SmallVec;

use super::usual::Usual;
use super::{VERSION, tag};
use crate::term::{Atom, Creation, Fun, Map, NodeName, Pid, Pieces, Port, Record, Reference, Term};
use crate::wire::atom_cache::AtomIn;
use crate::wire::{MAX_DEPTH, MAX_INTEGER, MAX_MESSAGE, recent};

/// Reads one term that fills all the bytes, led by 131.
///
/// # Errors
///
/// [`DecodeError`]; bytes after the term are one too.
pub fn decode(bytes: &[u8]) -> Result<Term, DecodeError> {
    if let [VERSION, bytes @ ..] = bytes {
        let (mut usual, mut term) = (Usual::new(bytes, &[]), Term::NIL);
        if usual.value(&mut term, 0).is_some() && usual.rest().is_empty() {
            return Ok(term);
        }
    }
    let (term, used) = decode_prefix(bytes)?;
    match bytes.len() - used {
        0 => Ok(term),
        count => Err(DecodeError::TrailingBytes { count }),
    }
}

/// Reads one term led by 131, and says how many bytes it took: what follows is the caller's matter.
///
/// # Errors
///
/// [`DecodeError`].
pub fn decode_prefix(bytes: &[u8]) -> Result<(Term, usize), DecodeError> {
    let mut reader = Reader::new(bytes);
    let term = reader.versioned_term()?;
    Ok((term, reader.at()))
}

/// Bytes aren't a term, or one beyond our limits. `at` counts bytes from the start.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside a term.
    #[error("the bytes end inside a term")]
    Truncated,
    /// A term begins with another byte than 131.
    #[error("a term begins with {found} instead of 131")]
    BadVersion {
        /// That byte.
        found: u8,
    },
    /// A tag that doesn't exist or has no place there: an atom cache reference, a compressed term
    /// inside a term.
    #[error("no term begins with {tag}, at byte {at}")]
    UnknownTag {
        /// The tag.
        tag: u8,
        /// Its place.
        at: usize,
    },
    /// Another kind of term than the place allows, such as an integer as the node of a pid.
    #[error("{expected} can't begin with {tag}, at byte {at}")]
    Misplaced {
        /// What must stand there.
        expected: &'static str,
        /// The tag that stands there.
        tag: u8,
        /// Its place.
        at: usize,
    },
    /// A count of elements, each at least one byte, above the bytes that are left.
    #[error("{count} elements in {left} bytes, at byte {at}")]
    TooMany {
        /// The count.
        count: usize,
        /// The bytes after it.
        left: usize,
        /// Where the bytes after it begin.
        at: usize,
    },
    /// More than [`MAX_DEPTH`] terms inside each other.
    #[error("terms nest more than {MAX_DEPTH} deep")]
    TooDeep,
    /// An integer of more than [`MAX_INTEGER`] bytes.
    #[error("an integer of more than {MAX_INTEGER} bytes")]
    IntegerTooLong,
    /// A value outside of what Erlang or our limits allow.
    #[error("{what}, before byte {at}")]
    BadValue {
        /// What is wrong with it.
        what: &'static str,
        /// Where it ends.
        at: usize,
    },
    /// A compressed term's bytes aren't zlib's, or don't inflate to the size they claim.
    #[error("a compressed term {what}")]
    BadCompression {
        /// What is wrong with it.
        what: &'static str,
    },
    /// More bytes than the term needs.
    #[error("{count} bytes after the term")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

impl DecodeError {
    /// Whether the bytes may well be a term, for all that was read of it, but are beyond our limits.
    pub fn is_beyond_limits(&self) -> bool {
        matches!(self, Self::TooDeep | Self::IntegerTooLong)
    }
}

/// A place in bytes of a peer, and what can be read there.
pub(in crate::wire) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
    /// The atoms listed at the start of the frame, which terms refer to by their place.
    atoms: &'a [AtomIn],
}

impl<'a> Reader<'a> {
    pub(in crate::wire) fn new(bytes: &'a [u8]) -> Self {
        Self::with_atoms(bytes, &[])
    }

    /// For terms of a frame that has a list of atoms.
    pub(in crate::wire) fn with_atoms(bytes: &'a [u8], atoms: &'a [AtomIn]) -> Self {
        Self { rest: bytes, len: bytes.len(), atoms }
    }

    /// The bytes not yet read.
    pub(in crate::wire) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have been read.
    pub(in crate::wire) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    pub(in crate::wire) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The byte that comes next.
    pub(in crate::wire) fn peek(&self) -> Result<u8, DecodeError> {
        self.rest.first().copied().ok_or(DecodeError::Truncated)
    }

    /// The byte 131.
    pub(in crate::wire) fn version(&mut self) -> Result<(), DecodeError> {
        match self.u8()? {
            VERSION => Ok(()),
            found => Err(DecodeError::BadVersion { found }),
        }
    }

    /// 131 and a term, which may be compressed.
    pub(in crate::wire) fn versioned_term(&mut self) -> Result<Term, DecodeError> {
        self.version()?;
        if self.peek()? == tag::COMPRESSED { self.compressed() } else { self.term() }
    }

    /// A term without its 131.
    pub(in crate::wire) fn term(&mut self) -> Result<Term, DecodeError> {
        let (mut usual, mut term) = (Usual::new(self.rest, self.atoms), Term::NIL);
        match usual.value(&mut term, 0) {
            Some(()) => {
                self.rest = usual.rest();
                Ok(term)
            }
            None => self.any_term(0),
        }
    }

    /// A term of any form, with so many around it.
    pub(super) fn any_term(&mut self, depth: usize) -> Result<Term, DecodeError> {
        let mut frame = match self.step(0)? {
            Step::Value(term) => return Ok(term),
            Step::Open(frame) => frame,
        };
        let values = &mut Vec::new();
        let mut outer: SmallVec<[Frame; INLINE]> = SmallVec::new();
        loop {
            match self.step(values.len())? {
                Step::Value(term) => self.push(values, term),
                Step::Open(inner) => {
                    outer.push(mem::replace(&mut frame, inner));
                    if depth + outer.len() >= MAX_DEPTH {
                        return Err(DecodeError::TooDeep);
                    }
                    continue;
                }
            }
            frame.waiting -= 1;
            while frame.waiting == 0 {
                match self.close(frame, values)? {
                    Step::Open(longer) => frame = longer,
                    Step::Value(term) => {
                        let Some(around) = outer.pop() else { return Ok(term) };
                        frame = around;
                        self.push(values, term);
                        frame.waiting -= 1;
                    }
                }
            }
        }
    }

    /// The number of elements of a tuple, which follow.
    pub(in crate::wire) fn tuple(&mut self) -> Result<usize, DecodeError> {
        match self.u8()? {
            tag::SMALL_TUPLE => {
                let count = usize::from(self.u8()?);
                self.fits(count, count)
            }
            tag::LARGE_TUPLE => {
                let count = self.u32()? as usize;
                self.fits(count, count)
            }
            tag => Err(self.misplaced("a tuple", tag)),
        }
    }

    pub(in crate::wire) fn pid(&mut self) -> Result<Pid, DecodeError> {
        let mut usual = Usual::new(self.rest, self.atoms);
        if let Some(pid) = usual.pid() {
            self.rest = usual.rest();
            return Ok(pid);
        }
        let tag = self.u8()?;
        match tag {
            tag::NEW_PID | tag::PID => self.pid_of(tag),
            tag => Err(self.misplaced("a pid", tag)),
        }
    }

    pub(in crate::wire) fn reference(&mut self) -> Result<Reference, DecodeError> {
        let tag = self.u8()?;
        match tag {
            tag::NEWER_REFERENCE | tag::NEW_REFERENCE | tag::REFERENCE => self.reference_of(tag),
            tag => Err(self.misplaced("a reference", tag)),
        }
    }

    pub(in crate::wire) fn atom(&mut self) -> Result<Atom, DecodeError> {
        let tag = self.u8()?;
        match tag {
            tag::SMALL_ATOM_UTF8 | tag::ATOM_UTF8 | tag::SMALL_ATOM | tag::ATOM => {
                self.atom_of(tag)
            }
            tag::ATOM_CACHE if !self.atoms.is_empty() => self.listed_atom(),
            tag => Err(self.misplaced("an atom", tag)),
        }
    }

    /// An integer of at most 32 bits.
    pub(in crate::wire) fn small_integer(&mut self) -> Result<i32, DecodeError> {
        match self.u8()? {
            tag::SMALL_INTEGER => Ok(i32::from(self.u8()?)),
            tag::INTEGER => Ok(i32::from_be_bytes(self.array()?)),
            tag => Err(self.misplaced("a small integer", tag)),
        }
    }

    /// One value, or the head of a compound one that waits for the values after it. `start` is the
    /// height of the stack.
    fn step(&mut self, start: usize) -> Result<Step, DecodeError> {
        let open = |kind, waiting| Ok(Step::Open(Frame { kind, start, waiting }));
        let term = match self.u8()? {
            tag::SMALL_INTEGER => Term::Integer(i64::from(self.u8()?)),
            tag::INTEGER => Term::Integer(i64::from(i32::from_be_bytes(self.array()?))),
            tag @ (tag::SMALL_ATOM_UTF8 | tag::ATOM_UTF8 | tag::SMALL_ATOM | tag::ATOM) => {
                Term::Atom(self.atom_of(tag)?)
            }
            tag::ATOM_CACHE if !self.atoms.is_empty() => Term::Atom(self.listed_atom()?),
            tag @ (tag::NEW_PID | tag::PID) => Term::Pid(self.pid_of(tag)?),
            tag::NIL => Term::NIL,
            tag::SMALL_TUPLE => match usize::from(self.u8()?) {
                0 => Term::Tuple(Arc::default()),
                count => return open(Kind::Tuple, self.fits(count, count)?),
            },
            tag::LARGE_TUPLE => match self.u32()? as usize {
                0 => Term::Tuple(Arc::default()),
                count => return open(Kind::Tuple, self.fits(count, count)?),
            },
            tag::LIST => match self.u32()? as usize {
                // Not a list at all, by the BEAM's reading, but the tail alone.
                0 => return open(Kind::Tail, 1),
                count => return open(Kind::List, self.fits(count, count.saturating_add(1))?),
            },
            tag::MAP => match self.u32()? as usize {
                0 => Term::Map(Map::from_iter([])),
                count => {
                    let values = count.saturating_mul(2);
                    self.fits(count, values)?;
                    return open(Kind::Map, values);
                }
            },
            tag::STRING => {
                let len = self.u16()?.into();
                Term::List(integers(self.take(len)?).collect())
            }
            tag::BINARY => {
                let len = self.u32()? as usize;
                Term::binary_of(self.take(len)?)
            }
            tag::BIT_BINARY => self.bit_binary()?,
            tag::SMALL_BIG => {
                let len = self.u8()?.into();
                self.big_integer(len)?
            }
            tag::LARGE_BIG => {
                let len = self.u32()? as usize;
                self.big_integer(len)?
            }
            tag::NEW_FLOAT => {
                let value = f64::from_be_bytes(self.array()?);
                Term::float_of(value).ok_or_else(|| self.bad("a float that isn't finite"))?
            }
            tag::FLOAT => {
                let text: [u8; 31] = self.array()?;
                float_of_text(&text).ok_or_else(|| self.bad("a text that is no float"))?
            }
            tag @ (tag::NEWER_REFERENCE | tag::NEW_REFERENCE | tag::REFERENCE) => {
                Term::Reference(self.reference_of(tag)?)
            }
            tag @ (tag::V4_PORT | tag::NEW_PORT | tag::PORT) => self.port_of(tag)?,
            tag::EXPORT => {
                let (module, function) = (self.atom()?, self.atom()?);
                let arity = u8::try_from(self.small_integer()?)
                    .map_err(|_| self.bad("a function of more than 255 arguments"))?;
                Term::Fun(Arc::new(Fun::External { module, function, arity }))
            }
            tag::NEW_FUN => return self.fun(start),
            tag::RECORD => return self.record(start),
            tag => return Err(DecodeError::UnknownTag { tag, at: self.at() - 1 }),
        };
        Ok(Step::Value(term))
    }

    /// The term of a frame that has all the values it waited for; or the frame again, if it's a list
    /// whose tail has elements too or is a term that isn't a list.
    fn close(&mut self, frame: Frame, values: &mut Vec<Term>) -> Result<Step, DecodeError> {
        let start = frame.start;
        Ok(Step::Value(match frame.kind {
            Kind::Tuple => Term::Tuple(values.drain(start..).collect()),
            Kind::List => loop {
                // A tail that is a list goes on in this frame instead of one level deeper. So a list
                // in a thousand pieces costs as much as one in one piece.
                match self.peek()? {
                    tag::NIL => {
                        self.u8()?;
                        break Term::List(values.drain(start..).collect());
                    }
                    tag::STRING => {
                        self.u8()?;
                        let len = self.u16()?.into();
                        values.extend(integers(self.take(len)?));
                        break Term::List(values.drain(start..).collect());
                    }
                    tag::LIST => {
                        self.u8()?;
                        let count = self.u32()? as usize;
                        if count > 0 {
                            let waiting = self.fits(count, count.saturating_add(1))?;
                            return Ok(Step::Open(Frame { kind: Kind::List, start, waiting }));
                        }
                    }
                    _ => return Ok(Step::Open(Frame { kind: Kind::Tail, start, waiting: 1 })),
                }
            },
            Kind::Tail => {
                let mut elements = values.split_off(start);
                let tail = elements.pop().unwrap_or(Term::NIL);
                Term::list_with_tail(elements, tail)
            }
            Kind::Map => {
                let mut pairs = Vec::with_capacity((values.len() - start) / 2);
                let mut all = values.drain(start..);
                while let (Some(key), Some(value)) = (all.next(), all.next()) {
                    pairs.push((key, value));
                }
                Term::Map(Map::new(pairs).map_err(|_| self.bad("a map with a key twice"))?)
            }
            Kind::Fun(mut fun) => {
                if let Fun::Internal { free, .. } = &mut *fun {
                    *free = values.split_off(start);
                }
                Term::Fun(Arc::from(fun))
            }
            Kind::Record(head) => {
                let RecordHead { flags, module, name, fields } = *head;
                let fields = fields.into_iter().zip(values.drain(start..)).collect();
                Term::Record(Arc::new(Record { flags, module, name, fields }))
            }
        }))
    }

    /// `112 Size:32 Arity:8 Uniq:16/binary Index:32 NumFree:32 Module OldIndex OldUniq Pid Free...`
    fn fun(&mut self, start: usize) -> Result<Step, DecodeError> {
        // The size only helps to skip a fun; like the BEAM we don't need it to be right.
        self.u32()?;
        let arity = self.u8()?;
        let uniq = self.array()?;
        let index = self.u32()?;
        let waiting = self.u32()? as usize;
        self.fits(waiting, waiting)?;
        let module = self.atom()?;
        let (old_index, old_uniq) = (self.word()?, self.word()?);
        let pid = self.pid()?;
        let free = Vec::new();
        let fun = Fun::Internal { arity, uniq, index, module, old_index, old_uniq, pid, free };
        Ok(match waiting {
            0 => Step::Value(Term::Fun(Arc::new(fun))),
            _ => Step::Open(Frame { kind: Kind::Fun(Box::new(fun)), start, waiting }),
        })
    }

    /// `67 N:32 Flags:8 Module Name FieldName*N Value*N`
    fn record(&mut self, start: usize) -> Result<Step, DecodeError> {
        let waiting = self.u32()? as usize;
        let flags = self.u8()?;
        self.fits(waiting, waiting.saturating_mul(3))?;
        let (module, name) = (self.atom()?, self.atom()?);
        if waiting == 0 {
            let fields = Vec::new();
            return Ok(Step::Value(Term::Record(Arc::new(Record { flags, module, name, fields }))));
        }
        let fields = (0..waiting).map(|_| self.atom()).collect::<Result<_, _>>()?;
        let head = Box::new(RecordHead { flags, module, name, fields });
        Ok(Step::Open(Frame { kind: Kind::Record(head), start, waiting }))
    }

    /// `77 Len:32 Bits:8 Bytes`: of the last byte the high `Bits` count.
    fn bit_binary(&mut self) -> Result<Term, DecodeError> {
        let len = self.u32()? as usize;
        let bits = self.u8()?;
        let bytes = self.take(len)?;
        match (len, bits) {
            (0, 0) => Ok(Term::binary_of([])),
            _ => Term::bit_string_of(bytes, if len == 0 { 0 } else { bits })
                .ok_or_else(|| self.bad("a bit string with no last byte of 1 to 8 bits")),
        }
    }

    /// `Sign:8 Digits`, the least significant byte first. Any sign but 0 is minus, as on the BEAM.
    fn big_integer(&mut self, len: usize) -> Result<Term, DecodeError> {
        let negative = self.u8()? != 0;
        let digits = self.take(len)?;
        if len > MAX_INTEGER {
            return Err(DecodeError::IntegerTooLong);
        }
        if len <= 8 {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(digits) {
                *to = *from;
            }
            let value = i128::from(u64::from_le_bytes(bytes));
            let value = if negative { -value } else { value };
            return Ok(match i64::try_from(value) {
                Ok(small) => Term::Integer(small),
                Err(_) => BigInt::from(value).into(),
            });
        }
        let sign = if negative { Sign::Minus } else { Sign::Plus };
        Ok(BigInt::from_bytes_le(sign, digits).into())
    }

    fn pid_of(&mut self, tag: u8) -> Result<Pid, DecodeError> {
        let node = self.node()?;
        let (id, serial) = (self.u32()?, self.u32()?);
        let creation = self.creation(tag == tag::NEW_PID)?;
        Ok(Pid { node, id, serial, creation })
    }

    fn port_of(&mut self, tag: u8) -> Result<Term, DecodeError> {
        let node = self.node()?;
        let id = if tag == tag::V4_PORT {
            u64::from_be_bytes(self.array()?)
        } else {
            u64::from(self.u32()?)
        };
        let creation = self.creation(tag != tag::PORT)?;
        Ok(Term::Port(Port { node, creation, id }))
    }

    fn reference_of(&mut self, tag: u8) -> Result<Reference, DecodeError> {
        let mut words = [0; Reference::MAX_WORDS];
        let (node, creation, count);
        if tag == tag::REFERENCE {
            node = self.node()?;
            count = 1;
            words[0] = self.u32()?;
            creation = self.creation(false)?;
        } else {
            count = usize::from(self.u16()?);
            node = self.node()?;
            creation = self.creation(tag == tag::NEWER_REFERENCE)?;
            for word in words.iter_mut().take(count) {
                *word = self.u32()?;
            }
        }
        words
            .get(..count)
            .and_then(|words| Reference::new(node, creation, words))
            .ok_or_else(|| self.bad("a reference without 1 to 5 words"))
    }

    /// Four bytes in the newer formats, one in the older.
    fn creation(&mut self, newer: bool) -> Result<Creation, DecodeError> {
        Ok(Creation(if newer { self.u32()? } else { self.u8()?.into() }))
    }

    /// An atom that names a node; never another term, which could hold a pid, which could hold ...
    fn node(&mut self) -> Result<NodeName, DecodeError> {
        let name = self.atom()?;
        name.try_into().map_err(|_| self.bad("an atom that is no node name"))
    }

    fn atom_of(&mut self, tag: u8) -> Result<Atom, DecodeError> {
        let len = match tag {
            tag::SMALL_ATOM_UTF8 | tag::SMALL_ATOM => self.u8()?.into(),
            _ => self.u16()?.into(),
        };
        if matches!(tag, tag::SMALL_ATOM_UTF8 | tag::ATOM_UTF8) {
            return Ok(self.atom_text(len)?.atom);
        }
        // Latin-1: each byte is the character of that number.
        let text: String = self.take(len)?.iter().map(|&byte| char::from(byte)).collect();
        Atom::new(&text).map_err(|_| self.bad("an atom of more than 255 characters"))
    }

    /// An atom of so many bytes.
    pub(in crate::wire) fn atom_text(&mut self, len: usize) -> Result<AtomIn, DecodeError> {
        recent::listed(self.take(len)?).map_err(|what| self.bad(what))
    }

    /// `82 Index:8`, the 82 being read.
    fn listed_atom(&mut self) -> Result<Atom, DecodeError> {
        let index = usize::from(self.u8()?);
        let atom = self.atoms.get(index).map(|listed| listed.atom.clone());
        atom.ok_or_else(|| self.bad("an atom beyond the frame's list"))
    }

    /// 32 bits as an integer of any form. The BEAM writes them as if signed.
    fn word(&mut self) -> Result<u32, DecodeError> {
        let tag = self.peek()?;
        let value = match tag {
            tag::SMALL_INTEGER | tag::INTEGER => {
                return Ok(self.small_integer()?.cast_unsigned());
            }
            tag::SMALL_BIG => {
                self.u8()?;
                let len = self.u8()?.into();
                self.big_integer(len)?.integer().ok()
            }
            _ => return Err(DecodeError::Misplaced { expected: "an integer", tag, at: self.at() }),
        };
        value
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| self.bad("an integer beyond 32 bits"))
    }

    /// `80 Size:32 zlib(Term)`. Inflates up to the size it claims and no further, in pieces, so that
    /// memory follows the bytes that really came out.
    fn compressed(&mut self) -> Result<Term, DecodeError> {
        let bad = |what| DecodeError::BadCompression { what };
        self.u8()?;
        let size = self.u32()? as usize;
        if size > MAX_MESSAGE {
            return Err(bad("claims more than 256 MiB"));
        }
        let mut inflated = Vec::with_capacity(size.min(16 << 10));
        let mut zlib = Decompress::new(true);
        loop {
            let (consumed, produced) = (zlib.total_in(), inflated.len());
            let status = zlib
                .decompress_vec(self.rest, &mut inflated, FlushDecompress::None)
                .map_err(|_| bad("isn't zlib's"))?;
            let read = usize::try_from(zlib.total_in() - consumed).unwrap_or(usize::MAX);
            self.take(read)?;
            if inflated.len() > size {
                return Err(bad("inflates to more than it claims"));
            }
            if status == Status::StreamEnd {
                break;
            }
            if inflated.len() < inflated.capacity() && read == 0 && inflated.len() == produced {
                return Err(DecodeError::Truncated);
            }
            if inflated.len() == inflated.capacity() {
                // One byte beyond the claim tells a stream that goes on from one that ends.
                let more = inflated.len().max(64).min(size + 1 - inflated.len());
                inflated.reserve_exact(more);
            }
        }
        if inflated.len() < size {
            return Err(bad("inflates to less than it claims"));
        }
        let mut inner = Reader::new(&inflated);
        let term = inner.term()?;
        if inner.is_empty() { Ok(term) } else { Err(bad("holds more than one term")) }
    }

    #[inline]
    fn push(&self, values: &mut Vec<Term>, term: Term) {
        if values.len() == values.capacity() {
            // Doubles, but never beyond one value for each byte left: memory stays below what the
            // whole message could need.
            let most = self.rest.len() + 1;
            values.reserve_exact(values.len().max(16).min(most));
        }
        values.push(term);
    }

    /// `count` elements of together at least `bytes` bytes, if that many are left.
    fn fits(&self, count: usize, bytes: usize) -> Result<usize, DecodeError> {
        match self.rest.len() {
            left if bytes > left => Err(DecodeError::TooMany { count, left, at: self.at() }),
            _ => Ok(count),
        }
    }

    pub(in crate::wire) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::wire) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(in crate::wire) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(in crate::wire) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::wire) fn bad(&self, what: &'static str) -> DecodeError {
        DecodeError::BadValue { what, at: self.at() }
    }

    /// `tag`, the last byte read, doesn't begin what is expected.
    fn misplaced(&self, expected: &'static str, tag: u8) -> DecodeError {
        DecodeError::Misplaced { expected, tag, at: self.at() - 1 }
    }
}

/// Most messages nest no deeper, and then the open terms around the present one need no memory.
const INLINE: usize = 8;

enum Step {
    Value(Term),
    Open(Frame),
}

struct Frame {
    kind: Kind,
    /// The height of the stack below its values.
    start: usize,
    /// Values still to come, at least 1 while it's open.
    waiting: usize,
}

enum Kind {
    Tuple,
    /// Elements of a list; the tail follows.
    List,
    /// A list whose tail, the last value, isn't a list.
    Tail,
    Map,
    Fun(Box<Fun>),
    Record(Box<RecordHead>),
}

struct RecordHead {
    flags: u8,
    module: Atom,
    name: Atom,
    fields: Vec<Atom>,
}

pub(super) fn integers(bytes: &[u8]) -> impl Iterator<Item = Term> {
    bytes.iter().map(|&byte| Term::Integer(byte.into()))
}

/// The text of `FLOAT_EXT`, `1.50000000000000000000e+00` and zeros behind it.
///
/// As on the BEAM there must be digits on both sides of a point; Rust alone would take `inf` too.
fn float_of_text(text: &[u8]) -> Option<Term> {
    let text = text.split(|&byte| byte == 0).next()?;
    let text = str::from_utf8(text).ok()?;
    let (whole, rest) = text.trim_start_matches(['+', '-']).split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = rest.split(['e', 'E']).next()?;
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    Term::float_of(text.parse().ok()?)
}

//! The way in for what is usual: the forms the BEAM writes without need for others, a few levels deep.
//!
//! Nearly every message is made of these. Here they're read by recursion to [`DEEPEST`] and no
//! further, small parts are made in the place where they stay, and no error is told: whatever isn't
//! well said is `None`, and then a [`Reader`] reads the whole again from its start and says what is
//! wrong with it. Single terms of a rare kind and what lies deeper are a `Reader`'s from the outset.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use super::decode::{Reader, integers};
use super::tag;
use crate::term::{Atom, Creation, List, Map, NodeName, Pid, Pieces, Term};
use crate::wire::atom_cache::AtomIn;
use crate::wire::recent;

/// As many terms may be around one that is read here.
const DEEPEST: usize = 8;

/// So many parts are made in the place where they stay, whose memory is taken before they're seen: half a
/// KiB a level.
const FEW: usize = 16;

/// A place in bytes of a peer.
pub(in crate::wire) struct Usual<'a> {
    rest: &'a [u8],
    /// The atoms listed at the start of the frame.
    atoms: &'a [AtomIn],
    stack: Stack,
}

impl<'a> Usual<'a> {
    pub(in crate::wire) fn new(bytes: &'a [u8], atoms: &'a [AtomIn]) -> Self {
        Self { rest: bytes, atoms, stack: Stack(Vec::new()) }
    }

    /// The bytes not yet read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a term, with so many around it, into its place, which holds `[]` until then. Whoever gave
    /// the term back would have it copied, level by level.
    pub(super) fn value(&mut self, place: &mut Term, depth: usize) -> Option<()> {
        let before = self.rest;
        let (tag, rest) = before.split_first()?;
        self.rest = rest;
        *place = match *tag {
            tag::SMALL_INTEGER => Term::Integer(self.u8()?.into()),
            tag::INTEGER => Term::Integer(i32::from_be_bytes(self.array()?).into()),
            tag::SMALL_ATOM_UTF8 => Term::Atom(self.atom()?),
            tag::ATOM_CACHE => Term::Atom(self.listed()?.atom.clone()),
            tag::NEW_PID => Term::Pid(self.pid_behind_tag()?),
            tag::NIL => return Some(()),
            tag::BINARY => {
                let len = self.u32()? as usize;
                Term::Binary(self.take(len)?.into())
            }
            tag::STRING => {
                let len = u16::from_be_bytes(self.array()?).into();
                Term::List(integers(self.take(len)?).collect())
            }
            tag::SMALL_TUPLE if depth < DEEPEST => {
                let count = self.u8()?.into();
                Term::Tuple(self.values(count, depth + 1)?)
            }
            tag::LIST if depth < DEEPEST => {
                let count = self.u32()? as usize;
                let elements = self.values(count, depth + 1)?;
                // Of another list or term as its tail, and if there are no elements at all, a reader
                // makes what it is.
                match self.rest.split_first()? {
                    (&tag::NIL, rest) if count > 0 => {
                        self.rest = rest;
                        Term::List(List::from(elements))
                    }
                    _ => self.unusual(before, depth)?,
                }
            }
            tag::MAP if depth < DEEPEST => Term::Map(self.pairs(depth + 1)?),
            _ => self.unusual(before, depth)?,
        };
        Some(())
    }

    /// So many values.
    fn values(&mut self, count: usize, depth: usize) -> Option<Arc<[Term]>> {
        if count == 0 {
            return Some(Arc::default());
        }
        if count > FEW {
            let start = self.stacked(count, depth)?;
            return Some(self.stack.0.drain(start..).collect());
        }
        let mut values: Arc<[Term]> = (0..count).map(|_| Term::NIL).collect();
        for place in Arc::get_mut(&mut values)? {
            self.value(place, depth)?;
        }
        Some(values)
    }

    fn pairs(&mut self, depth: usize) -> Option<Map> {
        let count = self.u32()? as usize;
        let start = self.stacked(count.checked_mul(2)?, depth)?;
        let mut pairs = Vec::with_capacity(count);
        let mut all = self.stack.0.drain(start..);
        while let (Some(key), Some(value)) = (all.next(), all.next()) {
            pairs.push((key, value));
        }
        Map::new(pairs).ok()
    }

    /// Reads so many values onto the stack; where they begin there.
    fn stacked(&mut self, count: usize, depth: usize) -> Option<usize> {
        if count > self.rest.len() {
            return None;
        }
        self.stack.claim();
        let start = self.stack.0.len();
        for _ in 0..count {
            let mut value = Term::NIL;
            self.value(&mut value, depth)?;
            self.stack.push(value, self.rest.len() + 1);
        }
        Some(start)
    }

    /// The term that begins at `bytes`, by whom can read it.
    #[inline(never)]
    fn unusual(&mut self, bytes: &'a [u8], depth: usize) -> Option<Term> {
        let mut reader = Reader::with_atoms(bytes, self.atoms);
        let term = reader.any_term(depth).ok()?;
        self.rest = reader.rest();
        Some(term)
    }

    #[inline]
    fn pid_behind_tag(&mut self) -> Option<Pid> {
        let node = self.node()?;
        let words: [u8; 12] = self.array()?;
        let ([id, serial, creation], _) = words.as_chunks() else { return None };
        let word = |bytes: &[u8; 4]| u32::from_be_bytes(*bytes);
        let (id, serial, creation) = (word(id), word(serial), Creation(word(creation)));
        Some(Pid { node, id, serial, creation })
    }

    #[inline]
    fn node(&mut self) -> Option<NodeName> {
        match self.u8()? {
            tag::SMALL_ATOM_UTF8 => {
                let len = self.u8()?.into();
                recent::node(self.take(len)?)
            }
            tag::ATOM_CACHE => {
                let listed = self.listed()?;
                listed.is_node.then(|| NodeName::of_name(listed.atom.clone()))
            }
            _ => None,
        }
    }

    /// `Len:8 Text`
    #[inline]
    fn atom(&mut self) -> Option<Atom> {
        let len = self.u8()?.into();
        recent::atom(self.take(len)?)
    }

    /// `Index:8`, a place in the frame's list.
    #[inline]
    fn listed(&mut self) -> Option<&'a AtomIn> {
        let index = usize::from(self.u8()?);
        self.atoms.get(index)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline]
    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

impl Pieces for Usual<'_> {
    #[inline]
    fn tuple(&mut self) -> Option<usize> {
        match self.array()? {
            [tag::SMALL_TUPLE, count] => Some(count.into()),
            _ => None,
        }
    }

    #[inline]
    fn word(&mut self, text: &str) -> Option<()> {
        let [tag, len] = self.array()?;
        match tag {
            tag::SMALL_ATOM_UTF8 if usize::from(len) == text.len() => {
                self.rest = self.rest.strip_prefix(text.as_bytes())?;
            }
            tag::ATOM_CACHE if self.atoms.get(usize::from(len))?.atom == *text => {}
            _ => return None,
        }
        Some(())
    }

    #[inline]
    fn pid(&mut self) -> Option<Pid> {
        if self.u8()? == tag::NEW_PID { self.pid_behind_tag() } else { None }
    }

    #[inline]
    fn list(&mut self) -> Option<usize> {
        match self.u8()? {
            tag::NIL => Some(0),
            tag::LIST => {
                let count = self.u32()? as usize;
                (0 < count && count < self.rest.len()).then_some(count)
            }
            _ => None,
        }
    }

    #[inline]
    fn end(&mut self) -> Option<()> {
        (self.u8()? == tag::NIL).then_some(())
    }

    fn map(&mut self) -> Option<usize> {
        if self.u8()? != tag::MAP {
            return None;
        }
        let count = self.u32()? as usize;
        (count <= self.rest.len() / 2).then_some(count)
    }

    fn term(&mut self) -> Option<Term> {
        let mut term = Term::NIL;
        self.value(&mut term, 0)?;
        Some(term)
    }
}

/// Values that wait for others, in memory of the thread's for the time it takes.
struct Stack(Vec<Term>);

impl Stack {
    /// Most values whose memory is kept for the next term: 32 KiB.
    const KEPT: usize = 1024;

    /// Takes the thread's, once.
    fn claim(&mut self) {
        if self.0.capacity() == 0 {
            self.0 = STACK.try_with(Cell::take).unwrap_or_default();
        }
    }

    /// `most`: as many values can still come. So there's never more memory than the whole message could need.
    fn push(&mut self, value: Term, most: usize) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.0.len().max(16).min(most));
        }
        self.0.push(value);
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if (1..=Self::KEPT).contains(&self.0.capacity()) {
            self.0.clear();
            let values = mem::take(&mut self.0);
            let _ = STACK.try_with(|kept| kept.set(values));
        }
    }
}

thread_local! {
    static STACK: Cell<Vec<Term>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::any_term;

    /// What is read here is what a reader reads, to the same byte; else a reader finds a mistake, too.
    fn agree(bytes: &[u8]) {
        let (mut usual, mut term) = (Usual::new(bytes, &[]), Term::NIL);
        let ours = usual.value(&mut term, 0).map(|()| (term, usual.rest()));
        let mut reader = Reader::new(bytes);
        let theirs = reader.any_term(0).ok().map(|term| (term, reader.rest()));
        assert_eq!(ours, theirs);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn both_ways_of_reading_agree_on_a_term_and_on_one_with_a_byte_changed(
            term in any_term(), deeper in 0..20_usize, place in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = Vec::new();
            super::super::encode(&term, &mut bytes).unwrap();
            bytes.splice(..1, [[tag::SMALL_TUPLE, 1].repeat(deeper)].concat());
            agree(&bytes);
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
                agree(&bytes);
                agree(&bytes[..place]);
            }
        }

        #[test]
        fn they_agree_on_random_tags(
            bytes in proptest::collection::vec(
                prop_oneof![2 => 67..121_u8, 2 => 0..4_u8, 1 => any::<u8>()], 0..300,
            ),
        ) {
            agree(&bytes);
        }
    }

    #[test]
    fn they_agree_on_how_deep_a_term_may_be() {
        for deep in 250..260 {
            agree(&[[tag::SMALL_TUPLE, 1].repeat(deep), vec![tag::NIL]].concat());
            agree(&[[tag::LIST, 0, 0, 0, 1].repeat(deep), vec![tag::NIL; deep + 1]].concat());
        }
    }
}

//! Values by the names of groups, as a list in pieces and an index of where in it each name is.
//!
//! The index is small enough to stay in caches that hold no more than a fraction of the values; a new value
//! goes where the last one went, and growing moves none. So a million new ones touch each page of memory
//! once, where those of a hash table would be all over it, and in another place each time it doubles.

use std::hint::black_box;

use super::hash::{Hash32, Places, is_too_large};
use super::name::Name;
use crate::term::Term;

/// Values in a piece: of usual ones a page of memory or less.
const PIECE: usize = 64;

/// Values by name, in no order: the last one takes the place of one that goes.
///
/// One costs its own bytes, 40 for the name, 10 to 20 in the index.
#[derive(Clone, Debug)]
pub(in crate::pg) struct ByName<V> {
    /// All full but the last, none empty.
    pieces: Vec<Vec<(Name, V)>>,
    /// Where each name is, counted through all pieces.
    places: Places,
}

impl<V> ByName<V> {
    /// With memory for so many in the index.
    pub(in crate::pg) fn with_capacity(capacity: usize) -> Self {
        let pieces = Vec::with_capacity(capacity.div_ceil(PIECE));
        Self { pieces, places: Places::with_capacity(capacity) }
    }

    /// The place of a name with this hash, until something is removed.
    pub(super) fn find(&self, hash: u64, name: &Term) -> Option<usize> {
        self.places.find(Hash32::half_of(hash), |place| self.entry(place).0.is(hash, name))
    }

    /// The place of a name, until something is removed.
    pub(in crate::pg) fn find_name(&self, name: &Name) -> Option<usize> {
        self.find(name.hash(), name.term())
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &Term) -> Option<&V> {
        if self.is_empty() {
            return None;
        }
        Some(self.at(self.find(Name::hash_of(name), name)?))
    }

    /// Reads where the index has a name with this hash, see [`Places::touch`].
    pub(super) fn touch_place(&self, hash: u64) {
        self.places.touch(Hash32::half_of(hash));
    }

    /// Reads what there is of a name with this hash, and gives its value.
    pub(super) fn touch(&self, hash: u64) -> Option<&V> {
        let place = self.places.find(Hash32::half_of(hash), |_| true)?;
        let (name, value) = self.entry(place);
        black_box(name.hash());
        Some(value)
    }

    pub(super) fn at(&self, place: usize) -> &V {
        &self.entry(place).1
    }

    pub(in crate::pg) fn at_mut(&mut self, place: usize) -> &mut V {
        &mut self.entry_mut(place).1
    }

    /// Adds a name that isn't there.
    pub(in crate::pg) fn add(&mut self, name: Name, value: V) {
        self.places.insert(Hash32::half_of(name.hash()), self.len());
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push((name, value)),
            // A single value is all that most maps of a process ever have.
            None => self.pieces.push(vec![(name, value)]),
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push((name, value));
                self.pieces.push(piece);
            }
        }
    }

    pub(in crate::pg) fn remove(&mut self, place: usize) {
        let pieces = &mut self.pieces;
        let Some(mut gone) = pieces.last_mut().and_then(Vec::pop) else { return };
        if pieces.last().is_some_and(Vec::is_empty) {
            pieces.pop();
        }
        let end = self.len();
        let moved = Hash32::half_of(gone.0.hash());
        if place < end {
            std::mem::swap(&mut gone, self.entry_mut(place));
        }
        let Self { pieces, places } = self;
        places.remove(Hash32::half_of(gone.0.hash()), place);
        if place < end {
            places.moved(moved, end, place);
        }
        if is_too_large(places.capacity(), end) {
            places.shrink_to(end);
            pieces.shrink_to(pieces.len());
        }
    }

    /// Makes room for so many more in the index.
    pub(super) fn reserve(&mut self, more: usize) {
        self.places.reserve(more);
    }

    pub(in crate::pg) fn len(&self) -> usize {
        match &self.pieces[..] {
            [] => 0,
            [full @ .., last] => full.len() * PIECE + last.len(),
        }
    }

    pub(in crate::pg) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// All of them. Order says nothing, but the same history gives the same.
    pub(in crate::pg) fn iter(&self) -> impl Iterator<Item = (&Name, &V)> {
        self.pieces.iter().flatten().map(|(name, value)| (name, value))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.places.capacity()
    }

    fn entry(&self, place: usize) -> &(Name, V) {
        &self.pieces[place / PIECE][place % PIECE]
    }

    fn entry_mut(&mut self, place: usize) -> &mut (Name, V) {
        &mut self.pieces[place / PIECE][place % PIECE]
    }
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self { pieces: Vec::new(), places: Places::default() }
    }
}

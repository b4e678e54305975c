//! Hashes for names of groups and for pids, and where in a list something with a hash is.
//!
//! Both are a peer's choice. With a known hash, a peer makes 100,000 groups whose names all collide,
//! and one message of it costs minutes. So there's a secret in the hash: 64 bits from the operating
//! system, drawn when the process makes its first hash. What a peer would need to find the secret out
//! doesn't leave the process: no hash, and nothing in the order of a hash table.
//!
//! The hash is `foldhash` in its quality form: a small part of the standard library's `SipHash` in
//! cost. It isn't made to withstand somebody who sees hashes; nobody does.

use std::hash::{BuildHasher, Hash};
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};
use hashbrown::HashTable;

/// The hash with this process's secret in it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pg) struct Secret;

impl BuildHasher for Secret {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        static SEED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(rand::random()));
        static STATE: LazyLock<SeedableRandomState> =
            LazyLock::new(|| SeedableRandomState::with_seed(rand::random(), &SEED));
        STATE.build_hasher()
    }
}

/// Half a hash: what [`Places`] remembers of an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hash32(u32);

impl Hash32 {
    pub(super) fn of(item: &impl Hash) -> Self {
        Self::half_of(Secret.hash_one(item))
    }

    /// The high half of a hash.
    pub(super) fn half_of(hash: u64) -> Self {
        Self((hash >> 32) as u32)
    }

    /// As the table wants it: it takes the place from the low bits and a mark from the high ones.
    fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// Where in a list its items are, found by their hashes: 9 bytes for each item at a load of a half
/// to seven eighths. The table grows without a look at the items.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(HashTable<Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    hash: Hash32,
    at: u32,
}

impl Places {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(HashTable::with_capacity(capacity))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The place for which `is_it` holds, of those with this hash.
    pub(super) fn find(&self, hash: Hash32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let place =
            self.0.find(hash.spread(), |place| place.hash == hash && is_it(place.at as usize))?;
        Some(place.at as usize)
    }

    /// An item with this hash is now at this place, which no other has.
    pub(super) fn insert(&mut self, hash: Hash32, at: usize) {
        // A list of 2^32 items doesn't fit in memory beside what they hold.
        let place = Place { hash, at: at as u32 };
        self.0.insert_unique(hash.spread(), place, |place| place.hash.spread());
    }

    /// The item at this place is gone.
    pub(super) fn remove(&mut self, hash: Hash32, at: usize) {
        if let Ok(entry) = self.0.find_entry(hash.spread(), |place| place.at as usize == at) {
            entry.remove();
        }
    }

    /// The item at one place is now at another.
    pub(super) fn moved(&mut self, hash: Hash32, from: usize, to: usize) {
        if let Some(place) = self.0.find_mut(hash.spread(), |place| place.at as usize == from) {
            place.at = to as u32;
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.0.reserve(more, |place| place.hash.spread());
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        self.0.shrink_to(capacity, |place| place.hash.spread());
    }
}

/// Whether a list that has become so short should give memory back: a quarter of what it holds. Then
/// half of it stays, so that the next time is as far away as this one was.
pub(super) fn is_too_large(capacity: usize, len: usize) -> bool {
    capacity > 64 && len < capacity / 4
}

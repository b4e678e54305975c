//! A map from names of groups that one writes and all read, whatever thread they are on.
//!
//! It's in [`SHARDS`] parts, each behind a lock of its own, which is held for as long as it takes to
//! find a group or to put one: so a reader meets the writer once in sixty-four times, and then for less than a
//! microsecond, and each part grows by itself.
//!
//! Nothing is left for later: a group that is gone has left no trace. (A table without locks keeps what was
//! removed until no reader can see it any more; under steady change that was, now and then, for ever.)

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::by_name::ByName;
use super::name::Name;
use crate::term::Term;

/// A power of two.
const SHARDS: usize = 64;

#[derive(Debug)]
pub(super) struct Table<V>(Box<[Shard<V>]>);

/// On a cache line of its own: who reads one shard doesn't slow down who reads the next.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<V>(RwLock<ByName<V>>);

/// What becomes of a value.
pub(super) enum Now<V> {
    /// It stays, or has changed in place.
    Same,
    Other(V),
    Gone,
}

impl<V> Table<V> {
    /// Reads the value of a name while nobody changes it. `read` is short: others wait for it.
    pub(super) fn read<R>(&self, name: &Term, read: impl FnOnce(&V) -> R) -> Option<R> {
        let hash = Name::hash_of(name);
        let part = self.shard(hash).read();
        let place = part.find(hash, name)?;
        Some(read(part.at(place)))
    }

    /// Gives each name with its value, part by part, in no order.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Term, &V)) {
        for shard in &self.0 {
            shard.read().iter().for_each(|(name, value)| each(name.term(), value));
        }
    }

    /// Reads what changes of names with these hashes will, for all at once; `value` does it for a value.
    pub(super) fn touch(&self, hashes: &[u64], value: impl Fn(&V)) {
        // A lock waits for all reads before it, so none is taken in between.
        let mut parts = [const { None }; SHARDS];
        for hash in hashes {
            let part = &mut parts[*hash as usize % SHARDS];
            part.get_or_insert_with(|| self.shard(*hash).read());
        }
        let part = |hash: &u64| parts[*hash as usize % SHARDS].as_ref();
        for hash in hashes {
            part(hash).inspect(|part| part.touch_place(*hash));
        }
        for hash in hashes {
            part(hash).and_then(|part| part.touch(*hash)).inspect(|found| value(found));
        }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.read().len()).sum()
    }

    /// Changes the value of a name; `new` makes one where there's none.
    pub(super) fn change(
        &self,
        name: &Term,
        new: impl FnOnce() -> Option<V>,
        change: impl FnOnce(&mut V) -> Now<V>,
    ) {
        let hash = Name::hash_of(name);
        let mut part = self.shard(hash).write();
        let Some(place) = part.find(hash, name) else {
            if let Some(value) = new() {
                part.add(Name::with_hash(hash, name.clone()), value);
            }
            return;
        };
        let value = part.at_mut(place);
        match change(value) {
            Now::Same => {}
            Now::Other(other) => *value = other,
            Now::Gone => part.remove(place),
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&self, more: usize) {
        // Some parts get more than their share.
        let each = more / SHARDS + more / SHARDS / 8;
        for shard in &self.0 {
            shard.write().reserve(each);
        }
    }

    pub(super) fn clear(&self) {
        for shard in &self.0 {
            *shard.write() = ByName::default();
        }
    }

    /// How many names there is room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.iter().map(|shard| shard.read().capacity()).sum()
    }

    /// The index takes its part of the hash from the high bits.
    fn shard(&self, hash: u64) -> &Shard<V> {
        &self.0[hash as usize % SHARDS]
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Shard(RwLock::default())).collect())
    }
}

impl<V> Shard<V> {
    fn read(&self) -> RwLockReadGuard<'_, ByName<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByName<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

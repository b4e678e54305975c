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
use std::hint::black_box;
use std::sync::LazyLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

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
}

/// Where in a list its items are, found by their hashes.
///
/// All are in the order of their hashes, each at the place its hash points to or as near behind it as there is
/// room. So what is looked for lies, or is missed, in one or two lines of a cache, and a table that grows is written
/// from its start to its end without a look at the items. 8 bytes for a place, 10 to 20 for an item.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// As many as hashes are spread over, and behind them those for which there was no room before.
    slots: Vec<Slot>,
    /// How many places hashes are spread over.
    spread: u32,
    len: usize,
}

/// An item's hash and its place in the list, or [`FREE`](Self::FREE).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Slot {
    hash: u32,
    at: u32,
}

impl Slot {
    /// A list of 2^32 items doesn't fit in memory beside what they hold, so none is in the last place.
    const FREE: Self = Self { hash: 0, at: u32::MAX };

    fn is_free(self) -> bool {
        self.at == Self::FREE.at
    }
}

impl Places {
    /// Of so many slots one is left free.
    const SPARE: usize = 5;
    /// Fewest slots there are, if there are any.
    const LEAST: usize = 5;

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut places = Self::default();
        places.resize(capacity);
        places
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.spread as usize - self.spread as usize / Self::SPARE
    }

    /// The place for which `is_it` holds, of those with this hash.
    #[inline]
    pub(super) fn find(&self, hash: Hash32, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        for slot in self.slots.get(self.home(hash.0)..)? {
            if slot.is_free() || slot.hash > hash.0 {
                return None;
            }
            if slot.hash == hash.0 && is_it(slot.at as usize) {
                return Some(slot.at as usize);
            }
        }
        None
    }

    /// Reads where the items with this hash begin, and nothing else: whoever looks for several has read the
    /// first place of each while the first of them all is still on its way from memory.
    #[inline]
    pub(super) fn touch(&self, hash: Hash32) {
        if let Some(slot) = self.slots.get(self.home(hash.0)) {
            black_box(slot.at);
        }
    }

    /// An item with this hash is now at this place, which no other has.
    pub(super) fn insert(&mut self, hash: Hash32, at: usize) {
        if self.len >= self.capacity() {
            self.resize((2 * self.len).max(Self::LEAST));
        }
        let mut new = Slot { hash: hash.0, at: at as u32 };
        let home = self.home(hash.0);
        self.len += 1;
        // From where it belongs on each one makes room for the one before.
        for slot in self.slots.iter_mut().skip(home) {
            if slot.is_free() {
                *slot = new;
                return;
            }
            if slot.hash > new.hash {
                std::mem::swap(slot, &mut new);
            }
        }
        self.slots.push(new);
    }

    /// The item at this place is gone.
    pub(super) fn remove(&mut self, hash: Hash32, at: usize) {
        let Some(mut free) = self.slot(hash, at) else { return };
        self.len -= 1;
        // Those behind it that are farther from home than they need be go one back.
        while let Some(next) = self.slots.get(free + 1).copied()
            && !next.is_free()
            && self.home(next.hash) <= free
        {
            self.slots[free] = next;
            free += 1;
        }
        self.slots[free] = Slot::FREE;
    }

    /// The item at one place is now at another.
    pub(super) fn moved(&mut self, hash: Hash32, from: usize, to: usize) {
        if let Some(slot) = self.slot(hash, from) {
            self.slots[slot].at = to as u32;
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        if self.len + more > self.capacity() {
            self.resize(self.len + more);
        }
    }

    pub(super) fn shrink_to(&mut self, capacity: usize) {
        if capacity.max(self.len) < self.capacity() {
            self.resize(capacity.max(self.len));
        }
    }

    /// Makes it as large as so many items need.
    fn resize(&mut self, capacity: usize) {
        let spread = match capacity {
            0 => 0,
            some => (some + some / (Self::SPARE - 1) + 1).max(Self::LEAST),
        };
        let mut places = Self {
            slots: Vec::with_capacity(spread + spread / 64 + Self::LEAST),
            spread: spread as u32,
            len: self.len,
        };
        for slot in self.slots.drain(..).filter(|slot| !slot.is_free()) {
            let home = places.home(slot.hash);
            if places.slots.len() < home {
                places.slots.resize(home, Slot::FREE);
            }
            places.slots.push(slot);
        }
        if places.slots.len() < spread {
            places.slots.resize(spread, Slot::FREE);
        }
        *self = places;
    }

    /// Which slot holds this item.
    fn slot(&self, hash: Hash32, at: usize) -> Option<usize> {
        let home = self.home(hash.0);
        let behind = self.slots.get(home..)?.iter().take_while(|slot| !slot.is_free());
        let is_it = |slot: &Slot| slot.at as usize == at;
        behind.take_while(|slot| slot.hash <= hash.0).position(is_it).map(|place| home + place)
    }

    /// The slot a hash points to. A higher hash doesn't point before a lower one.
    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * u64::from(self.spread)) >> 32) as usize
    }
}

/// Whether a list that has become so short should give memory back: a quarter of what it holds. Then
/// half of it stays, so that the next time is as far away as this one was.
pub(super) fn is_too_large(capacity: usize, len: usize) -> bool {
    capacity > 64 && len < capacity / 4
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32),
        Remove(prop::sample::Index),
        Reserve(usize),
        Shrink,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        // Few, many and the outermost ones, so that some are equal, some neighbours, and some have no room before
        // the end.
        let hash = prop_oneof![
            0..4_u32,
            u32::MAX - 3..=u32::MAX,
            any::<u32>(),
            (0..16_u32).prop_map(|high| high << 28),
        ];
        prop_oneof![
            8 => hash.prop_map(Step::Insert),
            5 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => (0..100_usize).prop_map(Step::Reserve),
            1 => Just(Step::Shrink),
        ]
    }

    proptest! {
        #[test]
        fn what_is_inserted_is_found_until_it_is_removed(
            steps in proptest::collection::vec(any_step(), 0..300),
        ) {
            let (mut places, mut model) = (Places::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(hash) => {
                        let at = model.len();
                        places.insert(Hash32(hash), at);
                        model.insert(at, hash);
                    }
                    // As a list does it: the last one takes the place of the one that goes.
                    Step::Remove(index) if !model.is_empty() => {
                        let (place, end) = (index.index(model.len()), model.len() - 1);
                        places.remove(Hash32(model[&place]), place);
                        let last = model.remove(&end).unwrap();
                        if place < end {
                            places.moved(Hash32(last), end, place);
                            model.insert(place, last);
                        }
                    }
                    Step::Remove(_) => {}
                    Step::Reserve(more) => {
                        places.reserve(more);
                        prop_assert!(places.capacity() >= model.len() + more);
                    }
                    Step::Shrink => places.shrink_to(0),
                }
                prop_assert_eq!(places.len, model.len());
                prop_assert!(places.slots.len() <= places.spread as usize + places.capacity());
                for (at, hash) in &model {
                    prop_assert_eq!(places.find(Hash32(*hash), |place| place == *at), Some(*at));
                    prop_assert_eq!(places.find(Hash32(*hash), |place| place == model.len()), None);
                    prop_assert_eq!(places.find(Hash32(hash ^ 0x40), |place| place == *at), None);
                }
            }
        }
    }

    #[test]
    fn a_table_grows_by_doubling_and_is_never_fuller_than_four_fifths() {
        let mut places = Places::default();
        for at in 0..10_000 {
            let hash = Hash32::of(&at);
            places.insert(hash, at);
            let slots = places.spread as usize;
            assert!(5 * places.len <= 4 * slots + 4 && slots <= 3 * places.len + Places::LEAST);
        }
    }
}

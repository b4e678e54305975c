//! Who is in which group: bags of pids, one node's groups, and the view of all nodes that readers
//! share.
//!
//! A process that joined a group twice is in it twice, and leaves it as often. A group without
//! members isn't there.
//!
//! A change costs what it changes, however many members the group has; the list that readers get is
//! made when the first of them asks after a change, and shared by all who ask before the next.
//!
//! The maps are the standard ones, slower than others but hashed with a secret: their keys are a
//! peer's choice, and with a known hash 100,000 groups of one message could all be made to collide.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::FxHasher;

use crate::term::{Pid, Term};

/// Up to so many different pids a bag is searched from its start; above, it keeps an index.
const SEARCHED: usize = 16;

/// Pids, each as often as it was added. Order says nothing, but the same history gives the same.
#[derive(Clone, Debug, Default)]
pub struct Bag {
    pids: Vec<(Pid, usize)>,
    /// Where in `pids` each one is; empty while there are few.
    places: HashMap<Pid, usize>,
    len: usize,
}

impl Bag {
    /// Adds a pid once more.
    pub fn add(&mut self, pid: Pid) {
        self.len += 1;
        if let Some(place) = self.place(&pid) {
            self.pids[place].1 += 1;
            return;
        }
        self.pids.push((pid, 1));
        if !self.places.is_empty() {
            self.index(self.pids.len() - 1);
        } else if self.pids.len() > SEARCHED {
            (0..self.pids.len()).for_each(|place| self.index(place));
        }
    }

    /// Removes a pid once; false if it isn't there.
    pub fn remove(&mut self, pid: &Pid) -> bool {
        let Some(place) = self.place(pid) else { return false };
        self.len -= 1;
        self.pids[place].1 -= 1;
        if self.pids[place].1 == 0 {
            self.pids.swap_remove(place);
            self.places.remove(pid);
            if !self.places.is_empty() && place < self.pids.len() {
                self.index(place);
            }
        }
        true
    }

    /// How often a pid is in it.
    pub fn count(&self, pid: &Pid) -> usize {
        self.place(pid).map_or(0, |place| self.pids[place].1)
    }

    /// How many pids, repetitions counted.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there's none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All pids, each as often as it's in it.
    pub fn iter(&self) -> impl Iterator<Item = &Pid> {
        self.pids.iter().flat_map(|(pid, count)| std::iter::repeat_n(pid, *count))
    }

    /// What must be added to `self` to hold all of `other`.
    pub(super) fn missing_from(&self, other: &Self) -> Vec<Pid> {
        let missing = |(pid, count): &(Pid, usize)| {
            std::iter::repeat_n(pid.clone(), count.saturating_sub(self.count(pid)))
        };
        other.pids.iter().flat_map(missing).collect()
    }

    fn place(&self, pid: &Pid) -> Option<usize> {
        if self.places.is_empty() {
            self.pids.iter().position(|(known, _)| known == pid)
        } else {
            self.places.get(pid).copied()
        }
    }

    fn index(&mut self, place: usize) {
        self.places.insert(self.pids[place].0.clone(), place);
    }
}

/// Bags are equal that hold the same pids equally often, in whatever order.
impl PartialEq for Bag {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self.pids.len() == other.pids.len()
            && self.pids.iter().all(|(pid, count)| other.count(pid) == *count)
    }
}

impl FromIterator<Pid> for Bag {
    fn from_iter<I: IntoIterator<Item = Pid>>(pids: I) -> Self {
        let mut bag = Self::default();
        pids.into_iter().for_each(|pid| bag.add(pid));
        bag
    }
}

/// The groups of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups(HashMap<Term, Bag>);

impl Groups {
    /// Adds a member.
    pub fn add(&mut self, group: &Term, pid: Pid) {
        match self.0.get_mut(group) {
            Some(bag) => bag.add(pid),
            None => self.0.entry(group.clone()).or_default().add(pid),
        }
    }

    /// Removes a member once; false if it isn't in the group.
    pub fn remove(&mut self, group: &Term, pid: &Pid) -> bool {
        let Some(bag) = self.0.get_mut(group) else { return false };
        let removed = bag.remove(pid);
        if bag.is_empty() {
            self.0.remove(group);
        }
        removed
    }

    /// The members of a group; `None` without any.
    pub fn get(&self, group: &Term) -> Option<&Bag> {
        self.0.get(group)
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there's none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All groups, in term order.
    pub fn sorted(&self) -> Vec<(&Term, &Bag)> {
        let mut groups: Vec<_> = self.0.iter().collect();
        groups.sort_by_key(|(group, _)| *group);
        groups
    }
}

/// What readers see of a scope: a handle to the view, cheap to clone.
///
/// A read crosses no task and waits for none; it may wait for the few nanoseconds in which a change
/// to a neighbouring group is made.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<[Shard; SHARDS]>);

/// Groups are spread over so many locks, so that readers and the writer seldom meet.
const SHARDS: usize = 16;

/// Guards the groups in it; no other lock is taken while it's held.
type Shard = RwLock<HashMap<Term, Group>>;

#[derive(Debug, Default)]
struct Group {
    all: Listed,
    local: Listed,
}

/// A bag and, once somebody asked, the list made of it.
#[derive(Debug, Default)]
struct Listed {
    bag: Bag,
    list: OnceLock<Arc<[Pid]>>,
}

impl Listed {
    fn list(&self) -> Arc<[Pid]> {
        self.list.get_or_init(|| self.bag.iter().cloned().collect()).clone()
    }

    fn change(&mut self) -> &mut Bag {
        self.list.take();
        &mut self.bag
    }
}

/// Whose members a change concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Local,
    Remote,
}

impl Members {
    /// All members of a group, each as often as it joined, in no order. As `pg:get_members/2`.
    pub fn get_members(&self, group: &Term) -> Arc<[Pid]> {
        self.read(group).get(group).map(|group| group.all.list()).unwrap_or_default()
    }

    /// The members on this node. As `pg:get_local_members/2`.
    pub fn get_local_members(&self, group: &Term) -> Arc<[Pid]> {
        self.read(group).get(group).map(|group| group.local.list()).unwrap_or_default()
    }

    /// How often a process of this node is in a group.
    pub fn local_count(&self, group: &Term, pid: &Pid) -> usize {
        self.read(group).get(group).map_or(0, |group| group.local.bag.count(pid))
    }

    /// All groups that have members, in term order. As `pg:which_groups/1`.
    ///
    /// While the scope changes, groups may be missing or listed that come or go meanwhile.
    pub fn which_groups(&self) -> Vec<Term> {
        self.groups_where(|_| true)
    }

    /// The groups that have members on this node. As `pg:which_local_groups/1`.
    pub fn which_local_groups(&self) -> Vec<Term> {
        self.groups_where(|group| !group.local.bag.is_empty())
    }

    /// All groups with all members, in term order.
    pub fn all(&self) -> Vec<(Term, Arc<[Pid]>)> {
        let mut all = Vec::new();
        for shard in self.0.iter() {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().map(|(name, group)| (name.clone(), group.all.list())));
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Members leave and join; whoever leaves is there.
    pub(super) fn change(&self, origin: Origin, name: &Term, add: &[Pid], remove: &[Pid]) {
        let mut groups = self.write(name);
        if !groups.contains_key(name) {
            groups.insert(name.clone(), Group::default());
        }
        let Some(group) = groups.get_mut(name) else { return };
        let change = |bag: &mut Bag| {
            for pid in remove {
                bag.remove(pid);
            }
            for pid in add {
                bag.add(pid.clone());
            }
        };
        change(group.all.change());
        if origin == Origin::Local {
            change(group.local.change());
        }
        if group.all.bag.is_empty() {
            groups.remove(name);
        }
    }

    pub(super) fn clear(&self) {
        for shard in self.0.iter() {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn groups_where(&self, wanted: impl Fn(&Group) -> bool) -> Vec<Term> {
        let mut names = Vec::new();
        for shard in self.0.iter() {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            names.extend(shard.iter().filter(|(_, g)| wanted(g)).map(|(name, _)| name.clone()));
        }
        names.sort();
        names
    }

    fn read(&self, group: &Term) -> RwLockReadGuard<'_, HashMap<Term, Group>> {
        self.shard(group).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, group: &Term) -> RwLockWriteGuard<'_, HashMap<Term, Group>> {
        self.shard(group).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, group: &Term) -> &Shard {
        let mut hasher = FxHasher::default();
        group.hash(&mut hasher);
        // Colliding names only share a lock. Bits from the middle: the maps inside use the low and
        // the highest ones.
        &self.0[(hasher.finish() >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atom;
    use crate::term::{Creation, NodeName};

    fn pid(id: u32) -> Pid {
        Pid { node: NodeName::new("a@h").unwrap(), id, serial: 0, creation: Creation(4) }
    }

    #[test]
    fn a_bag_removes_as_often_as_it_added_small_or_large() {
        for size in [1, SEARCHED as u32, SEARCHED as u32 + 1, 100] {
            let mut bag: Bag = (0..size).chain(0..size).map(pid).collect();
            assert_eq!(bag.len(), 2 * size as usize);
            for id in (0..size).chain((0..size).rev()) {
                assert!(bag.remove(&pid(id)));
            }
            assert!(bag.is_empty());
            assert!(!bag.remove(&pid(0)));
        }
    }

    #[test]
    fn bags_are_equal_in_any_order() {
        let up: Bag = (0..40).map(pid).collect();
        let down: Bag = (0..40).rev().map(pid).collect();
        assert_eq!(up, down);
        assert_ne!(up, (1..41).map(pid).collect());
    }

    #[test]
    fn names_made_to_collide_cost_no_more_than_others() {
        /// What `FxHasher` multiplies by; `a * FACTOR * FACTOR + b` is all it keeps of a pair.
        const FACTOR: i64 = 0xf135_7aea_2e62_a9c5_u64.cast_signed();
        let name =
            |a: i64| crate::tuple![a, a.wrapping_mul(FACTOR).wrapping_mul(FACTOR).wrapping_neg()];
        let hash = |term: &Term| {
            let mut hasher = FxHasher::default();
            term.hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&name(1)), hash(&name(2)), "the attack needs another formula");

        let (start, mut groups) = (std::time::Instant::now(), Groups::default());
        (0..100_000).for_each(|a| groups.add(&name(a), pid(1)));
        assert_eq!(groups.len(), 100_000);
        // With a known hash it was five minutes.
        assert!(start.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn a_reader_sees_each_change_and_shares_the_list_between_them() {
        let members = Members::default();
        let group = Term::from(atom!("g"));
        members.change(Origin::Local, &group, &[pid(1)], &[]);
        members.change(Origin::Remote, &group, &[pid(2)], &[]);
        let first = members.get_members(&group);
        assert_eq!(*first, [pid(1), pid(2)]);
        assert!(Arc::ptr_eq(&first, &members.get_members(&group)));
        assert_eq!(*members.get_local_members(&group), [pid(1)]);

        members.change(Origin::Local, &group, &[], &[pid(1)]);
        assert_eq!(*members.get_members(&group), [pid(2)]);
        assert!(members.which_local_groups().is_empty());

        members.change(Origin::Remote, &group, &[], &[pid(2)]);
        assert!(members.which_groups().is_empty());
    }
}

//! One node's groups with their members, in the order in which they came to be.

use std::sync::Arc;

use super::bag::Bag;
use super::hash::{Hash32, Places, is_too_large};
use crate::term::{Pid, Term};

/// The groups of one node.
///
/// A group costs 48 bytes in a list, 10 to 20 in its index, and what name and members take.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// No bag is empty.
    groups: Vec<(Term, Bag)>,
    /// Where in `groups` each name is.
    places: Places,
}

impl Groups {
    /// No groups, with memory for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { groups: Vec::with_capacity(capacity), places: Places::with_capacity(capacity) }
    }

    /// Adds a member.
    pub fn add(&mut self, group: &Term, pid: Pid) {
        let hash = Hash32::of(group);
        match self.find(group, hash) {
            Some(place) => self.groups[place].1.add(pid),
            None => self.push(group.clone(), hash, Arc::from([pid])),
        }
    }

    /// A new group, with at least one member; false if there's such a group, and then it stays as it is.
    pub(in crate::pg) fn insert(&mut self, group: Term, pids: Arc<[Pid]>) -> bool {
        let hash = Hash32::of(&group);
        let is_new = self.find(&group, hash).is_none();
        if is_new {
            self.push(group, hash, pids);
        }
        is_new
    }

    /// Adds members. A new group shares the list.
    pub fn add_list(&mut self, group: &Term, pids: &Arc<[Pid]>) {
        if pids.is_empty() {
            return;
        }
        let hash = Hash32::of(group);
        match self.find(group, hash) {
            Some(place) => {
                let bag = &mut self.groups[place].1;
                pids.iter().for_each(|pid| bag.add(pid.clone()));
            }
            None => self.push(group.clone(), hash, pids.clone()),
        }
    }

    /// Removes a member once; false if it isn't in the group.
    pub fn remove(&mut self, group: &Term, pid: &Pid) -> bool {
        let hash = Hash32::of(group);
        let Some(place) = self.find(group, hash) else { return false };
        let bag = &mut self.groups[place].1;
        let removed = bag.remove(pid);
        if bag.is_empty() {
            self.groups.swap_remove(place);
            self.places.remove(hash, place);
            if let Some((moved, _)) = self.groups.get(place) {
                self.places.moved(Hash32::of(moved), self.groups.len(), place);
            }
            if is_too_large(self.groups.capacity(), self.groups.len()) {
                self.groups.shrink_to(self.groups.capacity() / 2);
                self.places.shrink_to(self.groups.len());
            }
        }
        removed
    }

    /// The members of a group; `None` without any.
    pub fn get(&self, group: &Term) -> Option<&Bag> {
        if self.groups.is_empty() {
            return None;
        }
        Some(&self.groups[self.find(group, Hash32::of(group))?].1)
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there's none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// All groups. Order says nothing, but the same history gives the same.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Term, &Bag)> {
        self.groups.iter().map(|(group, bag)| (group, bag))
    }

    /// All groups, in term order.
    pub fn sorted(&self) -> Vec<(&Term, &Bag)> {
        let mut groups: Vec<_> = self.iter().collect();
        groups.sort_by_key(|(group, _)| *group);
        groups
    }

    fn find(&self, group: &Term, hash: Hash32) -> Option<usize> {
        self.places.find(hash, |place| self.groups[place].0 == *group)
    }

    fn push(&mut self, group: Term, hash: Hash32, pids: Arc<[Pid]>) {
        self.places.insert(hash, self.groups.len());
        self.groups.push((group, pids.into()));
    }
}

/// Equal are groups with the same members, in whatever order they came to be.
impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(group, bag)| other.get(group).is_some_and(|its| its == bag))
    }
}

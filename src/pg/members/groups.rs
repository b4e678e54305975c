//! One node's groups with their members, in the order in which they came to be.

use std::sync::Arc;

use super::bag::Bag;
use super::by_name::ByName;
use super::name::Name;
use crate::term::{Pid, Term};

/// The groups of one node.
///
/// A group costs 56 bytes in a list, 10 to 20 in its index, and what name and members take.
#[derive(Clone, Debug, Default)]
pub struct Groups(
    /// No bag is empty.
    ByName<Bag>,
);

impl Groups {
    /// No groups, with memory for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(ByName::with_capacity(capacity))
    }

    /// Adds a member.
    pub fn add(&mut self, group: &Term, pid: Pid) {
        let hash = Name::hash_of(group);
        match self.0.find(hash, group) {
            Some(place) => self.0.at_mut(place).add(pid),
            None => self.0.add(Name::with_hash(hash, group.clone()), Bag::from_iter([pid])),
        }
    }

    /// A new group, with at least one member; false if there's such a group, and then it stays as it is.
    pub(in crate::pg) fn insert(&mut self, group: Term, pids: Arc<[Pid]>) -> bool {
        let hash = Name::hash_of(&group);
        let is_new = self.0.find(hash, &group).is_none();
        if is_new {
            self.0.add(Name::with_hash(hash, group), pids.into());
        }
        is_new
    }

    /// Adds members. A new group shares the list.
    pub fn add_list(&mut self, group: &Term, pids: &Arc<[Pid]>) {
        if pids.is_empty() {
            return;
        }
        let hash = Name::hash_of(group);
        match self.0.find(hash, group) {
            Some(place) => {
                let bag = self.0.at_mut(place);
                pids.iter().for_each(|pid| bag.add(pid.clone()));
            }
            None => self.0.add(Name::with_hash(hash, group.clone()), pids.clone().into()),
        }
    }

    /// Removes a member once; false if it isn't in the group.
    pub fn remove(&mut self, group: &Term, pid: &Pid) -> bool {
        let Some(place) = self.0.find(Name::hash_of(group), group) else { return false };
        let bag = self.0.at_mut(place);
        let removed = bag.remove(pid);
        if bag.is_empty() {
            self.0.remove(place);
        }
        removed
    }

    /// The members of a group; `None` without any.
    pub fn get(&self, group: &Term) -> Option<&Bag> {
        self.0.get(group)
    }

    /// The index, see [`Places::touch`](super::hash::Places::touch).
    pub(super) fn touch_place(&self, hash: u64) {
        self.0.touch_place(hash);
    }

    pub(super) fn touch(&self, hash: u64) -> Option<&Bag> {
        self.0.touch(hash)
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there's none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All groups. Order says nothing, but the same history gives the same.
    pub fn iter(&self) -> impl Iterator<Item = (&Term, &Bag)> {
        self.0.iter().map(|(group, bag)| (group.term(), bag))
    }

    /// All groups, in term order.
    pub fn sorted(&self) -> Vec<(&Term, &Bag)> {
        let mut groups: Vec<_> = self.iter().collect();
        groups.sort_by_key(|(group, _)| *group);
        groups
    }
}

/// Equal are groups with the same members, in whatever order they came to be.
impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(group, bag)| other.get(group).is_some_and(|its| its == bag))
    }
}

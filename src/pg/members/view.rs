//! What readers see of a scope.
//!
//! The scope writes, everybody reads, and who asks for members never waits for the scope, but for the instant in
//! which it puts a group into the [`table`](super::table) or changes a large one: who asks for the members of
//! such a group takes its lock, and makes the list if nobody asked since the last change.
//!
//! A small group is an immutable list: a change makes a new one. A large one, of more than [`FEW`]
//! members, is a bag that changes in place.

use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bag::{Own, same};
use super::table::{Now, Table};
use crate::term::{Pid, Term};

/// Most members of a group that is only a list: above, making it anew costs more than a bag does.
const FEW: usize = 16;

/// What readers see of a scope: a handle to the view, cheap to clone.
///
/// A read crosses no task and waits for none. The list it gives is shared; it doesn't change.
///
/// A group costs 64 to 96 bytes in a list, 10 to 20 in its index, the list of its members (16 bytes and 24
/// for each) and its name.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<Table<Group>>);

/// Whose members a change concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::pg) enum Origin {
    Local,
    Remote,
}

impl Members {
    /// All members of a group, each as often as it joined, in no order. As `pg:get_members/2`.
    pub fn get_members(&self, group: &Term) -> Arc<[Pid]> {
        self.read(group, Group::all).unwrap_or_default()
    }

    /// The members on this node. As `pg:get_local_members/2`.
    pub fn get_local_members(&self, group: &Term) -> Arc<[Pid]> {
        self.read(group, Group::local).unwrap_or_default()
    }

    /// How often a process of this node is in a group.
    pub fn local_count(&self, group: &Term, pid: &Pid) -> usize {
        let count = |group: &Group| match group {
            Group::Large(large) => large.bags().local.count(pid),
            small => small.local().iter().filter(|known| same(known, pid)).count(),
        };
        self.read(group, count).unwrap_or_default()
    }

    /// All groups that have members, in term order. As `pg:which_groups/1`.
    ///
    /// While the scope changes, groups may be missing or listed that come or go meanwhile.
    pub fn which_groups(&self) -> Vec<Term> {
        self.groups_where(|_| true)
    }

    /// How many groups have members, without listing them.
    pub fn group_count(&self) -> usize {
        self.0.len()
    }

    /// The groups that have members on this node. As `pg:which_local_groups/1`.
    pub fn which_local_groups(&self) -> Vec<Term> {
        self.groups_where(|group| match group {
            Group::Elsewhere(_) => false,
            Group::Here(_) | Group::Both(_) => true,
            Group::Large(large) => !large.bags().local.is_empty(),
        })
    }

    /// All groups with all members, in term order.
    pub fn all(&self) -> Vec<(Term, Arc<[Pid]>)> {
        let mut groups = Vec::new();
        self.0.for_each(|name, group| groups.push((name.clone(), group.clone())));
        // The lists of large groups are made without a lock on the table.
        let mut all: Vec<_> = groups.into_iter().map(|(name, group)| (name, group.all())).collect();
        // A large group may have lost its last member meanwhile.
        all.retain(|(_, pids)| !pids.is_empty());
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Makes room for so many more groups at once; a table that doubles again and again on the way there costs
    /// more, and leaves what it had in memory for a while.
    pub(in crate::pg) fn reserve(&self, groups: usize) {
        self.0.reserve(groups);
    }

    /// Members join. A new group shares the list.
    pub(in crate::pg) fn join(&self, origin: Origin, name: &Term, pids: &Arc<[Pid]>) {
        if !pids.is_empty() {
            let new = || Some(Group::of(origin, pids.clone()));
            self.put(name, new, (origin, pids, &[]));
        }
    }

    /// Reads what changes of groups whose names have these hashes will.
    pub(super) fn touch(&self, hashes: &[u64]) {
        self.0.touch(hashes, |group| {
            black_box(match group {
                Group::Elsewhere(pids) | Group::Here(pids) => Arc::strong_count(pids),
                Group::Both(both) => Arc::strong_count(both),
                Group::Large(large) => Arc::strong_count(large),
            });
        });
    }

    /// Members leave and join; whoever leaves is there.
    pub(in crate::pg) fn change(&self, origin: Origin, name: &Term, add: &[Pid], remove: &[Pid]) {
        let new = || (!add.is_empty()).then(|| Group::of(origin, add.into()));
        self.put(name, new, (origin, add, remove));
    }

    fn put(
        &self,
        name: &Term,
        new: impl FnOnce() -> Option<Group>,
        (origin, add, remove): (Origin, &[Pid], &[Pid]),
    ) {
        let mut large = None;
        self.0.change(name, new, |group| match group {
            Group::Large(group) => {
                large = Some(group.clone());
                Now::Same
            }
            small => small.change(origin, add, remove),
        });
        // A list of a large one may just be made, which those who read other groups shall not wait for.
        if let Some(large) = large {
            match large.change(origin, add, remove) {
                Now::Same => {}
                changed => self.0.change(name, || None, |_| changed),
            }
        }
    }

    pub(in crate::pg) fn clear(&self) {
        self.0.clear();
    }

    /// Reads a group. Of a large one a list may have to be made, which nobody else shall wait for.
    fn read<R>(&self, group: &Term, read: impl Fn(&Group) -> R) -> Option<R> {
        let large = |group: &Group| match group {
            Group::Large(large) => Err(Group::Large(large.clone())),
            small => Ok(read(small)),
        };
        self.0.read(group, large).map(|found| found.unwrap_or_else(|large| read(&large)))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn groups_where(&self, wanted: impl Fn(&Group) -> bool) -> Vec<Term> {
        let mut names = Vec::new();
        self.0.for_each(|name, group| {
            if wanted(group) {
                names.push(name.clone());
            }
        });
        names.sort();
        names
    }
}

/// A group as readers find it. It never changes, except for what is behind a large one's lock.
#[derive(Clone, Debug)]
enum Group {
    /// All its members are on other nodes.
    Elsewhere(Arc<[Pid]>),
    /// All are on this one.
    Here(Arc<[Pid]>),
    /// Some here, some elsewhere.
    Both(Arc<Both>),
    /// More than [`FEW`], and it has changed.
    Large(Arc<Large>),
}

#[derive(Debug)]
struct Both {
    all: Arc<[Pid]>,
    local: Arc<[Pid]>,
}

impl Group {
    /// A group whose members are all here or all elsewhere, at least one.
    fn of(origin: Origin, pids: Arc<[Pid]>) -> Self {
        match origin {
            Origin::Local => Self::Here(pids),
            Origin::Remote => Self::Elsewhere(pids),
        }
    }

    fn all(&self) -> Arc<[Pid]> {
        match self {
            Self::Elsewhere(all) | Self::Here(all) => all.clone(),
            Self::Both(both) => both.all.clone(),
            Self::Large(large) => large.all(),
        }
    }

    fn local(&self) -> Arc<[Pid]> {
        match self {
            Self::Elsewhere(_) => Arc::default(),
            Self::Here(local) => local.clone(),
            Self::Both(both) => both.local.clone(),
            Self::Large(large) => large.local(),
        }
    }

    fn change(&self, origin: Origin, add: &[Pid], remove: &[Pid]) -> Now<Self> {
        if let Self::Large(large) = self {
            return large.change(origin, add, remove);
        }
        let all = self.all();
        if all.len() + add.len() > FEW {
            let large = Large::new(&all, &self.local());
            return match large.change(origin, add, remove) {
                Now::Same => Now::Other(Self::Large(Arc::new(large))),
                other => other,
            };
        }
        let local = match origin {
            Origin::Local => changed(&self.local(), add, remove),
            Origin::Remote => self.local(),
        };
        Self::of_lists(changed(&all, add, remove), local)
    }

    fn of_lists(all: Arc<[Pid]>, local: Arc<[Pid]>) -> Now<Self> {
        if all.is_empty() {
            return Now::Gone;
        }
        Now::Other(if local.is_empty() {
            Self::Elsewhere(all)
        } else if local.len() == all.len() {
            Self::Here(local)
        } else {
            Self::Both(Arc::new(Both { all, local }))
        })
    }
}

/// The list without some and with others.
fn changed(list: &Arc<[Pid]>, add: &[Pid], remove: &[Pid]) -> Arc<[Pid]> {
    match remove {
        [] if add.is_empty() => list.clone(),
        [] => list.iter().chain(add).cloned().collect(),
        [pid] => {
            let (before, after) = match list.iter().position(|known| same(known, pid)) {
                Some(place) => (&list[..place], &list[place + 1..]),
                None => (&list[..], &[][..]),
            };
            before.iter().chain(after).chain(add).cloned().collect()
        }
        _ => {
            let mut pids = list.to_vec();
            for pid in remove {
                if let Some(place) = pids.iter().position(|known| same(known, pid)) {
                    pids.remove(place);
                }
            }
            pids.extend_from_slice(add);
            pids.into()
        }
    }
}

/// A group that changes in place. Held for a change and for a read, and for making a list, which then serves
/// until the next change; no other lock is taken meanwhile.
#[derive(Debug)]
struct Large(Mutex<Bags>);

#[derive(Debug)]
struct Bags {
    all: Own,
    local: Own,
    /// The list of `all`, if somebody asked for it since the last change.
    all_list: Option<Arc<[Pid]>>,
    local_list: Option<Arc<[Pid]>>,
}

impl Large {
    fn new(all: &[Pid], local: &[Pid]) -> Self {
        let [all, local] = [all, local].map(|pids| pids.iter().cloned().collect());
        Self(Mutex::new(Bags { all, local, all_list: None, local_list: None }))
    }

    fn bags(&self) -> MutexGuard<'_, Bags> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Arc<[Pid]> {
        let Bags { all, all_list, .. } = &mut *self.bags();
        all_list.get_or_insert_with(|| all.list()).clone()
    }

    fn local(&self) -> Arc<[Pid]> {
        let Bags { local, local_list, .. } = &mut *self.bags();
        local_list.get_or_insert_with(|| local.list()).clone()
    }

    /// A list that has been made stays with who has it.
    fn change(&self, origin: Origin, add: &[Pid], remove: &[Pid]) -> Now<Group> {
        let mut bags = self.bags();
        bags.all_list = None;
        bags.all.change(add, remove);
        if origin == Origin::Local {
            bags.local_list = None;
            bags.local.change(add, remove);
        }
        // Not at `FEW`, or one member more and less would change its form each time.
        if bags.all.len() <= FEW / 2 {
            return Group::of_lists(bags.all.list(), bags.local.list());
        }
        Now::Same
    }
}

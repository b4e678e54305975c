//! A bag of pids: one node's members of a group.
//!
//! Most bags are small or never change. So a bag is a list shared with whoever else has it, until a
//! change makes it more than [`COPIED`] pids: then it's a list of its own, with an index once there
//! are more than [`SEARCHED`]. From there on a change costs the same however many pids there are.

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashMap;

use super::hash::{Hash32, Places, Secret, is_too_large};
use crate::term::Pid;

/// Up to so many pids a bag that changes is made anew: one allocation and a few counts.
const COPIED: usize = 4;

/// Up to so many pids a bag is searched from its start; above, it keeps an index.
pub(super) const SEARCHED: usize = 16;

/// Pids, each as often as it was added. Order says nothing, but the same history gives the same.
///
/// 16 bytes, and for a list 16 more and 24 for each pid. A bag that has grown beyond four by changes
/// has 80 more, and above 16 different pids about 12 for each. A clone of a list shares it.
#[derive(Clone, Debug)]
pub struct Bag(Form);

#[derive(Clone, Debug)]
enum Form {
    /// As it came.
    List(Arc<[Pid]>),
    /// Its own to change.
    Own(Box<Own>),
}

impl Bag {
    /// Adds a pid once more.
    pub fn add(&mut self, pid: Pid) {
        match &mut self.0 {
            Form::List(list) if list.is_empty() => *list = Arc::from([pid]),
            Form::List(list) if list.len() < COPIED => {
                *list = list.iter().chain([&pid]).cloned().collect();
            }
            _ => self.own().add(pid),
        }
    }

    /// Removes a pid once; false if it isn't there.
    pub fn remove(&mut self, pid: &Pid) -> bool {
        if let Form::List(list) = &mut self.0
            && list.len() <= SEARCHED
        {
            let Some(place) = list.iter().position(|known| same(known, pid)) else { return false };
            if list.len() <= COPIED {
                let (before, after) = (&list[..place], &list[place + 1..]);
                *list = before.iter().chain(after).cloned().collect();
                return true;
            }
        }
        let own = self.own();
        let removed = own.remove(pid);
        // Fewer than make it one's own: or one pid more and less would make it anew each time.
        if own.len() <= COPIED / 2 {
            self.0 = Form::List(self.list());
        }
        removed
    }

    /// How often a pid is in it.
    pub fn count(&self, pid: &Pid) -> usize {
        match &self.0 {
            Form::List(list) => list.iter().filter(|known| same(known, pid)).count(),
            Form::Own(own) => own.count(pid),
        }
    }

    /// Reads what any change will.
    pub(super) fn touch(&self) {
        black_box(match &self.0 {
            Form::List(list) => Arc::strong_count(list),
            Form::Own(own) => own.len(),
        });
    }

    /// How many pids, repetitions counted.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::List(list) => list.len(),
            Form::Own(own) => own.len(),
        }
    }

    /// Whether there's none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All pids, each as often as it's in it.
    pub fn iter(&self) -> impl Iterator<Item = &Pid> {
        let (list, own): (&[Pid], _) = match &self.0 {
            Form::List(list) => (list, None),
            Form::Own(own) => (&[], Some(own.iter())),
        };
        list.iter().chain(own.into_iter().flatten())
    }

    /// All pids, each as often as it's in it. Costs nothing for a list that came as one.
    pub fn list(&self) -> Arc<[Pid]> {
        match &self.0 {
            Form::List(list) => list.clone(),
            Form::Own(own) => own.list(),
        }
    }

    /// What must be added to `self` to hold all of `other`.
    pub(in crate::pg) fn missing_from(&self, other: &Self) -> Vec<Pid> {
        if self.is_empty() {
            return other.iter().cloned().collect();
        }
        let (mine, theirs) = (self.counted(), other.counted());
        let missing = |place: usize| {
            let pid = &theirs.pids[place];
            let known = mine.place(pid).map_or(0, |place| mine.count_at(place));
            std::iter::repeat_n(pid.clone(), theirs.count_at(place).saturating_sub(known))
        };
        (0..theirs.pids.len()).flat_map(missing).collect()
    }

    fn own(&mut self) -> &mut Own {
        if let Form::List(list) = &self.0 {
            self.0 = Form::Own(Box::new(list.iter().cloned().collect()));
        }
        match &mut self.0 {
            Form::Own(own) => own,
            Form::List(_) => unreachable!("made its own above"),
        }
    }

    fn counted(&self) -> Cow<'_, Own> {
        match &self.0 {
            Form::List(list) => Cow::Owned(list.iter().cloned().collect()),
            Form::Own(own) => Cow::Borrowed(own),
        }
    }
}

impl Default for Bag {
    fn default() -> Self {
        Self(Form::List(Arc::default()))
    }
}

/// Shares the list.
impl From<Arc<[Pid]>> for Bag {
    fn from(pids: Arc<[Pid]>) -> Self {
        Self(Form::List(pids))
    }
}

impl FromIterator<Pid> for Bag {
    fn from_iter<I: IntoIterator<Item = Pid>>(pids: I) -> Self {
        Self(Form::List(pids.into_iter().collect()))
    }
}

/// Bags are equal that hold the same pids equally often, in whatever order.
impl PartialEq for Bag {
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        if let (Form::List(a), Form::List(b)) = (&self.0, &other.0)
            && (Arc::ptr_eq(a, b) || a == b)
        {
            return true;
        }
        let (a, b) = (self.counted(), other.counted());
        a.pids.len() == b.pids.len()
            && (0..a.pids.len()).all(|place| {
                b.place(&a.pids[place]).is_some_and(|other| b.count_at(other) == a.count_at(place))
            })
    }
}

/// A bag that changes in place: different pids, and how often those are there that are there more than once.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    pids: Vec<Pid>,
    /// Where in `pids` each one is; empty while there are few.
    places: Places,
    /// How often beyond the first.
    again: Option<Box<HashMap<Pid, usize, Secret>>>,
    /// The sum of `again`.
    repeats: usize,
}

impl Own {
    /// First some leave, then others join.
    pub(super) fn change(&mut self, add: &[Pid], remove: &[Pid]) {
        for pid in remove {
            self.remove(pid);
        }
        for pid in add {
            self.add(pid.clone());
        }
    }

    pub(super) fn list(&self) -> Arc<[Pid]> {
        if self.repeats == 0 { Arc::from(&self.pids[..]) } else { self.iter().cloned().collect() }
    }

    fn add(&mut self, pid: Pid) {
        let hash = self.is_indexed().then(|| Hash32::of(&pid));
        if self.find(&pid, hash).is_some() {
            *self.again.get_or_insert_default().entry(pid).or_default() += 1;
            self.repeats += 1;
            return;
        }
        self.pids.push(pid);
        if let Some(hash) = hash {
            self.places.insert(hash, self.pids.len() - 1);
        } else if self.pids.len() > SEARCHED {
            for (place, pid) in self.pids.iter().enumerate() {
                self.places.insert(Hash32::of(pid), place);
            }
        }
    }

    fn remove(&mut self, pid: &Pid) -> bool {
        let hash = self.is_indexed().then(|| Hash32::of(pid));
        let Some(place) = self.find(pid, hash) else { return false };
        if self.repeats > 0
            && let Some(again) = &mut self.again
            && let Some(more) = again.get_mut(pid)
        {
            *more -= 1;
            self.repeats -= 1;
            if *more == 0 {
                again.remove(pid);
            }
            return true;
        }
        self.pids.swap_remove(place);
        if let Some(hash) = hash {
            self.places.remove(hash, place);
            if let Some(moved) = self.pids.get(place) {
                self.places.moved(Hash32::of(moved), self.pids.len(), place);
            }
            self.give_back();
        }
        true
    }

    /// Once it's far smaller than it was. The index goes when it's empty, not when there are few.
    fn give_back(&mut self) {
        if is_too_large(self.pids.capacity(), self.pids.len()) {
            self.pids.shrink_to(self.pids.capacity() / 2);
            self.places.shrink_to(self.pids.len());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pids.len() + self.repeats
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// How often a pid is in it.
    pub(super) fn count(&self, pid: &Pid) -> usize {
        self.place(pid).map_or(0, |place| self.count_at(place))
    }

    fn iter(&self) -> impl Iterator<Item = &Pid> {
        let count = |pid| if self.repeats == 0 { 1 } else { 1 + self.more_of(pid) };
        self.pids.iter().flat_map(move |pid| std::iter::repeat_n(pid, count(pid)))
    }

    fn count_at(&self, place: usize) -> usize {
        1 + self.more_of(&self.pids[place])
    }

    fn more_of(&self, pid: &Pid) -> usize {
        let again = self.again.as_ref().filter(|_| self.repeats > 0);
        again.and_then(|again| again.get(pid)).copied().unwrap_or_default()
    }

    fn place(&self, pid: &Pid) -> Option<usize> {
        self.find(pid, self.is_indexed().then(|| Hash32::of(pid)))
    }

    fn find(&self, pid: &Pid, hash: Option<Hash32>) -> Option<usize> {
        match hash {
            Some(hash) => self.places.find(hash, |place| same(&self.pids[place], pid)),
            None => self.pids.iter().position(|known| same(known, pid)),
        }
    }

    fn is_indexed(&self) -> bool {
        !self.places.is_empty()
    }
}

impl FromIterator<Pid> for Own {
    fn from_iter<I: IntoIterator<Item = Pid>>(pids: I) -> Self {
        let pids = pids.into_iter();
        let count = pids.size_hint().0;
        let mut own = Self { pids: Vec::with_capacity(count), ..Self::default() };
        if count > SEARCHED {
            own.places = Places::with_capacity(count);
        }
        pids.for_each(|pid| own.add(pid));
        own
    }
}

/// Whether two pids are the same. The number tells most apart, and is compared faster than a name.
pub(super) fn same(a: &Pid, b: &Pid) -> bool {
    a.id == b.id && a == b
}

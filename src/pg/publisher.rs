//! `pg` as a publisher: a node owns the memberships of its processes.
//!
//! This is version 1, OTP 29's: an update is `[{Group, Add, Remove}]`, local data is
//! `#{Group => Pids}`. Version 0, the words of OTP 23 to 28, is in [`legacy`](super::legacy). Which
//! of the two a peer gets is decided for each one, by its `discover`; so the first word to anybody
//! is the one all releases understand, `{discover, Pid}`.
//!
//! A pid in a peer's groups is taken as it is, on whatever node it lives: OTP checks that where a
//! process joins, not on the wire, and a view that left some out would differ from everybody's.
//!
//! Source: `pg`, OTP 29.

use std::sync::Arc;

use super::legacy;
use super::members::{Groups, Members, Origin, look_ahead};
use super::watched::Watched;
use crate::engine::{DataPublisher, Effects, MonitorId, Translated, Version, Wire};
use crate::term::{Atom, BadTerm, NodeName, Pid, Pieces, Reference, Term};
use crate::{atom, tuple};

/// Groups of a snapshot that is no small one.
const MANY: usize = 1000;

/// What a count is believed before what it counts is here.
const RESERVED: usize = 16;

/// The publisher of a `pg` scope.
#[derive(Clone, Debug, Default)]
pub struct PgPublisher {
    members: Members,
}

impl PgPublisher {
    /// A scope without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// What readers read.
    pub fn members(&self) -> &Members {
        &self.members
    }
}

/// What changes in one group: first `remove` leave, then `add` join.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The group; any term can name one.
    pub group: Term,
    /// Who joins; who is in it twice joins twice.
    pub add: Arc<[Pid]>,
    /// Who leaves; whoever isn't in the group is passed over.
    pub remove: Arc<[Pid]>,
}

impl Change {
    /// These processes join.
    pub fn join(group: &Term, pids: impl IntoIterator<Item = Pid>) -> Self {
        Self { group: group.clone(), add: pids.into_iter().collect(), remove: Arc::default() }
    }

    /// These processes leave.
    pub fn leave(group: &Term, pids: impl IntoIterator<Item = Pid>) -> Self {
        Self { group: group.clone(), add: Arc::default(), remove: pids.into_iter().collect() }
    }

    /// The same for the group's name without negative zeros: in that form we own a group.
    #[must_use]
    pub(super) fn with_own_name(self) -> Self {
        Self { group: self.group.with_positive_zeros(), ..self }
    }
}

/// What a subscriber wants to hear of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Subscription {
    /// Of all groups; `scope` on the wire.
    Scope,
    /// Of one group, which needn't have members; `{group, Group}` on the wire.
    Group(Term),
}

/// What a subscriber gets first: who is there now.
#[derive(Clone, Debug, PartialEq)]
pub enum Initial {
    /// All groups, in term order.
    Scope(Vec<(Term, Arc<[Pid]>)>),
    /// The members of the group.
    Group(Arc<[Pid]>),
}

/// What a subscriber gets for a change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Processes joined; on the BEAM `{Ref, join, Group, Pids}`.
    Join {
        /// Which group.
        group: Term,
        /// Who, each as often as it joined.
        pids: Arc<[Pid]>,
    },
    /// Processes left; on the BEAM `{Ref, leave, Group, Pids}`.
    Leave {
        /// Which group.
        group: Term,
        /// Who, each as often as it left.
        pids: Arc<[Pid]>,
    },
}

/// The view: what readers share, and the members of our own that are watched.
#[derive(Debug)]
pub struct View {
    members: Members,
    watched: Watched,
}

impl View {
    /// The part readers see.
    pub fn members(&self) -> &Members {
        &self.members
    }
}

/// However the scope ends: readers find nobody any more.
impl Drop for View {
    fn drop(&mut self) {
        self.members.clear();
    }
}

impl DataPublisher for PgPublisher {
    type LocalData = Groups;
    type Update = Vec<Change>;
    type GlobalView = View;
    type Subscription = Subscription;
    type Initial = Initial;
    type Event = Event;

    fn version(&self) -> Version {
        1.into()
    }

    fn init_local_data(&self) -> Groups {
        Groups::default()
    }

    fn init_global_view(&mut self, _scope: &Atom) -> View {
        View { members: self.members.clone(), watched: Watched::default() }
    }

    fn update_local_data(&self, mut update: Vec<Change>, data: &mut Groups) -> Option<Vec<Change>> {
        update.retain_mut(|Change { group, add, remove }| {
            if !remove.is_empty() {
                let mut known = Vec::new();
                for (place, pid) in remove.iter().enumerate() {
                    if data.remove(group, pid) {
                        known.push(place);
                    }
                }
                if known.len() < remove.len() {
                    *remove =
                        known.iter().filter_map(|place| remove.get(*place)).cloned().collect();
                }
            }
            data.add_list(group, add);
            !add.is_empty() || !remove.is_empty()
        });
        (!update.is_empty()).then_some(update)
    }

    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &Vec<Change>,
        view: &mut View,
        effects: &mut Effects<'_, Self>,
    ) {
        let is_local = origin == effects.node();
        let whose = if is_local { Origin::Local } else { Origin::Remote };
        if update.len() > MANY {
            self.members.reserve(update.len());
        }
        for Change { group, add, remove } in update {
            if remove.is_empty() {
                view.members.join(whose, group, add);
            } else {
                view.members.change(whose, group, add, remove);
            }
            if is_local {
                for pid in &**add {
                    view.watched.join(pid, group, || effects.monitor(pid));
                }
                for monitor in remove.iter().filter_map(|pid| view.watched.leave(pid, group)) {
                    effects.demonitor(monitor);
                }
            }
            if !effects.is_heard() {
                continue;
            }
            if !add.is_empty() {
                let event = Event::Join { group: group.clone(), pids: add.clone() };
                notify(group, &event, effects);
            }
            if !remove.is_empty() {
                let event = Event::Leave { group: group.clone(), pids: remove.clone() };
                notify(group, &event, effects);
            }
        }
    }

    fn data_diff(&self, old: &Groups, new: &Groups) -> Option<Vec<Change>> {
        let mut all = Vec::with_capacity(if old.is_empty() { new.len() } else { 0 });
        for (group, bag) in old.iter() {
            if new.get(group).is_none() {
                all.push(Change { group: group.clone(), add: Arc::default(), remove: bag.list() });
            }
        }
        for (group, bag) in new.iter() {
            match old.get(group) {
                None => all.push(Change {
                    group: group.clone(),
                    add: bag.list(),
                    remove: Arc::default(),
                }),
                Some(before) if before == bag => {}
                Some(before) => all.push(Change {
                    group: group.clone(),
                    add: before.missing_from(bag).into(),
                    remove: bag.missing_from(before).into(),
                }),
            }
        }
        // The order of OTP's small maps; large ones have none.
        if all.len() <= 32 {
            all.sort_by(|a, b| (!a.add.is_empty(), &a.group).cmp(&(!b.add.is_empty(), &b.group)));
        }
        (!all.is_empty()).then_some(all)
    }

    fn new_subscription(&self, key: &Subscription, view: &View) -> Initial {
        match key {
            Subscription::Scope => Initial::Scope(view.members.all()),
            Subscription::Group(group) => Initial::Group(view.members.get_members(group)),
        }
    }

    fn translate_update(&self, me: &Pid, peer: &Version, update: &Vec<Change>) -> Wire {
        if legacy::is_spoken_by(peer) {
            return Wire::Plain(legacy::update_terms(me, update));
        }
        Wire::Term(Term::list_of(update.iter().map(|Change { group, add, remove }| {
            tuple![group, pids_term(&**add), pids_term(&**remove)]
        })))
    }

    fn translate_local_data(&self, me: &Pid, peer: &Version, data: &Groups) -> Wire {
        if legacy::is_spoken_by(peer) {
            return Wire::Plain(vec![legacy::sync_term(me, data)]);
        }
        let pairs = data.iter().map(|(group, bag)| (group.clone(), pids_term(bag.iter())));
        Wire::Term(Term::Map(pairs.collect()))
    }

    fn read_update(&self, term: &Term) -> Result<Vec<Change>, BadTerm> {
        let read = |change: &Term| {
            let [group, add, remove] = change.tuple::<3>()?;
            let (add, remove) = (read_pids(add)?, read_pids(remove)?);
            Ok(Change { group: group.clone(), add, remove })
        };
        term.list()?.iter().map(read).collect()
    }

    fn read_own_update(&self, term: &Term) -> Result<Vec<Change>, BadTerm> {
        Ok(self.read_update(term)?.into_iter().map(Change::with_own_name).collect())
    }

    fn read_local_data(&self, term: &Term) -> Result<Groups, BadTerm> {
        let pairs = term.map()?.pairs().iter();
        read_groups(pairs.map(|(group, pids)| Ok((group, pids))))
    }

    fn take_update(&self, pieces: &mut impl Pieces) -> Option<Vec<Change>> {
        let count = pieces.list()?;
        let mut changes = Vec::with_capacity(count.min(RESERVED));
        for _ in 0..count {
            (pieces.tuple()? == 3).then_some(())?;
            let group = pieces.term()?;
            changes.push(Change { group, add: take_pids(pieces)?, remove: take_pids(pieces)? });
        }
        if count > 0 {
            pieces.end()?;
        }
        Some(changes)
    }

    fn take_local_data(&self, pieces: &mut impl Pieces) -> Option<Groups> {
        let count = pieces.map()?;
        // `map` has seen to it that there's a byte for each at least.
        let mut groups = Groups::with_capacity(count);
        for _ in 0..count {
            let group = pieces.term()?;
            let pids = take_pids(pieces)?;
            // A key that comes twice makes it no map, and of an empty group that wouldn't be seen.
            (!pids.is_empty() && groups.insert(group, pids)).then_some(())?;
        }
        Some(groups)
    }

    fn look_ahead<'a>(
        &self,
        updates: impl Iterator<Item = &'a Vec<Change>>,
        data: &Groups,
        view: &View,
    ) {
        look_ahead(updates.flatten().map(|change| &change.group), data, &view.members);
    }

    fn read_subscription(&self, term: &Term) -> Result<Subscription, BadTerm> {
        match term.tagged("group") {
            Some([group]) => Ok(Subscription::Group(group.clone())),
            _ if term.is_atom("scope") => Ok(Subscription::Scope),
            _ => Err(BadTerm::new("scope or {group, Group}", term)),
        }
    }

    fn initial_term(&self, initial: &Initial) -> Term {
        match initial {
            Initial::Scope(groups) => Term::Map(
                groups.iter().map(|(group, pids)| (group.clone(), pids_term(&**pids))).collect(),
            ),
            Initial::Group(pids) => pids_term(&**pids),
        }
    }

    fn event_term(&self, reference: &Reference, event: &Event) -> Term {
        let (what, group, pids) = match event {
            Event::Join { group, pids } => (atom!("join"), group, pids),
            Event::Leave { group, pids } => (atom!("leave"), group, pids),
        };
        tuple![reference, what, group, pids_term(&**pids)]
    }

    fn translate_message(
        &self,
        message: &Term,
        _view: &mut View,
        _effects: &mut Effects<'_, Self>,
    ) -> Translated<Self> {
        legacy::read(message).map_or(Translated::Drop, Translated::Peer)
    }

    /// A member ended: it leaves all its groups. (OTP lists a group once for each membership; here
    /// it's listed once, with the pid as often. Receivers make the same of both.)
    fn translate_down(
        &self,
        monitor: MonitorId,
        pid: &Pid,
        view: &mut View,
        _effects: &mut Effects<'_, Self>,
    ) -> Option<Vec<Change>> {
        let groups = view.watched.groups(pid, monitor)?;
        let leave = |(group, count)| Change::leave(&group, vec![pid.clone(); count]);
        Some(groups.into_iter().map(leave).collect())
    }

    fn hello(&self, me: &Pid, peer: Option<&Version>) -> Term {
        match peer {
            Some(version) if !legacy::is_spoken_by(version) => {
                tuple![atom!("discover"), me, self.version().0]
            }
            _ => tuple![atom!("discover"), me],
        }
    }
}

fn notify(group: &Term, event: &Event, effects: &mut Effects<'_, PgPublisher>) {
    effects.notify(&Subscription::Scope, event);
    effects.notify(&Subscription::Group(group.clone()), event);
}

pub(super) fn pids_term<'a>(pids: impl IntoIterator<Item = &'a Pid>) -> Term {
    Term::list_of(pids.into_iter().map(Term::from))
}

/// Reads a proper list of pids.
pub(super) fn read_pids(term: &Term) -> Result<Arc<[Pid]>, BadTerm> {
    term.list()?.iter().map(|pid| pid.pid().cloned()).collect()
}

fn take_pids(pieces: &mut impl Pieces) -> Option<Arc<[Pid]>> {
    let pids: Arc<[Pid]> = match pieces.list()? {
        0 => return Some(Arc::default()),
        // Most groups have one member, most changes are of one.
        1 => Arc::new([pieces.pid()?]),
        count => {
            let mut pids = Vec::with_capacity(count.min(RESERVED));
            for _ in 0..count {
                pids.push(pieces.pid()?);
            }
            pids.into()
        }
    };
    pieces.end()?;
    Some(pids)
}

/// Reads groups with their members; a group named twice has the members of both.
pub(super) fn read_groups<'a>(
    pairs: impl Iterator<Item = Result<(&'a Term, &'a Term), BadTerm>>,
) -> Result<Groups, BadTerm> {
    let mut groups = Groups::with_capacity(pairs.size_hint().1.unwrap_or(0));
    for pair in pairs {
        let (group, pids) = pair?;
        groups.add_list(group, &read_pids(pids)?);
    }
    Ok(groups)
}

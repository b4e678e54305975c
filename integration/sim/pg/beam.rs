//! Small models of `pg` on the BEAM: what its scope process says, keeps and dies of.
//!
//! Clause by clause after `pg.erl` of OTP 25 and 27, and `data_publisher.erl` with `pg.erl` of OTP 29.
//! A message such a process wouldn't survive is an `Err`.

use std::collections::BTreeMap;

use data_publisher::pg::{Change, Groups};
use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{atom, list, tuple};

use crate::subject::{Beam, Out};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    Otp25,
    Otp27,
    Otp29,
}

type GroupLists = BTreeMap<Term, Vec<Pid>>;

struct Remote {
    reference: u64,
    version: Term,
    groups: GroupLists,
}

pub(crate) struct PgBeam {
    release: Release,
    me: Pid,
    remote: BTreeMap<Pid, Remote>,
    /// The table readers read: all members, local members.
    table: BTreeMap<Term, (Vec<Pid>, Vec<Pid>)>,
    /// Local data; in OTP 25 and 27 it's the processes that know their groups.
    local: GroupLists,
    watched: BTreeMap<Pid, (u64, Vec<Term>)>,
    references: u64,
    out: Vec<Out>,
}

/// Erlang's `--`.
fn subtract(from: &[Pid], what: &[Pid]) -> Vec<Pid> {
    let mut left = from.to_vec();
    for pid in what {
        if let Some(place) = left.iter().position(|known| known == pid) {
            left.remove(place);
        }
    }
    left
}

fn pids(term: &Term) -> Result<Vec<Pid>, String> {
    match term {
        Term::Pid(pid) => Ok(vec![pid.clone()]),
        _ => term
            .list()
            .map_err(|e| e.to_string())?
            .iter()
            .map(|pid| pid.pid().cloned().map_err(|e| e.to_string()))
            .collect(),
    }
}

fn pids_term(pids: &[Pid]) -> Term {
    Term::list_of(pids.iter().map(Term::from))
}

impl PgBeam {
    pub(crate) fn new(release: Release, me: Pid) -> Self {
        Self {
            release,
            me,
            remote: BTreeMap::new(),
            table: BTreeMap::new(),
            local: GroupLists::new(),
            watched: BTreeMap::new(),
            references: 0,
            out: Vec::new(),
        }
    }

    fn join(&mut self, group: &Term, pids: &[Pid]) {
        let (all, local) = self.table.entry(group.clone()).or_default();
        all.extend_from_slice(pids);
        local.extend_from_slice(pids);
        self.local.entry(group.clone()).or_default().extend_from_slice(pids);
        for pid in pids {
            if let Some((_, groups)) = self.watched.get_mut(pid) {
                groups.push(group.clone());
            } else {
                let reference = self.monitor(pid);
                self.watched.insert(pid.clone(), (reference, vec![group.clone()]));
            }
        }
        let old = tuple![atom!("join"), &self.me, group, pids_term(pids)];
        let new =
            tuple![atom!("update"), &self.me, list![tuple![group, pids_term(pids), Term::NIL]]];
        self.broadcast(&old, &new);
    }

    fn leave_group(&mut self, group: &Term, pid: &Pid) {
        let is_in = |groups: &Vec<Term>| groups.iter().position(|known| known == group);
        let Some((reference, groups)) = self.watched.get_mut(pid) else { return };
        let Some(place) = is_in(groups) else { return };
        groups.remove(place);
        if groups.is_empty() {
            self.out.push(Out::Demonitor(*reference));
            self.watched.remove(pid);
        }
        self.leave_locally(group, pid);
        let old = tuple![atom!("leave"), &self.me, pid, list![group]];
        let new = tuple![atom!("update"), &self.me, list![tuple![group, Term::NIL, list![pid]]]];
        self.broadcast(&old, &new);
    }

    fn leave_locally(&mut self, group: &Term, pid: &Pid) {
        let gone = std::slice::from_ref(pid);
        if let Some((all, local)) = self.table.get_mut(group) {
            (*all, *local) = (subtract(all, gone), subtract(local, gone));
            if all.is_empty() {
                self.table.remove(group);
            }
        }
        if let Some(pids) = self.local.get_mut(group) {
            *pids = subtract(pids, gone);
            if pids.is_empty() {
                self.local.remove(group);
            }
        }
    }

    fn discover(&mut self, peer: &Pid, version: &Term) {
        let data = if *version == Term::Integer(0) {
            let groups = self.local.iter().map(|(group, pids)| tuple![group, pids_term(pids)]);
            tuple![atom!("sync"), &self.me, Term::list_of(groups)]
        } else {
            let groups = self.local.iter().map(|(group, pids)| (group.clone(), pids_term(pids)));
            tuple![atom!("local_data"), &self.me, version, Term::Map(groups.collect())]
        };
        self.out.push(Out::Send(peer.clone(), tuple![atom!("$gen_cast"), data]));
        if !self.remote.contains_key(peer) {
            self.add_peer(peer, version);
            self.out.push(Out::Send(peer.clone(), self.hello()));
        }
    }

    fn add_peer(&mut self, peer: &Pid, version: &Term) {
        let reference = self.monitor(peer);
        let remote = Remote { reference, version: version.clone(), groups: GroupLists::new() };
        self.remote.insert(peer.clone(), remote);
    }

    fn replace(&mut self, peer: &Pid, version: &Term, groups: &GroupLists) -> Result<(), String> {
        if !self.remote.contains_key(peer) {
            self.add_peer(peer, version);
        }
        let remote = self.remote.get_mut(peer).expect("just added");
        remote.version = version.clone();
        let mut old = std::mem::replace(&mut remote.groups, groups.clone());
        for (group, pids) in groups {
            match old.remove(group) {
                None => self.table.entry(group.clone()).or_default().0.extend_from_slice(pids),
                Some(before) if before == *pids => {}
                Some(before) => match self.table.get_mut(group) {
                    Some((all, _)) => {
                        all.extend_from_slice(pids);
                        *all = subtract(all, &before);
                    }
                    // {badmatch, []} in pg:sync_groups.
                    None if self.release != Release::Otp29 => {
                        return Err(format!("sync of {group} that isn't in the table"));
                    }
                    None => {
                        self.table.insert(group.clone(), (pids.clone(), Vec::new()));
                    }
                },
            }
        }
        for (group, pids) in &old {
            self.leave_remote(group, pids);
        }
        Ok(())
    }

    fn leave_remote(&mut self, group: &Term, pids: &[Pid]) {
        if let Some((all, local)) = self.table.get_mut(group) {
            *all = subtract(all, pids);
            if all.is_empty() && local.is_empty() && self.release != Release::Otp29 {
                self.table.remove(group);
            }
        }
    }

    fn change(
        &mut self,
        peer: &Pid,
        group: &Term,
        add: &[Pid],
        remove: &[Pid],
    ) -> Result<(), String> {
        let Some(known) = self.remote.get_mut(peer) else { return Ok(()) };
        if self.release == Release::Otp29 {
            let pids = known.groups.entry(group.clone()).or_default();
            *pids = subtract(pids, remove);
            pids.extend_from_slice(add);
            let (all, _) = self.table.entry(group.clone()).or_default();
            *all = subtract(all, remove);
            all.extend_from_slice(add);
            return Ok(());
        }
        if add.is_empty() {
            // {badkey, Group} in pg:leave_remote.
            let Some(pids) = known.groups.get_mut(group) else {
                return Err(format!("leave of {group}, which {peer} isn't in"));
            };
            let is_list_left_empty = self.release == Release::Otp25 && remove.len() > 1;
            let same_list = *pids == remove;
            *pids = subtract(pids, remove);
            if pids.is_empty() && (!is_list_left_empty || same_list) {
                known.groups.remove(group);
            }
            self.leave_remote(group, remove);
        } else {
            known.groups.entry(group.clone()).or_default().extend_from_slice(add);
            self.table.entry(group.clone()).or_default().0.extend_from_slice(add);
        }
        Ok(())
    }

    fn monitor(&mut self, pid: &Pid) -> u64 {
        self.references += 1;
        self.out.push(Out::Monitor(self.references, pid.clone()));
        self.references
    }

    fn broadcast(&mut self, old: &Term, new: &Term) {
        for (peer, remote) in &self.remote {
            let is_old = self.release != Release::Otp29 || remote.version == Term::Integer(0);
            let message = if is_old { old } else { new };
            self.out.push(Out::Send(peer.clone(), message.clone()));
        }
    }
}

impl Beam for PgBeam {
    type Update = Vec<Change>;
    type Data = Groups;

    fn me(&self) -> &Pid {
        &self.me
    }

    fn hello(&self) -> Term {
        match self.release {
            Release::Otp29 => tuple![atom!("discover"), &self.me, 1],
            _ => tuple![atom!("discover"), &self.me],
        }
    }

    fn take_out(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    fn message(&mut self, message: &Term) -> Result<(), String> {
        let (body, is_cast) = match message.tagged("$gen_cast") {
            Some([body]) => (body, true),
            _ => (message, false),
        };
        let unknown = || Err(format!("{:?} doesn't know {message}", self.release));
        let is_new = self.release == Release::Otp29;
        let Some((Term::Atom(word), rest)) =
            body.tuple_elements().ok().and_then(<[_]>::split_first)
        else {
            return unknown();
        };
        match (word.as_str(), rest) {
            ("discover", [Term::Pid(peer)]) if is_new || !is_cast => {
                self.discover(peer, &0.into());
            }
            ("discover", [Term::Pid(peer), version])
                if !is_cast && self.release != Release::Otp25 =>
            {
                let version = if is_new { version } else { &0.into() };
                self.discover(peer, version);
            }
            ("sync", [Term::Pid(peer), groups]) if is_new || is_cast => {
                let mut lists = GroupLists::new();
                for pair in groups.list().map_err(|e| e.to_string())?.iter() {
                    let [group, members] = pair.tuple::<2>().map_err(|e| e.to_string())?;
                    lists.insert(group.clone(), pids(members)?);
                }
                self.replace(peer, &0.into(), &lists)?;
            }
            ("local_data", [Term::Pid(peer), version, groups]) if is_new => {
                let mut lists = GroupLists::new();
                for (group, members) in groups.map().map_err(|e| e.to_string())?.pairs() {
                    lists.insert(group.clone(), pids(members)?);
                }
                self.replace(peer, version, &lists)?;
            }
            ("join", [Term::Pid(peer), group, members]) if is_new || !is_cast => {
                let members = pids(members)?;
                self.change(peer, group, &members, &[])?;
            }
            ("leave", [Term::Pid(peer), members, groups]) if is_new || !is_cast => {
                let members = pids(members)?;
                for group in groups.list().map_err(|e| e.to_string())?.iter() {
                    self.change(peer, group, &[], &members)?;
                }
            }
            ("update", [Term::Pid(peer), changes]) if is_new => {
                for change in changes.list().map_err(|e| e.to_string())?.iter() {
                    let [group, add, remove] = change.tuple::<3>().map_err(|e| e.to_string())?;
                    self.change(peer, group, &pids(add)?, &pids(remove)?)?;
                }
            }
            _ => return unknown(),
        }
        Ok(())
    }

    fn down(&mut self, reference: u64, pid: &Pid) {
        if self.remote.get(pid).is_some_and(|remote| remote.reference == reference) {
            let remote = self.remote.remove(pid).expect("just seen");
            for (group, pids) in &remote.groups {
                self.leave_remote(group, pids);
            }
        } else if self.watched.get(pid).is_some_and(|(known, _)| *known == reference) {
            let (_, groups) = self.watched.remove(pid).expect("just seen");
            for group in &groups {
                self.leave_locally(group, pid);
            }
            let update = groups.iter().map(|group| tuple![group, Term::NIL, list![pid]]);
            let new = tuple![atom!("update"), &self.me, Term::list_of(update)];
            let old = tuple![atom!("leave"), &self.me, pid, Term::list_of(groups.iter().cloned())];
            self.broadcast(&old, &new);
        }
    }

    fn update(&mut self, update: &Vec<Change>) {
        for Change { group, add, remove } in update {
            if !add.is_empty() {
                self.join(group, add);
            }
            for pid in remove.iter() {
                self.leave_group(group, pid);
            }
        }
    }

    fn peers(&self) -> impl Iterator<Item = &Pid> {
        self.remote.keys()
    }

    fn local(&self) -> Groups {
        groups(self.local.iter())
    }

    /// What `get_members` shows.
    fn view(&self) -> Vec<(NodeName, Groups)> {
        let all = self.table.iter().map(|(group, (all, _))| (group, all));
        vec![(self.me.node.clone(), groups(all))]
    }
}

fn groups<'a>(lists: impl Iterator<Item = (&'a Term, &'a Vec<Pid>)>) -> Groups {
    let mut groups = Groups::default();
    for (group, pids) in lists {
        for pid in pids {
            groups.add(group, pid.clone());
        }
    }
    groups
}

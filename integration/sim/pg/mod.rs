//! `pg`: engines among models of its scopes in OTP 25, 27 and 29.

mod beam;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use data_publisher::engine::{Action, Engine, Version};
use data_publisher::pg::{
    Bag, Change, Event, Groups, Initial, PgPublisher, Subscription, is_allowed_shape,
};
use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{atom, list, tuple};

use self::beam::{PgBeam, Release};
use crate::random::Random;
use crate::subject::{Processes, Role, Runs, Subject, mark, mark_in};
use crate::world::Mutant;

static GROUPS: LazyLock<[Term; 3]> =
    LazyLock::new(|| [1.into(), Term::float_of(1.0).expect("finite"), atom!("g").into()]);

pub(crate) struct Pg {
    releases: [Release; 2],
}

impl Subject for Pg {
    const NAME: &'static str = "pg";
    const PERCENT: u64 = 60;
    const MUTANTS: &'static [Mutant] = &[
        Mutant::NoGreeting,
        Mutant::NoDiscoverBack,
        Mutant::NoReplyToKnown,
        Mutant::SilentDrop,
        Mutant::UpdateBeforeData,
        Mutant::NoDownOfEndedScope,
        Mutant::NoMonitorOnData,
        Mutant::DownByPid,
        Mutant::NoMonitor,
        Mutant::LateDown,
        Mutant::SnapshotRefused,
        Mutant::StrangersUpdateApplied,
        Mutant::BagAsSet,
        Mutant::ReusedCreation,
        Mutant::JoinAsCast,
        Mutant::LongDiscover,
        Mutant::LeaveLost,
        Mutant::SendsOverNewerConnection,
        Mutant::NothingRestored,
    ];

    type Publisher = PgPublisher;
    type Edition = ();
    type Release = Release;
    type Beam = PgBeam;
    type Picture = BTreeMap<Term, Bag>;
    type Told = BTreeMap<Term, Bag>;

    fn draw(random: &mut Random) -> Self {
        // OTP 25 and 29 in one scope kill each other without our help.
        let releases = if random.chance(50) {
            [Release::Otp25, Release::Otp27]
        } else {
            [Release::Otp27, Release::Otp29]
        };
        Self { releases }
    }

    fn draw_edition(&self, _random: &mut Random) {}

    fn draw_release(&self, random: &mut Random) -> Release {
        self.releases[random.below(2)]
    }

    fn publisher(&self, (): &()) -> PgPublisher {
        PgPublisher::new()
    }

    fn beam(&self, release: &Release, me: Pid, _left: Option<Groups>) -> PgBeam {
        PgBeam::new(*release, me)
    }

    fn draw_update(
        &self,
        _role: &Role<Self>,
        processes: &mut Processes,
        random: &mut Random,
    ) -> Option<Vec<Change>> {
        let is_join = random.below(14) < 9;
        let known = processes.living.len();
        let group = &GROUPS[random.below(3)];
        if is_join {
            let pid = if known > 0 && random.chance(40) {
                processes.living[random.below(known)].clone()
            } else {
                let pid = processes.new_pid();
                processes.living.push(pid.clone());
                pid
            };
            return Some(vec![Change::join(group, vec![pid; 1 + random.below(2)])]);
        }
        if known == 0 {
            return None;
        }
        let pids = [(); 2].map(|()| processes.living[random.below(known)].clone());
        Some(vec![Change::leave(group, pids)])
    }

    fn nothing() -> Groups {
        Groups::default()
    }

    fn apply(update: &Vec<Change>, data: &mut Groups) {
        for Change { group, add, remove } in update {
            for pid in remove.iter() {
                data.remove(group, pid);
            }
            for pid in add.iter() {
                data.add(group, pid.clone());
            }
        }
    }

    fn processes(data: &Groups) -> Vec<Pid> {
        data.sorted().into_iter().flat_map(|(_, bag)| bag.iter().cloned()).collect()
    }

    fn process_ended(pid: &Pid, data: &mut Groups) {
        for group in &*GROUPS {
            while data.remove(group, pid) {}
        }
    }

    /// The order of members says nothing, so a mark is a sum.
    fn marks(data: &Groups) -> [u64; 2] {
        [data.iter().map(|(group, bag)| group_mark(group, bag.iter())).fold(0, u64::wrapping_add);
            2]
    }

    /// In the words of version 0 an update is several messages, with states in between.
    fn mark_between(message: &Term, state: u64) -> Option<u64> {
        let Some([_, Term::Pid(pid), Term::List(groups)]) = message.tagged("leave") else {
            return None;
        };
        Some(
            groups
                .iter()
                .map(|group| group_mark(group, std::iter::once(pid)))
                .fold(state, u64::wrapping_sub),
        )
    }

    fn sum<'a>(data: impl Iterator<Item = (&'a NodeName, &'a Groups)>) -> BTreeMap<Term, Bag> {
        let mut sum: BTreeMap<Term, Bag> = BTreeMap::new();
        for (_, groups) in data {
            for (group, bag) in groups.sorted() {
                match sum.get_mut(group) {
                    Some(total) => bag.iter().for_each(|pid| total.add(pid.clone())),
                    None => {
                        sum.insert(group.clone(), bag.clone());
                    }
                }
            }
        }
        sum
    }

    fn picture(engine: &Engine<PgPublisher>) -> BTreeMap<Term, Bag> {
        let view = engine.view().members().all();
        view.into_iter().map(|(group, pids)| (group, pids.iter().cloned().collect())).collect()
    }

    /// As most read, group by group: all there is takes a lock on each part of the table.
    fn view_marks(engine: &Engine<PgPublisher>) -> [u64; 2] {
        let view = engine.view();
        let mark = |group| group_mark(group, view.members().get_members(group).iter());
        [GROUPS.iter().map(mark).fold(0, u64::wrapping_add); 2]
    }

    /// Its pid says where a member lives.
    fn factor(_node: &NodeName) -> u64 {
        1
    }

    fn told_mark(told: &BTreeMap<Term, Bag>) -> u64 {
        told.iter().map(|(group, bag)| group_mark(group, bag.iter())).fold(0, u64::wrapping_add)
    }

    fn is_told(picture: &BTreeMap<Term, Bag>, told: &BTreeMap<Term, Bag>) -> bool {
        picture == told
    }

    fn all() -> Subscription {
        Subscription::Scope
    }

    fn draw_key(&self, _nodes: usize, random: &mut Random) -> Subscription {
        Subscription::Group(GROUPS[random.below(3)].clone())
    }

    fn first(key: &Subscription, initial: Initial) -> BTreeMap<Term, Bag> {
        let all = match (key, initial) {
            (_, Initial::Scope(all)) => all,
            (Subscription::Group(group), Initial::Group(pids)) => vec![(group.clone(), pids)],
            (Subscription::Scope, Initial::Group(_)) => panic!("one group instead of all"),
        };
        let bags = all.into_iter().map(|(group, pids)| (group, pids.iter().cloned().collect()));
        bags.filter(|(_, bag): &(_, Bag)| !bag.is_empty()).collect()
    }

    fn hear(told: &mut BTreeMap<Term, Bag>, event: Event) {
        match event {
            Event::Join { group, pids } => {
                assert!(!pids.is_empty(), "nobody joined");
                let bag = told.entry(group).or_default();
                pids.iter().for_each(|pid| bag.add(pid.clone()));
            }
            Event::Leave { group, pids } => {
                assert!(!pids.is_empty(), "nobody left");
                let bag = told.entry(group.clone()).or_default();
                for pid in pids.iter() {
                    assert!(bag.remove(pid), "{pid} left {group} without being in it");
                }
                if bag.is_empty() {
                    told.remove(&group);
                }
            }
        }
    }

    fn part(told: &BTreeMap<Term, Bag>, key: &Subscription) -> BTreeMap<Term, Bag> {
        match key {
            Subscription::Scope => told.clone(),
            Subscription::Group(group) => {
                told.get(group).map(|bag| (group.clone(), bag.clone())).into_iter().collect()
            }
        }
    }

    /// Nothing leaves that its receiver wouldn't survive.
    fn allows(&self, (): &(), to: Option<&Role<Self>>, message: &Term) -> bool {
        let allows = |version: i64| is_allowed_shape(Some(&Version::from(version)), message);
        match to {
            None => is_allowed_shape(None, message),
            Some(Runs::Beam(Release::Otp25 | Release::Otp27)) => allows(0),
            Some(_) => allows(0) || allows(1),
        }
    }

    fn spoof(&self, third: &Pid, random: &mut Random) -> Term {
        let member = Pid { id: 999, ..third.clone() };
        match random.below(3) {
            0 => tuple![atom!("update"), third, list![tuple![1, list![member], list![]]]],
            1 => tuple![atom!("discover"), third],
            _ => {
                let sync = tuple![atom!("sync"), third, list![tuple![1, list![member]]]];
                tuple![atom!("$gen_cast"), sync]
            }
        }
    }

    fn garbage(
        &self,
        _from: &Role<Self>,
        (): &(),
        peer: &Pid,
        _is_known: bool,
        random: &mut Random,
    ) -> Term {
        match random.below(4) {
            0 => tuple![atom!("update"), peer, list![tuple![1, atom!("x"), list![]]]],
            1 => {
                let good = tuple![1, list![peer], list![]];
                tuple![atom!("update"), peer, list![good, atom!("x")]]
            }
            2 => tuple![atom!("join"), peer, 1, Term::list_with_tail(vec![1.into()], 2.into())],
            _ => tuple![atom!("$gen_cast"), tuple![atom!("sync"), peer, list![1]]],
        }
    }

    fn mutate(
        mutant: Mutant,
        engine: &Engine<PgPublisher>,
        actions: &mut Vec<Action<PgPublisher>>,
    ) {
        match mutant {
            Mutant::LeaveLost => actions.retain(|action| {
                !matches!(action, Action::Publish { message, .. } if message.tagged("leave").is_some())
            }),
            Mutant::JoinAsCast => {
                for action in actions.iter_mut() {
                    if let Action::Publish { message, .. } = action
                        && message.tagged("join").is_some()
                    {
                        *message = tuple![atom!("$gen_cast"), message.clone()];
                    }
                }
            }
            Mutant::LongDiscover => {
                for action in actions.iter_mut() {
                    if let Action::Send { message, .. } = action
                        && message.tagged("discover").is_some()
                    {
                        *message = tuple![atom!("discover"), engine.me(), 1];
                    }
                }
            }
            _ => {}
        }
    }
}

fn group_mark<'a>(group: &Term, pids: impl Iterator<Item = &'a Pid>) -> u64 {
    let group = mark(group);
    pids.map(|pid| mark_in(group, pid)).fold(0, u64::wrapping_add)
}

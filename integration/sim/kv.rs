//! `kv`: engines among models of `dp_kv`, on OTP 29's `data_publisher` and on ours.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use data_publisher::engine::Engine;
use data_publisher::kv::{Change, Event, Initial, KvPublisher, Owners, Subscription};
use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{atom, list, map, tuple};

use crate::behaviour::{Behaviour, Callbacks, Rules};
use crate::random::Random;
use crate::subject::{Processes, Role, Subject, mark};
use crate::world::Mutant;

static KEYS: LazyLock<[Term; 4]> = LazyLock::new(|| {
    let float = |value| Term::float_of(value).expect("finite");
    [1.into(), float(1.0), float(-0.0), atom!("k").into()]
});

static VALUES: LazyLock<[Term; 5]> = LazyLock::new(|| {
    let float = |value| Term::float_of(value).expect("finite");
    [0.into(), 1.into(), float(1.0), float(0.0), float(-0.0)]
});

type Keys = BTreeMap<Term, Term>;

pub(crate) struct Kv;

impl Subject for Kv {
    const NAME: &'static str = "kv";
    const PERCENT: u64 = 20;
    const MUTANTS: &'static [Mutant] = &[
        Mutant::NoGreeting,
        Mutant::SilentDrop,
        Mutant::LateDown,
        Mutant::SnapshotRefused,
        Mutant::NoDownOfEndedScope,
        Mutant::NoMonitorOnData,
        Mutant::DownByPid,
        Mutant::ReusedCreation,
        Mutant::DeletesForgotten,
        Mutant::EarlyUpdateApplied,
        Mutant::OldDownTakesYoungest,
        Mutant::NothingRestored,
        Mutant::RestoredInSilence,
        Mutant::HalfApplied,
        Mutant::UnreadablePassedOver,
        Mutant::NeverAskedAgain,
        Mutant::AskedAtOnce,
        Mutant::AskedEachTime,
    ];

    type Publisher = KvPublisher;
    type Edition = ();
    type Release = Rules;
    type Beam = Behaviour<DpKv>;
    type Picture = BTreeMap<Term, Owners>;
    type Told = BTreeMap<Term, Owners>;

    fn draw(_random: &mut Random) -> Self {
        Self
    }

    fn draw_edition(&self, _random: &mut Random) {}

    fn draw_release(&self, random: &mut Random) -> Rules {
        if random.chance(50) { Rules::Otp29 } else { Rules::Ours }
    }

    fn publisher(&self, (): &()) -> KvPublisher {
        KvPublisher
    }

    fn beam(&self, rules: &Rules, me: Pid, left: Option<Keys>) -> Behaviour<DpKv> {
        Behaviour::new(*rules, DpKv, me, left)
    }

    fn draw_update(
        &self,
        _role: &Role<Self>,
        _processes: &mut Processes,
        random: &mut Random,
    ) -> Option<Vec<Change>> {
        let changes = (0..=random.below(2)).map(|_| {
            let key = &KEYS[random.below(4)];
            match random.below(5) {
                0 | 1 => Change::delete(key),
                value => Change::put(key, VALUES[value].clone()),
            }
        });
        Some(changes.collect())
    }

    fn nothing() -> Keys {
        Keys::new()
    }

    fn apply(update: &Vec<Change>, data: &mut Keys) {
        for change in update {
            match change {
                Change::Put { key, value } => data.insert(key.clone(), value.clone()),
                Change::Delete { key } => data.remove(key),
            };
        }
    }

    fn marks(data: &Keys) -> [u64; 2] {
        [data.iter().map(|pair| mark(&pair)).fold(0, u64::wrapping_add); 2]
    }

    fn sum<'a>(data: impl Iterator<Item = (&'a NodeName, &'a Keys)>) -> BTreeMap<Term, Owners> {
        let mut sum: BTreeMap<Term, Owners> = BTreeMap::new();
        for (node, keys) in data {
            for (key, value) in keys {
                sum.entry(key.clone()).or_default().insert(node.clone(), value.clone());
            }
        }
        sum
    }

    fn picture(engine: &Engine<KvPublisher>) -> BTreeMap<Term, Owners> {
        engine.view().all().clone()
    }

    fn view_marks(engine: &Engine<KvPublisher>) -> [u64; 2] {
        [Self::told_mark(engine.view().all()); 2]
    }

    fn told_mark(told: &BTreeMap<Term, Owners>) -> u64 {
        let all = told.iter().flat_map(|(key, owners)| {
            owners.iter().map(move |(node, value)| (node, mark(&(key, value))))
        });
        all.map(|(node, mark)| mark.wrapping_mul(Self::factor(node))).fold(0, u64::wrapping_add)
    }

    fn is_told(picture: &BTreeMap<Term, Owners>, told: &BTreeMap<Term, Owners>) -> bool {
        picture == told
    }

    fn all() -> Subscription {
        Subscription::All
    }

    fn draw_key(&self, _nodes: usize, random: &mut Random) -> Subscription {
        Subscription::Key(KEYS[random.below(4)].with_positive_zeros())
    }

    fn first(key: &Subscription, initial: Initial) -> BTreeMap<Term, Owners> {
        match (key, initial) {
            (_, Initial::All(all)) => all,
            (Subscription::Key(_), Initial::Key(owners)) if owners.is_empty() => BTreeMap::new(),
            (Subscription::Key(key), Initial::Key(owners)) => [(key.clone(), owners)].into(),
            (Subscription::All, Initial::Key(_)) => panic!("one key instead of all"),
        }
    }

    fn hear(told: &mut BTreeMap<Term, Owners>, event: Event) {
        match event {
            Event::Put { node, key, value } => {
                let before = told.entry(key.clone()).or_default().insert(node.clone(), value);
                let now = told.get(&key).and_then(|owners| owners.get(&node));
                assert_ne!(before.as_ref(), now, "{key} of {node} is put as it was");
            }
            Event::Delete { node, key } => {
                let owners = told.get_mut(&key);
                let was_there = owners.is_some_and(|owners| owners.remove(&node).is_some());
                assert!(was_there, "{node} deleted {key} without having it");
                told.retain(|_, owners| !owners.is_empty());
            }
        }
    }

    fn part(told: &BTreeMap<Term, Owners>, key: &Subscription) -> BTreeMap<Term, Owners> {
        match key {
            Subscription::All => told.clone(),
            Subscription::Key(key) => {
                told.get(key).map(|owners| (key.clone(), owners.clone())).into_iter().collect()
            }
        }
    }

    fn allows(&self, (): &(), to: Option<&Role<Self>>, message: &Term) -> bool {
        if let Some([Term::Pid(_), version]) = message.tagged("discover") {
            return *version == Term::Integer(1);
        }
        if let Some([Term::Pid(_), update]) = message.tagged("update") {
            return to.is_some() && *update != Term::NIL && is_update(update);
        }
        let Some([cast]) = message.tagged("$gen_cast") else { return false };
        let one = Term::Integer(1);
        to.is_some()
            && matches!(cast.tagged("local_data"), Some([Term::Pid(_), label, Term::Map(_)]) if *label == one)
    }

    fn spoof(&self, third: &Pid, random: &mut Random) -> Term {
        match random.below(3) {
            0 => tuple![atom!("update"), third, list![tuple![atom!("put"), 1, 99]]],
            1 => tuple![atom!("discover"), third, 1],
            _ => {
                let data = tuple![atom!("local_data"), third, 1, map![1 => 99]];
                tuple![atom!("$gen_cast"), data]
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
        let put = tuple![atom!("put"), 1, 99];
        match random.below(4) {
            0 => tuple![atom!("update"), peer, list![put, tuple![atom!("rename"), 1, 2]]],
            1 => tuple![atom!("update"), peer, atom!("x")],
            2 => {
                let update = Term::list_with_tail(vec![put], atom!("x").into());
                tuple![atom!("update"), peer, update]
            }
            _ => {
                let data = list![tuple![1, 99]];
                tuple![atom!("$gen_cast"), tuple![atom!("local_data"), peer, 1, data]]
            }
        }
    }
}

fn is_update(update: &Term) -> bool {
    let is_change = |change: &Term| {
        matches!(change.tagged("put"), Some([_, _])) || matches!(change.tagged("delete"), Some([_]))
    };
    matches!(update, Term::List(changes) if changes.iter().all(is_change))
}

/// `dp_kv.erl`.
pub(crate) struct DpKv;

impl Callbacks for DpKv {
    type Update = Vec<Change>;
    type Data = Keys;

    fn version(&self) -> Term {
        1.into()
    }

    fn update_term(&self, update: &Vec<Change>) -> Term {
        Term::list_of(update.iter().map(|change| match change {
            Change::Put { key, value } => tuple![atom!("put"), key, value],
            Change::Delete { key } => tuple![atom!("delete"), key],
        }))
    }

    fn update_local_data(&self, update: &Term, data: &mut Keys) -> Result<(), String> {
        if !is_update(update) {
            return Err(format!("can't read the update {update}"));
        }
        for change in update.list().into_iter().flat_map(|changes| changes.iter()) {
            match (change.tagged("put"), change.tagged("delete")) {
                (Some([key, value]), _) => data.insert(key.clone(), value.clone()),
                (_, Some([key])) => data.remove(key),
                _ => None,
            };
        }
        Ok(())
    }

    fn translate_update(&self, _theirs: &Term, update: &Term) -> Term {
        update.clone()
    }

    fn translate_local_data(&self, _theirs: &Term, data: &Keys) -> Term {
        Term::Map(data.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn read_local_data(&self, data: &Term) -> Result<Keys, String> {
        let pairs = data.map().map_err(|error| error.to_string())?.pairs();
        Ok(pairs.iter().cloned().collect())
    }

    /// In the table of `dp_kv_keeper`.
    fn keeps(&self) -> bool {
        true
    }
}

//! The publisher in two formats: engines of several versions among models of `dp_names` on OTP 29's
//! `data_publisher`, which mixes versions up, and on ours. Nodes go up and down in versions while it
//! runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use data_publisher::engine::{Engine, Version};
use data_publisher::term::{NodeName, Pid, Term};
use data_publisher::{atom, list, map, tuple};

use crate::behaviour::{Behaviour, Callbacks, Rules};
use crate::publishers::names::{Event, Format, Initial, Names, Op, Subscription};
use crate::random::Random;
use crate::subject::{Processes, Role, Runs, Subject, mark};
use crate::world::Mutant;

static NAMES: LazyLock<[Term; 4]> = LazyLock::new(|| {
    let float = Term::float_of(1.0).expect("finite");
    [1.into(), float, atom!("n").into(), tuple![atom!("n"), 1]]
});

/// In term order.
static VERSIONS: LazyLock<[Term; 10]> = LazyLock::new(|| {
    [
        0.into(),
        1.into(),
        Term::float_of(1.5).expect("finite"),
        atom!("v1").into(),
        tuple![9],
        tuple![1, 2],
        map![],
        map![atom!("major") => 1],
        Term::string_of("1.2"),
        Term::binary_of("1.2"),
    ]
});

type Weights = BTreeMap<Term, i64>;

/// One version of the publisher.
#[derive(Clone, Debug)]
pub(crate) struct Edition {
    format: Format,
    version: Version,
}

impl Edition {
    /// The format it writes to another.
    fn format_for(&self, other: &Self) -> Format {
        if other.version < self.version { Format::One } else { self.format }
    }

    fn reads(&self, format: Format) -> bool {
        format == Format::One || self.format == Format::Two
    }
}

fn edition(role: &Role<TwoVersions>) -> &Edition {
    match role {
        Runs::Rust(edition) | Runs::Beam((_, edition)) => edition,
    }
}

pub(crate) struct TwoVersions {
    /// In the order of their versions; the first is of format 1, the last of format 2.
    editions: Vec<Edition>,
}

impl TwoVersions {
    fn draw_any(&self, random: &mut Random) -> Edition {
        self.editions[random.below(self.editions.len())].clone()
    }
}

impl Subject for TwoVersions {
    const NAME: &'static str = "names";
    const PERCENT: u64 = 20;
    const MUTANTS: &'static [Mutant] = &[
        Mutant::SilentDrop,
        Mutant::LabelTooHigh,
        Mutant::VersionFromLabel,
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

    type Publisher = Names;
    type Edition = Edition;
    type Release = (Rules, Edition);
    type Beam = Behaviour<DpNames>;
    type Picture = BTreeMap<NodeName, Weights>;
    type Told = BTreeMap<NodeName, BTreeSet<Term>>;

    fn draw(random: &mut Random) -> Self {
        let mut places = BTreeSet::new();
        let count = 2 + random.below(2);
        while places.len() < count {
            places.insert(random.below(VERSIONS.len()));
        }
        let firsts = 1 + random.below(count - 1);
        let editions = places.into_iter().enumerate().map(|(i, place)| Edition {
            format: if i < firsts { Format::One } else { Format::Two },
            version: Version(VERSIONS[place].clone()),
        });
        Self { editions: editions.collect() }
    }

    fn draw_edition(&self, random: &mut Random) -> Edition {
        self.draw_any(random)
    }

    fn draw_release(&self, random: &mut Random) -> (Rules, Edition) {
        let rules = if random.chance(60) { Rules::Otp29 } else { Rules::Ours };
        (rules, self.draw_any(random))
    }

    fn may_change(&self, role: &mut Role<Self>, random: &mut Random) {
        if random.chance(50) {
            let (Runs::Rust(edition) | Runs::Beam((_, edition))) = role;
            *edition = self.draw_any(random);
        }
    }

    fn publisher(&self, edition: &Edition) -> Names {
        Names::new(edition.format, edition.version.clone())
    }

    fn beam(
        &self,
        (rules, edition): &(Rules, Edition),
        me: Pid,
        left: Option<Weights>,
    ) -> Behaviour<DpNames> {
        Behaviour::new(*rules, DpNames(edition.clone()), me, left)
    }

    fn draw_update(
        &self,
        role: &Role<Self>,
        _processes: &mut Processes,
        random: &mut Random,
    ) -> Option<Vec<Op>> {
        let format = edition(role).format;
        let ops = (0..=random.below(2)).map(|_| {
            let name = NAMES[random.below(4)].clone();
            match (random.chance(40), format) {
                (true, _) => Op::Drop(name),
                (false, Format::One) => Op::Set(name, 1),
                (false, Format::Two) => Op::Set(name, [1, 2, 3][random.below(3)]),
            }
        });
        Some(ops.collect())
    }

    fn nothing() -> Weights {
        Weights::new()
    }

    fn apply(update: &Vec<Op>, data: &mut Weights) {
        for op in update {
            match op {
                Op::Set(name, weight) => data.insert(name.clone(), *weight),
                Op::Drop(name) => data.remove(name),
            };
        }
    }

    fn as_read(owner: &Role<Self>, reader: &Role<Self>, data: &Weights) -> Weights {
        if Self::is_translated(edition(owner), edition(reader)) {
            without_weights(data)
        } else {
            data.clone()
        }
    }

    fn is_translated(owner: &Edition, reader: &Edition) -> bool {
        owner.format_for(reader) == Format::One
    }

    fn marks(data: &Weights) -> [u64; 2] {
        let both = data.iter().map(|(name, weight)| [mark(&(name, weight)), mark(&(name, 1_i64))]);
        both.fold([0; 2], |[a, b], [c, d]| [a.wrapping_add(c), b.wrapping_add(d)])
    }

    fn sum<'a>(
        data: impl Iterator<Item = (&'a NodeName, &'a Weights)>,
    ) -> BTreeMap<NodeName, Weights> {
        let owning = data.filter(|(_, weights)| !weights.is_empty());
        owning.map(|(node, weights)| (node.clone(), weights.clone())).collect()
    }

    fn picture(engine: &Engine<Names>) -> BTreeMap<NodeName, Weights> {
        engine.publisher().view().weights()
    }

    fn view_marks(engine: &Engine<Names>) -> [u64; 2] {
        let mut sum = [0_u64; 2];
        engine.publisher().view().of_each(|node, weights| {
            let [a, b] = Self::marks(weights).map(|mark| mark.wrapping_mul(Self::factor(node)));
            sum = [sum[0].wrapping_add(a), sum[1].wrapping_add(b)];
        });
        sum
    }

    /// They hear no weights.
    fn told_mark(told: &BTreeMap<NodeName, BTreeSet<Term>>) -> u64 {
        let of_nodes = told.iter().map(|(node, names)| {
            let sum = names.iter().map(|name| mark(&(name, 1_i64))).fold(0, u64::wrapping_add);
            sum.wrapping_mul(Self::factor(node))
        });
        of_nodes.fold(0, u64::wrapping_add)
    }

    fn is_told(
        picture: &BTreeMap<NodeName, Weights>,
        told: &BTreeMap<NodeName, BTreeSet<Term>>,
    ) -> bool {
        let names = |(node, weights): (_, &Weights)| (node, weights.keys().cloned().collect());
        picture.iter().map(names).eq(told.iter().map(|(node, names)| (node, names.clone())))
    }

    fn without(picture: &mut BTreeMap<NodeName, Weights>, node: &NodeName) {
        picture.remove(node);
    }

    fn all() -> Subscription {
        Subscription::All
    }

    fn draw_key(&self, nodes: usize, random: &mut Random) -> Subscription {
        Subscription::Node(crate::world::node_name(random.below(nodes)))
    }

    fn first(key: &Subscription, initial: Initial) -> BTreeMap<NodeName, BTreeSet<Term>> {
        match (key, initial) {
            (_, Initial::All(all)) => all,
            (Subscription::Node(_), Initial::Node(names)) if names.is_empty() => BTreeMap::new(),
            (Subscription::Node(node), Initial::Node(names)) => [(node.clone(), names)].into(),
            (Subscription::All, Initial::Node(_)) => panic!("one node instead of all"),
        }
    }

    fn hear(told: &mut BTreeMap<NodeName, BTreeSet<Term>>, event: Event) {
        match event {
            Event::Add { node, name } => {
                let is_new = told.entry(node.clone()).or_default().insert(name.clone());
                assert!(is_new, "{node} has {name} already");
            }
            Event::Remove { node, name } => {
                let names = told.get_mut(&node);
                let was_there = names.is_some_and(|names| names.remove(&name));
                assert!(was_there, "{node} has lost {name} without having it");
                told.retain(|_, names| !names.is_empty());
            }
        }
    }

    fn part(
        told: &BTreeMap<NodeName, BTreeSet<Term>>,
        key: &Subscription,
    ) -> BTreeMap<NodeName, BTreeSet<Term>> {
        match key {
            Subscription::All => told.clone(),
            Subscription::Node(node) => {
                told.get(node).map(|names| (node.clone(), names.clone())).into_iter().collect()
            }
        }
    }

    /// Nothing leaves in a format above what its receiver announced, nor a label above the version
    /// of either: OTP 29 would believe it.
    fn allows(&self, from: &Edition, to: Option<&Role<Self>>, message: &Term) -> bool {
        if let Some([Term::Pid(_), version]) = message.tagged("discover") {
            return *version == from.version.0;
        }
        let Some(to) = to.map(edition) else { return false };
        if let Some([Term::Pid(_), update]) = message.tagged("update") {
            return *update != Term::NIL
                && update_format(update).is_some_and(|format| to.reads(format));
        }
        let Some([cast]) = message.tagged("$gen_cast") else { return false };
        let Some([Term::Pid(_), label, data]) = cast.tagged("local_data") else { return false };
        *label <= to.version.0
            && *label <= from.version.0
            && data_format(data).is_some_and(|format| to.reads(format))
    }

    /// A newer one with the label of an older one that it takes for its version: see
    /// [`behaviour`](crate::behaviour).
    fn misleads(owner: &Role<Self>, reader: &Role<Self>) -> bool {
        match (owner, reader) {
            (Runs::Beam((Rules::Otp29, owner)), Runs::Beam((Rules::Otp29, reader))) => {
                reader.version < owner.version
            }
            _ => false,
        }
    }

    fn spoof(&self, third: &Pid, random: &mut Random) -> Term {
        match random.below(3) {
            0 => tuple![atom!("update"), third, list![tuple![atom!("add"), 99]]],
            1 => tuple![atom!("discover"), third, &self.draw_any(random).version.0],
            _ => {
                let label = &self.draw_any(random).version.0;
                let data = tuple![atom!("local_data"), third, label, list![99]];
                tuple![atom!("$gen_cast"), data]
            }
        }
    }

    /// OTP 29 sends no local data before it's asked, and then its version with it.
    fn garbage(
        &self,
        from: &Role<Self>,
        to: &Edition,
        peer: &Pid,
        is_known: bool,
        random: &mut Random,
    ) -> Term {
        let add = tuple![atom!("add"), 99];
        // For format 1 it's format 2 that can't be read.
        let (set, data) = match to.format {
            Format::One => (tuple![atom!("set"), 99, 1], map![99 => 1]),
            Format::Two => (tuple![atom!("set"), 99, atom!("x")], map![99 => atom!("x")]),
        };
        let is_otp_29 = matches!(from, Runs::Beam((Rules::Otp29, _)));
        match random.below(if is_known || !is_otp_29 { 4 } else { 3 }) {
            0 => tuple![atom!("update"), peer, list![add, set]],
            1 => tuple![atom!("update"), peer, atom!("x")],
            2 => tuple![atom!("update"), peer, list![tuple![atom!("paint"), 1]]],
            _ => {
                let label = (&edition(from).version).min(&to.version);
                let data = tuple![atom!("local_data"), peer, &label.0, data];
                tuple![atom!("$gen_cast"), data]
            }
        }
    }
}

fn without_weights(data: &Weights) -> Weights {
    data.keys().map(|name| (name.clone(), 1)).collect()
}

/// `None` if it's of neither.
fn update_format(update: &Term) -> Option<Format> {
    let formats = update.list().ok()?.iter().map(|change| {
        match (change.tagged("add").or(change.tagged("remove")), change.tagged("set")) {
            (Some([_]), _) => Some(Format::One),
            (_, Some([_, Term::Integer(_)])) => Some(Format::Two),
            _ => matches!(change.tagged("drop"), Some([_])).then_some(Format::Two),
        }
    });
    let formats: Vec<Format> = formats.collect::<Option<_>>()?;
    Some(if formats.contains(&Format::Two) { Format::Two } else { Format::One })
}

fn data_format(data: &Term) -> Option<Format> {
    match data {
        Term::List(_) => Some(Format::One),
        Term::Map(_) => Some(Format::Two),
        _ => None,
    }
}

/// `dp_names.erl`.
pub(crate) struct DpNames(Edition);

impl DpNames {
    fn writes_format_1_to(&self, theirs: &Term) -> bool {
        self.0.format == Format::One || *theirs < self.0.version.0
    }
}

impl Callbacks for DpNames {
    type Update = Vec<Op>;
    type Data = Weights;

    fn version(&self) -> Term {
        self.0.version.0.clone()
    }

    fn update_term(&self, update: &Vec<Op>) -> Term {
        Term::list_of(update.iter().map(|op| match (self.0.format, op) {
            (Format::One, Op::Set(name, _)) => tuple![atom!("add"), name],
            (Format::One, Op::Drop(name)) => tuple![atom!("remove"), name],
            (Format::Two, Op::Set(name, weight)) => tuple![atom!("set"), name, *weight],
            (Format::Two, Op::Drop(name)) => tuple![atom!("drop"), name],
        }))
    }

    /// What format 1 can't read it passes over.
    fn update_local_data(&self, update: &Term, data: &mut Weights) -> Result<(), String> {
        for change in update.list().map_err(|error| error.to_string())?.iter() {
            match (change.tuple_elements(), self.0.format) {
                (Ok([word, name]), _) if word.is_atom("add") => data.insert(name.clone(), 1),
                (Ok([word, name]), _) if word.is_atom("remove") => data.remove(name),
                (Ok([word, name, Term::Integer(weight)]), Format::Two) if word.is_atom("set") => {
                    data.insert(name.clone(), *weight)
                }
                (Ok([word, name]), Format::Two) if word.is_atom("drop") => data.remove(name),
                _ => None,
            };
        }
        Ok(())
    }

    fn translate_update(&self, theirs: &Term, update: &Term) -> Term {
        if !self.writes_format_1_to(theirs) {
            return update.clone();
        }
        let changes = update.list().into_iter().flat_map(|changes| changes.iter());
        Term::list_of(changes.map(|change| match (change.tagged("set"), change.tagged("drop")) {
            (Some([name, _]), _) => tuple![atom!("add"), name],
            (_, Some([name])) => tuple![atom!("remove"), name],
            _ => change.clone(),
        }))
    }

    fn translate_local_data(&self, theirs: &Term, data: &Weights) -> Term {
        if self.writes_format_1_to(theirs) {
            return Term::list_of(data.keys().cloned());
        }
        Term::Map(data.iter().map(|(name, weight)| (name.clone(), Term::from(*weight))).collect())
    }

    fn read_local_data(&self, data: &Term) -> Result<Weights, String> {
        match (data, self.0.format) {
            (Term::List(names), _) => Ok(names.iter().map(|name| (name.clone(), 1)).collect()),
            (Term::Map(weights), Format::Two) => weights
                .pairs()
                .iter()
                .map(|(name, weight)| Ok((name.clone(), weight.integer()?)))
                .collect::<Result<_, data_publisher::term::BadTerm>>()
                .map_err(|error| error.to_string()),
            (Term::Map(_), Format::One) => Ok(Weights::new()),
            _ => Err(format!("can't read the local data {data}")),
        }
    }

    fn keeps(&self) -> bool {
        false
    }
}

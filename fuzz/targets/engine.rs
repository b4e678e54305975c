//! Two engines hear the same messages, one as bytes where it can, one as terms: they do the same, what
//! they hold stays whole, and nothing leaves that a scope of OTP wouldn't survive.

use std::collections::BTreeMap;

use data_publisher::atom;
use data_publisher::engine::{
    Action, CallerId, DataPublisher, Engine, EngineOptions, Input, MonitorId, SubscriberId,
    TimerId, Version,
};
use data_publisher::kv::{self, KvPublisher};
use data_publisher::pg::{self, PgPublisher};
use data_publisher::term::{Creation, Destination, NodeName, Pid, Term};
use data_publisher::wire::{Flags, FragmentLimits, Inbound, Incoming, Payload, SignalError};

use super::script::Script;

/// After so many inputs it's all been seen.
const MOST_INPUTS: usize = 64;

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let kind = script.byte();
    let options = EngineOptions::default().standalone(kind & 2 != 0);
    if kind & 1 == 0 {
        Pair::<PgPublisher>::new(PgPublisher::new, options).run(script);
    } else {
        Pair::<KvPublisher>::new(|| KvPublisher, options).run(script);
    }
}

/// What the test knows of a publisher.
trait Subject: DataPublisher {
    fn update(script: &mut Script<'_>) -> Self::Update;
    fn key(script: &mut Script<'_>) -> Self::Subscription;
    /// What the view shows, and what it should.
    fn views(engine: &Engine<Self>) -> [BTreeMap<Term, Vec<Term>>; 2];
    fn allows(version: Option<&Version>, message: &Term) -> bool;
}

struct Pair<P: DataPublisher> {
    publisher: fn() -> P,
    /// Is given messages as bytes.
    one: Engine<P>,
    other: Engine<P>,
    monitors: Vec<(MonitorId, Pid)>,
    timers: Vec<TimerId>,
}

impl<P: Subject> Pair<P>
where
    P::Update: Clone,
    Action<P>: std::fmt::Debug,
{
    fn new(publisher: fn() -> P, options: EngineOptions) -> Self {
        let engine = || Engine::new(atom!("scope"), pid("us@h", 1), publisher(), options);
        Self { publisher, one: engine(), other: engine(), monitors: Vec::new(), timers: Vec::new() }
    }

    fn fresh(&self) -> Engine<P> {
        let options = EngineOptions::default();
        Engine::new(atom!("scope"), pid("us@h", 1), (self.publisher)(), options)
    }

    fn run(mut self, mut script: Script<'_>) {
        for _ in 0..MOST_INPUTS {
            if script.is_empty() {
                break;
            }
            self.input(&mut script);
            self.one.check();
            self.other.check();
            let [seen, expected] = P::views(&self.one);
            assert_eq!(seen, expected, "the view");
        }
        assert_eq!(P::views(&self.one), P::views(&self.other));
        assert_eq!(self.one.counters(), self.other.counters());
        assert!(self.one.peers().eq(self.other.peers()));
        assert!(self.one.monitors().eq(self.other.monitors()));
    }

    fn input(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0..=8 => {
                let who = script.byte();
                with_payload(script.counted(), |payload| self.message(who, payload));
            }
            9 => self.both(|| Input::NodeUp(node(0))),
            10 => {
                let node = node(script.byte());
                self.both(|| Input::NodeDown(node.clone()));
            }
            11 => {
                let which = usize::from(script.byte());
                let found = self.monitors.get(which % self.monitors.len().max(1)).cloned();
                let (monitor, pid) = found.unwrap_or((MonitorId(which as u64), pid("a@h", 1)));
                let reason = Term::from(atom!("noproc"));
                self.both(|| Input::Down { monitor, pid: pid.clone(), reason: reason.clone() });
            }
            12 => {
                let which = usize::from(script.byte());
                let found = self.timers.get(which % self.timers.len().max(1));
                let timer = found.copied().unwrap_or(TimerId(which as u64));
                self.both(|| Input::Timer(timer));
            }
            13 => {
                let update = P::update(script);
                self.both(|| Input::Update { update: update.clone(), caller: CallerId(1) });
            }
            14 => {
                let (key, subscriber) = (P::key(script), SubscriberId(script.byte().into()));
                self.both(|| Input::Subscribe { key: key.clone(), subscriber });
            }
            _ => {
                let subscriber = SubscriberId(script.byte().into());
                self.both(|| Input::Unsubscribe { subscriber });
            }
        }
    }

    fn both(&mut self, input: impl Fn() -> Input<P>) {
        let (mut actions, mut expected) = (Vec::new(), Vec::new());
        let before = self.versions();
        self.one.handle(input(), &mut actions);
        self.other.handle(input(), &mut expected);
        self.acted(&actions, &expected, before);
    }

    fn message(&mut self, who: u8, payload: Option<&Payload<'_>>) {
        let Some(payload) = payload else { return };
        let before = self.versions();
        let (mut actions, mut expected) = (Vec::new(), Vec::new());
        let message = match payload.decode() {
            Ok(message) => message,
            Err(SignalError::Payload { source, .. }) if source.is_beyond_limits() => {
                // Its sender can be known all the same, to both or to none.
                let from = node(who);
                let mut heard = [false; 2];
                for (index, (engine, actions)) in
                    [(&mut self.one, &mut actions), (&mut self.other, &mut expected)]
                        .into_iter()
                        .enumerate()
                {
                    if let Some(mut pieces) = payload.pieces() {
                        heard[index] = engine.handle_unreadable(&from, &mut pieces, actions);
                    }
                }
                assert_eq!(heard[0], heard[1]);
                return self.acted(&actions, &expected, before);
            }
            Err(_) => {
                let mut fresh = self.fresh();
                let taken = payload.pieces().is_some_and(|mut pieces| {
                    fresh.handle_pieces(&node(who), &mut pieces, &mut actions)
                });
                assert!(!taken, "taken from bytes that are no term");
                return;
            }
        };
        let from = match sender(&message) {
            Some(pid) if who & 1 == 0 => pid.node.clone(),
            _ => node(who >> 1),
        };
        let input = || Input::Message { from: from.clone(), message: message.clone() };
        let taken = payload
            .pieces()
            .is_some_and(|mut pieces| self.one.handle_pieces(&from, &mut pieces, &mut actions));
        if !taken {
            assert!(actions.is_empty(), "not taken, but heard");
            self.one.handle(input(), &mut actions);
        }
        self.other.handle(input(), &mut expected);
        assert_eq!(format!("{actions:?}"), format!("{expected:?}"), "as bytes and as terms");
        // A caller gets back the tag it gave, whatever that is.
        if let Some([from, _]) = message.tagged("$gen_call")
            && let Ok([_, tag]) = from.tuple::<2>()
        {
            for actions in [&mut actions, &mut expected] {
                actions.retain(|action| {
                    !matches!(action, Action::Send { message, .. } if first_of(message) == Some(tag))
                });
            }
        }
        self.acted(&actions, &expected, before);
    }

    fn versions(&self) -> BTreeMap<Pid, Option<Version>> {
        self.one.peers().map(|peer| (peer.pid, peer.version)).collect()
    }

    fn acted(
        &mut self,
        actions: &[Action<P>],
        expected: &[Action<P>],
        mut versions: BTreeMap<Pid, Option<Version>>,
    ) {
        assert_eq!(format!("{actions:?}"), format!("{expected:?}"), "as bytes and as terms");
        versions.extend(self.versions());
        for action in actions {
            match action {
                Action::Send { to, message } => Self::sent(to, message, &versions),
                Action::Publish { peers, message } => {
                    assert!(!peers.is_empty());
                    for peer in &**peers {
                        Self::sent(&Destination::from(peer), message, &versions);
                    }
                }
                Action::Monitor { id, pid } => self.monitors.push((*id, pid.clone())),
                Action::After { timer, .. } => self.timers.push(*timer),
                _ => {}
            }
        }
    }

    /// Answers to calls go to anybody; the rest is for scopes.
    fn sent(to: &Destination, message: &Term, versions: &BTreeMap<Pid, Option<Version>>) {
        let version = match to {
            Destination::Name(..) => None,
            Destination::Pid(pid) => match versions.get(pid) {
                Some(version) => version.as_ref(),
                None => return assert!(is_answer(message), "a stranger is sent {message}"),
            },
            Destination::Alias(_) => return assert!(is_answer(message), "{to} is sent {message}"),
        };
        // Without its `discover` a peer's version is what the label of its data says, which we can't
        // see from here.
        let labels = [Version::from(0), Version::from(1)];
        let is_named = matches!(to, Destination::Name(..));
        let is_allowed = P::allows(version, message)
            || (!is_named
                && version.is_none()
                && labels.iter().any(|label| P::allows(Some(label), message)))
            || is_answer(message);
        assert!(is_allowed, "{to} of version {version:?} is sent {message}");
    }
}

fn first_of(message: &Term) -> Option<&Term> {
    message.tuple_elements().ok()?.first()
}

/// `{Tag, Reply}`, or what a subscriber gets, `{Ref, ...}`.
fn is_answer(message: &Term) -> bool {
    const WORDS: [&str; 6] = ["discover", "local_data", "update", "join", "leave", "$gen_cast"];
    first_of(message).is_some_and(|first| !WORDS.iter().any(|word| first.is_atom(word)))
}

/// The pid in `{Word, Pid, ...}`, as it is or cast.
fn sender(message: &Term) -> Option<&Pid> {
    let message = match message.tagged("$gen_cast") {
        Some([message]) => message,
        _ => message,
    };
    message.tuple_elements().ok()?.get(1)?.pid().ok()
}

fn node(which: u8) -> NodeName {
    let names = ["a@h", "b@h", "us@h", "c@h"];
    NodeName::new(names[usize::from(which) % names.len()]).expect("a name")
}

fn pid(node: &str, id: u32) -> Pid {
    let node = NodeName::new(node).expect("a name");
    Pid { node, id, serial: 0, creation: Creation(1) }
}

/// Has a term's bytes, without their 131, read as a message.
fn with_payload(term: &[u8], read: impl FnOnce(Option<&Payload<'_>>)) {
    // {2, '', Pid}
    let control = b"\x83h\x03a\x02w\x00Xw\x03a@h\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01";
    let frame = [b"p", control.as_slice(), b"\x83", term].concat();
    let limits = FragmentLimits { sequences: 1, bytes: 1, message: 1 };
    let mut inbound = Inbound::new(Flags::REQUIRED, limits);
    match inbound.incoming(&frame) {
        Ok(Some(Incoming::Message(message))) => read(Some(&message.payload)),
        other => panic!("{other:?}"),
    }
}

impl Subject for PgPublisher {
    fn update(script: &mut Script<'_>) -> Vec<pg::Change> {
        let how = script.byte();
        let pids = (0..how >> 4 & 3).map(|_| pid("us@h", 10 + u32::from(script.byte() % 4)));
        let pids: Vec<Pid> = pids.collect();
        let group = Term::from(i64::from(script.byte() % 4));
        vec![if how & 1 == 0 {
            pg::Change::join(&group, pids)
        } else {
            pg::Change::leave(&group, pids)
        }]
    }

    fn key(script: &mut Script<'_>) -> pg::Subscription {
        match script.byte() % 5 {
            0 => pg::Subscription::Scope,
            group => pg::Subscription::Group(i64::from(group).into()),
        }
    }

    fn views(engine: &Engine<Self>) -> [BTreeMap<Term, Vec<Term>>; 2] {
        let seen = engine.view().members().all();
        let seen = seen.iter().map(|(group, pids)| (group.clone(), sorted(pids.iter())));
        let mut sum: BTreeMap<Term, Vec<&Pid>> = BTreeMap::new();
        let all = engine.shown().map(|(_, data)| data).chain([engine.local_data()]);
        for (group, bag) in all.flat_map(pg::Groups::sorted) {
            sum.entry(group.clone()).or_default().extend(bag.iter());
        }
        let sum = sum.into_iter().map(|(group, pids)| (group, sorted(pids.into_iter())));
        [seen.collect(), sum.collect()]
    }

    fn allows(version: Option<&Version>, message: &Term) -> bool {
        pg::is_allowed_shape(version, message)
    }
}

fn sorted<'a>(pids: impl Iterator<Item = &'a Pid>) -> Vec<Term> {
    let mut pids: Vec<Term> = pids.map(Term::from).collect();
    pids.sort();
    pids
}

impl Subject for KvPublisher {
    fn update(script: &mut Script<'_>) -> Vec<kv::Change> {
        let (how, key) = (script.byte(), Term::from(i64::from(script.byte() % 4)));
        vec![if how & 1 == 0 {
            kv::Change::put(&key, i64::from(how).into())
        } else {
            kv::Change::delete(&key)
        }]
    }

    fn key(script: &mut Script<'_>) -> kv::Subscription {
        match script.byte() % 5 {
            0 => kv::Subscription::All,
            key => kv::Subscription::Key(i64::from(key).into()),
        }
    }

    fn views(engine: &Engine<Self>) -> [BTreeMap<Term, Vec<Term>>; 2] {
        let mut seen: BTreeMap<Term, Vec<Term>> = BTreeMap::new();
        for (key, owners) in engine.view().all() {
            let values = owners.iter().map(|(owner, value)| data_publisher::tuple![owner, value]);
            seen.insert(key.clone(), values.collect());
        }
        let mut sum: BTreeMap<Term, Vec<Term>> = BTreeMap::new();
        let all = engine.shown().map(|(peer, data)| (&peer.node, data));
        for (owner, data) in all.chain([(&engine.me().node, engine.local_data())]) {
            for (key, value) in data {
                let values = sum.entry(key.clone()).or_default();
                values.push(data_publisher::tuple![owner, value]);
                values.sort();
            }
        }
        [seen, sum]
    }

    fn allows(_: Option<&Version>, message: &Term) -> bool {
        let cast = message.tagged("$gen_cast").and_then(|cast| cast.first());
        matches!(message.tagged("discover"), Some([Term::Pid(_), _]))
            || matches!(message.tagged("update"), Some([Term::Pid(_), Term::List(_)]))
            || cast.is_some_and(|cast| {
                matches!(cast.tagged("local_data"), Some([Term::Pid(_), _, Term::Map(_)]))
            })
    }
}

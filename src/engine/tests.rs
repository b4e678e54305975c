//! Each rule of the engine, and each race that concerns it, with a publisher whose view is keyed by
//! node: every node publishes a number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::subscribers::MOST_OF_NODE;
use super::{
    Action, CallerId, DataPublisher, Effects, Engine, EngineOptions, Input, MonitorId,
    SubscriberId, TimerId, Version, Wire,
};
use crate::term::{Atom, BadTerm, Creation, Destination, NodeName, Pid, Reference, Term};
use crate::{atom, list, map, tuple};

/// Version 2 writes `{load, N}`; version 1 wrote `N`.
#[derive(Clone, Debug, PartialEq)]
struct Load;

impl DataPublisher for Load {
    type LocalData = i64;
    type Update = i64;
    type GlobalView = BTreeMap<NodeName, i64>;
    type Subscription = ();
    type Initial = BTreeMap<NodeName, i64>;
    type Event = (NodeName, i64);

    fn version(&self) -> Version {
        2.into()
    }
    fn init_local_data(&self) -> i64 {
        0
    }
    fn init_global_view(&mut self, _scope: &Atom) -> Self::GlobalView {
        BTreeMap::new()
    }
    fn update_local_data(&self, update: i64, data: &mut i64) -> Option<i64> {
        (std::mem::replace(data, update) != update).then_some(update)
    }
    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &i64,
        view: &mut Self::GlobalView,
        effects: &mut Effects<'_, Self>,
    ) {
        match update {
            0 => view.remove(origin),
            _ => view.insert(origin.clone(), *update),
        };
        effects.notify(&(), &(origin.clone(), *update));
    }
    fn data_diff(&self, old: &i64, new: &i64) -> Option<i64> {
        (old != new).then_some(*new)
    }
    fn new_subscription(&self, _key: &(), view: &Self::GlobalView) -> Self::Initial {
        view.clone()
    }
    fn translate_update(&self, _me: &Pid, peer: &Version, update: &i64) -> Wire {
        Wire::Term(if *peer < 2.into() { (*update).into() } else { load(*update) })
    }
    fn translate_local_data(&self, me: &Pid, peer: &Version, data: &i64) -> Wire {
        self.translate_update(me, peer, data)
    }
    fn read_update(&self, term: &Term) -> Result<i64, BadTerm> {
        match term.tagged("load") {
            Some([number]) => number.integer(),
            _ => term.integer(),
        }
    }
    fn read_local_data(&self, term: &Term) -> Result<i64, BadTerm> {
        self.read_update(term)
    }
    fn read_subscription(&self, term: &Term) -> Result<(), BadTerm> {
        if term.is_atom("all") { Ok(()) } else { Err(BadTerm::new("all", term)) }
    }
    fn initial_term(&self, initial: &Self::Initial) -> Term {
        let pairs = initial.iter().map(|(node, load)| (Term::from(node), Term::from(*load)));
        Term::Map(pairs.collect())
    }
    fn event_term(&self, reference: &Reference, (node, load): &Self::Event) -> Term {
        tuple![reference, node, *load]
    }
}

fn load(number: i64) -> Term {
    tuple![atom!("load"), number]
}

fn node(name: &str) -> NodeName {
    NodeName::new(&format!("{name}@h")).unwrap()
}

fn pid(name: &str, id: u32) -> Pid {
    Pid { node: node(name), id, serial: 0, creation: Creation(4) }
}

fn me() -> Pid {
    pid("me", 1)
}

fn discover(from: &Pid, version: i64) -> Term {
    tuple![atom!("discover"), from, version]
}

fn local_data(from: &Pid, label: i64, data: impl Into<Term>) -> Term {
    let message = tuple![atom!("local_data"), from, label, data.into()];
    tuple![atom!("$gen_cast"), message]
}

fn update(from: &Pid, update: impl Into<Term>) -> Term {
    tuple![atom!("update"), from, update.into()]
}

fn to(pid: &Pid, message: Term) -> Action<Load> {
    Action::Send { to: pid.into(), message }
}

fn to_name(name: &str) -> Action<Load> {
    let to = Destination::Name(atom!("s"), node(name));
    Action::Send { to, message: discover(&me(), 2) }
}

fn monitor(id: u64, pid: &Pid) -> Action<Load> {
    Action::Monitor { id: MonitorId(id), pid: pid.clone() }
}

fn after(seconds: u64, timer: u64) -> Action<Load> {
    Action::After { delay: Duration::from_secs(seconds), timer: TimerId(timer) }
}

impl Engine<Load> {
    fn run(&mut self, input: Input<Load>) -> Vec<Action<Load>> {
        let mut actions = Vec::new();
        self.handle(input, &mut actions);
        self.check();
        actions
    }

    /// A message from a process, over the connection of its node.
    fn hear(&mut self, from: &Pid, message: Term) -> Vec<Action<Load>> {
        self.run(Input::Message { from: from.node.clone(), message })
    }

    fn lose(&mut self, monitor: u64, pid: &Pid) -> Vec<Action<Load>> {
        let reason = atom!("noproc").into();
        self.run(Input::Down { monitor: MonitorId(monitor), pid: pid.clone(), reason })
    }

    fn fire(&mut self, timer: u64) -> Vec<Action<Load>> {
        self.run(Input::Timer(TimerId(timer)))
    }

    fn set(&mut self, update: i64) -> Vec<Action<Load>> {
        self.run(Input::Update { update, caller: CallerId(9) })
    }

    /// The names outlive the view only here, where leaking some bytes doesn't matter.
    fn seen(&self) -> Vec<(&'static str, i64)> {
        let name = |node: &NodeName| -> &'static str { node.short().to_owned().leak() };
        self.view().iter().map(|(node, load)| (name(node), *load)).collect()
    }
}

fn engine() -> Engine<Load> {
    Engine::new(atom!("s"), me(), Load, EngineOptions::default())
}

/// An engine that has met `a`, of version 2 and with this load, by monitor 1.
fn engine_with_peer(load_of_a: i64) -> (Engine<Load>, Pid) {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.hear(&a, discover(&a, 2));
    engine.hear(&a, local_data(&a, 2, load(load_of_a)));
    (engine, a)
}

#[test]
fn a_new_peer_gets_our_data_a_monitor_and_our_discover_in_this_order() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.set(7);
    assert_eq!(
        engine.hear(&a, discover(&a, 2)),
        [to(&a, local_data(&me(), 2, load(7))), monitor(1, &a), to(&a, discover(&me(), 2)),]
    );
}

#[test]
fn a_known_peer_that_asks_again_gets_our_data_and_nothing_else() {
    let (mut engine, a) = engine_with_peer(5);
    assert_eq!(engine.hear(&a, discover(&a, 2)), [to(&a, local_data(&me(), 2, load(0)))]);
}

#[test]
fn two_that_greet_at_once_have_one_monitor_each_and_stop_talking() {
    let b = pid("b", 1);
    let mut ours = engine();
    let mut theirs = Engine::new(atom!("s"), b.clone(), Load, EngineOptions::default());
    ours.set(1);
    theirs.set(2);
    let mut to_b: Vec<Term> = messages(&ours.run(Input::NodeUp(node("b"))));
    let mut to_us: Vec<Term> = messages(&theirs.run(Input::NodeUp(node("me"))));
    for _ in 0..4 {
        let heard_by_b = std::mem::take(&mut to_b);
        for message in std::mem::take(&mut to_us) {
            to_b.extend(messages(&ours.hear(&b, message)));
        }
        for message in heard_by_b {
            to_us.extend(messages(&theirs.hear(&me(), message)));
        }
    }
    assert_eq!((to_b, to_us), (vec![], vec![]));
    assert_eq!((ours.monitors().count(), theirs.monitors().count()), (1, 1));
    assert_eq!(*ours.view(), *theirs.view());
}

fn messages(actions: &[Action<Load>]) -> Vec<Term> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Send { message, .. } => Some(message.clone()),
        _ => None,
    });
    sent.collect()
}

#[test]
fn a_peer_is_known_by_its_local_data_too_and_heard_from_then_on() {
    let (mut engine, a) = (engine(), pid("a", 1));
    assert_eq!(engine.hear(&a, local_data(&a, 1, 5)), [monitor(1, &a), after(1, 1)]);
    assert_eq!(engine.seen(), [("a", 5)]);
    engine.hear(&a, update(&a, 6));
    assert_eq!(engine.seen(), [("a", 6)]);
}

#[test]
fn local_data_replaces_all_that_was_known_and_twice_the_same_changes_nothing() {
    let (mut engine, a) = engine_with_peer(5);
    engine.run(Input::Subscribe { key: (), subscriber: SubscriberId(1) });
    let event = (node("a"), 6);
    let told = Action::Notify { subscriber: SubscriberId(1), event };
    assert_eq!(engine.hear(&a, local_data(&a, 2, load(6))), [told]);
    assert_eq!(engine.hear(&a, local_data(&a, 2, load(6))), []);
}

#[test]
fn the_version_of_a_peer_is_what_its_discover_said_whatever_its_data_is_labelled_with() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.hear(&a, discover(&a, 1));
    // OTP 29 labels with our version.
    engine.hear(&a, local_data(&a, 2, 5));
    assert_eq!(engine.set(7)[0], publish(&[&a], update(&me(), 7)));
}

fn publish(peers: &[&Pid], message: Term) -> Action<Load> {
    Action::Publish { peers: peers.iter().map(|pid| (*pid).clone()).collect(), message }
}

#[test]
fn our_local_data_is_in_the_format_of_the_lower_version_and_labelled_so() {
    let mut engine = engine();
    engine.set(7);
    for (version, label, data) in [(1, 1, 7.into()), (2, 2, load(7)), (3, 2, load(7))] {
        let peer = pid(&format!("v{version}"), 1);
        let answer = engine.hear(&peer, discover(&peer, version));
        assert_eq!(answer[0], to(&peer, local_data(&me(), label, data)));
    }
    // Versions are ordered as terms: every atom is above every number.
    let peer = pid("atom", 1);
    let answer = engine.hear(&peer, tuple![atom!("discover"), &peer, atom!("next")]);
    assert_eq!(answer[0], to(&peer, local_data(&me(), 2, load(7))));
}

#[test]
fn an_update_is_encoded_once_for_all_peers_of_one_format() {
    let mut engine = engine();
    let peers = [("a", 2), ("b", 1), ("c", 3), ("d", 1)].map(|(name, version)| {
        let peer = pid(name, 1);
        engine.hear(&peer, discover(&peer, version));
        peer
    });
    let [a, b, c, d] = &peers;
    assert_eq!(
        engine.set(7),
        [
            publish(&[b, d], update(&me(), 7)),
            publish(&[a, c], update(&me(), load(7))),
            Action::Updated { caller: CallerId(9), changed: true },
        ]
    );
}

#[test]
fn an_update_that_changes_nothing_goes_nowhere() {
    let (mut engine, _) = engine_with_peer(5);
    engine.set(7);
    assert_eq!(engine.set(7), [Action::Updated { caller: CallerId(9), changed: false }]);
}

#[test]
fn a_peer_that_has_not_our_data_gets_no_update_for_its_data_will_hold_it() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.hear(&a, local_data(&a, 2, load(5)));
    assert_eq!(engine.set(7), [Action::Updated { caller: CallerId(9), changed: true }]);
    assert_eq!(
        engine.hear(&a, discover(&a, 2)),
        [
            to(&a, local_data(&me(), 2, load(7))),
            Action::PeerUp { peer: a.clone(), version: 2.into() },
        ]
    );
    assert_eq!(engine.set(8)[0], publish(&[&a], update(&me(), load(8))));
}

#[test]
fn a_peer_that_takes_us_for_known_gets_our_data_unasked_after_a_second() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.set(7);
    engine.hear(&a, local_data(&a, 1, 5));
    assert_eq!(
        engine.fire(1),
        [to(&a, local_data(&me(), 1, 7)), Action::PeerUp { peer: a.clone(), version: 1.into() }]
    );
    assert_eq!(engine.fire(1), []);
}

/// A label of our own version may be OTP 29's, which says nothing of its sender.
#[test]
fn a_peer_whose_discover_may_be_late_is_asked_before_it_gets_our_data_unasked() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.set(7);
    engine.hear(&a, local_data(&a, 2, 5));
    assert_eq!(engine.fire(1), [to(&a, discover(&me(), 2)), after(30, 2)]);
    // It was late, and of version 1.
    assert_eq!(engine.hear(&a, discover(&a, 1))[0], to(&a, local_data(&me(), 1, 7)));
    assert_eq!(engine.hear(&a, local_data(&a, 2, 5)), []);
    assert_eq!(engine.fire(2), []);
}

/// The data may be an answer to a question of the connection before; then the `discover` comes behind
/// the next.
#[test]
fn a_peer_whose_label_says_nothing_gets_our_data_unasked_after_31_seconds() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.set(7);
    engine.hear(&a, local_data(&a, 2, load(5)));
    assert_eq!(engine.fire(1), [to(&a, discover(&me(), 2)), after(30, 2)]);
    assert_eq!(engine.hear(&a, local_data(&a, 2, load(6))), []);
    assert_eq!(
        engine.fire(2),
        [
            to(&a, local_data(&me(), 2, load(7))),
            Action::PeerUp { peer: a.clone(), version: 2.into() }
        ]
    );
    assert_eq!(engine.hear(&a, local_data(&a, 2, load(6))), []);
}

#[test]
fn a_peer_that_was_just_asked_for_readable_data_is_not_asked_for_its_discover_as_well() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.set(7);
    engine.hear(&a, local_data(&a, 2, atom!("bad")));
    engine.hear(&a, local_data(&a, 2, load(5)));
    assert_eq!(engine.fire(1), []);
    assert_eq!(engine.fire(2)[0], to(&a, local_data(&me(), 2, load(7))));
}

#[test]
fn update_from_an_unknown_peer_changes_nothing() {
    let (mut engine, a) = (engine(), pid("a", 1));
    assert_eq!(engine.hear(&a, update(&a, 5)), []);
    assert_eq!(engine.hear(&a, update(&a, atom!("unreadable"))), []);
    assert_eq!(engine.seen(), []);
    assert_eq!(engine.peers().count(), 0);
    assert_eq!(engine.counters().strangers, 1);
}

#[test]
fn update_before_the_first_local_data_of_a_peer_is_ignored() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.hear(&a, discover(&a, 2));
    assert_eq!(engine.hear(&a, update(&a, load(5))), []);
    assert_eq!((engine.seen(), engine.counters().early), (vec![], 1));
}

#[test]
fn a_message_whose_pid_does_not_live_where_it_came_from_is_ignored_and_counted() {
    let (mut engine, a) = engine_with_peer(5);
    let b = pid("b", 1);
    for message in [update(&a, load(6)), discover(&a, 2), local_data(&a, 2, load(6))] {
        assert_eq!(engine.hear(&b, message), []);
    }
    assert_eq!((engine.seen(), engine.counters().spoofed), (vec![("a", 5)], 3));
}

#[test]
fn a_message_from_our_own_pid_or_node_is_ignored_and_counted() {
    let mut engine = engine();
    assert_eq!(engine.hear(&me(), discover(&me(), 2)), []);
    let other = pid("me", 2);
    assert_eq!(engine.hear(&other, local_data(&other, 2, load(6))), []);
    assert_eq!((engine.peers().count(), engine.counters().own), (0, 2));
}

#[test]
fn when_a_peer_is_down_its_data_goes() {
    let (mut engine, a) = engine_with_peer(5);
    let reason = Term::from(atom!("noproc"));
    assert_eq!(engine.lose(1, &a), [Action::PeerDown { peer: a.clone(), reason }]);
    assert_eq!((engine.seen(), engine.peers().count()), (vec![], 0));
}

#[test]
fn a_late_down_of_an_old_monitor_has_no_effect() {
    let (mut engine, a) = engine_with_peer(5);
    engine.lose(1, &a);
    engine.hear(&a, local_data(&a, 2, load(6)));
    assert_eq!(engine.lose(1, &a), []);
    assert_eq!((engine.seen(), engine.counters().late_downs), (vec![("a", 6)], 1));
}

#[test]
fn a_down_of_another_process_than_the_watched_has_no_effect() {
    let (mut engine, _) = engine_with_peer(5);
    assert_eq!(engine.lose(1, &pid("b", 1)), []);
    assert_eq!(engine.seen(), [("a", 5)]);
}

#[test]
fn no_peer_outlives_the_connection_to_its_node() {
    let (mut engine, a) = engine_with_peer(5);
    let reason = Term::from(atom!("noconnection"));
    assert_eq!(
        engine.run(Input::NodeDown(node("a"))),
        [Action::Demonitor { id: MonitorId(1) }, Action::PeerDown { peer: a.clone(), reason }]
    );
    assert_eq!(engine.seen(), []);
    assert_eq!(engine.lose(1, &a), []);
}

#[test]
fn of_two_processes_of_one_node_the_younger_is_shown_once_its_data_is_here() {
    let (mut engine, old) = engine_with_peer(5);
    let new = pid("a", 2);
    engine.hear(&new, discover(&new, 2));
    assert_eq!(engine.seen(), [("a", 5)]);
    engine.hear(&new, local_data(&new, 2, load(6)));
    assert_eq!(engine.seen(), [("a", 6)]);
    engine.hear(&old, update(&old, load(4)));
    assert_eq!(engine.seen(), [("a", 6)]);
    engine.lose(1, &old);
    assert_eq!(engine.seen(), [("a", 6)]);
}

#[test]
fn of_two_processes_of_one_node_the_older_is_shown_again_if_the_younger_ends() {
    let (mut engine, old) = engine_with_peer(5);
    let new = pid("a", 2);
    engine.hear(&new, local_data(&new, 2, load(6)));
    engine.hear(&old, update(&old, load(4)));
    engine.lose(2, &new);
    assert_eq!(engine.seen(), [("a", 4)]);
}

#[test]
fn of_the_processes_a_node_claims_to_be_the_scope_only_the_youngest_few_are_known() {
    let mut engine = engine();
    for id in 1..=100 {
        engine.hear(&pid("a", id), discover(&pid("a", id), 2));
        engine.hear(&pid("a", id), local_data(&pid("a", id), 2, load(id.into())));
    }
    let known: Vec<u32> = engine.peers().map(|peer| peer.pid.id).collect();
    assert_eq!(known, (85..=100).collect::<Vec<_>>());
    assert_eq!(engine.monitors().count(), 16);
    assert_eq!(engine.seen(), [("a", 100)]);
    assert_eq!(engine.counters().crowded_out, 84);
}

#[test]
fn a_peer_of_a_restarted_node_is_another_peer() {
    let (mut engine, a) = engine_with_peer(5);
    let again = Pid { creation: Creation(5), ..a.clone() };
    engine.hear(&again, local_data(&again, 2, load(6)));
    engine.lose(1, &a);
    assert_eq!(engine.seen(), [("a", 6)]);
    assert_eq!(engine.peers().map(|peer| peer.pid).collect::<Vec<_>>(), [again]);
}

#[test]
fn a_peer_whose_data_cannot_be_read_is_shown_no_more_and_asked_again_every_30_seconds() {
    let (mut engine, a) = engine_with_peer(5);
    let bad = atom!("bad");
    assert_eq!(
        engine.hear(&a, update(&a, bad.clone())),
        [to(&a, discover(&me(), 2)), after(30, 1)]
    );
    assert_eq!(engine.seen(), []);
    // It still gets ours; its own updates build on what we don't have.
    assert_eq!(engine.set(7)[0], publish(&[&a], update(&me(), load(7))));
    engine.hear(&a, update(&a, load(6)));
    assert_eq!(engine.seen(), [("me", 7)]);
    // The answer can't be read either: no question before the time is over.
    assert_eq!(engine.hear(&a, local_data(&a, 2, bad)), []);
    assert_eq!(engine.fire(1), [to(&a, discover(&me(), 2)), after(30, 2)]);
    engine.hear(&a, local_data(&a, 2, load(8)));
    assert_eq!(engine.seen(), [("a", 8), ("me", 7)]);
    assert_eq!(engine.fire(2), []);
}

/// It's asked only when the time is over, but what it says until then builds on what isn't here.
#[test]
fn what_cannot_be_read_from_a_peer_that_was_just_asked_leaves_no_gap() {
    let (mut engine, a) = engine_with_peer(5);
    engine.hear(&a, update(&a, atom!("bad")));
    engine.hear(&a, local_data(&a, 2, load(6)));
    assert_eq!(engine.seen(), [("a", 6)]);
    assert_eq!(engine.hear(&a, update(&a, atom!("bad"))), []);
    engine.hear(&a, update(&a, load(8)));
    assert_eq!(engine.seen(), []);
    assert_eq!(engine.fire(1), [to(&a, discover(&me(), 2)), after(30, 2)]);
    engine.hear(&a, local_data(&a, 2, load(8)));
    assert_eq!(engine.seen(), [("a", 8)]);
}

#[test]
fn unreadable_local_data_of_an_unknown_peer_makes_it_known_but_not_shown() {
    let (mut engine, a) = (engine(), pid("a", 1));
    assert_eq!(
        engine.hear(&a, local_data(&a, 2, atom!("bad"))),
        [monitor(1, &a), after(1, 1), to(&a, discover(&me(), 2)), after(30, 2)]
    );
    assert_eq!(engine.seen(), []);
}

#[test]
fn a_node_without_a_peer_is_greeted_again_after_1_2_4_and_at_last_every_30_seconds() {
    let mut engine = engine();
    assert_eq!(engine.run(Input::NodeUp(node("a"))), [to_name("a"), after(1, 1)]);
    for (timer, pause) in [2, 4, 8, 16, 30, 30, 30].into_iter().enumerate() {
        let timer = timer as u64 + 1;
        assert_eq!(engine.fire(timer), [to_name("a"), after(pause, timer + 1)]);
    }
}

#[test]
fn a_node_with_a_peer_is_not_greeted_again_until_that_peer_ends() {
    let (mut engine, a) = (engine(), pid("a", 1));
    engine.run(Input::NodeUp(node("a")));
    engine.hear(&a, discover(&a, 2));
    assert_eq!(engine.fire(1), []);
    assert_eq!(engine.lose(1, &a), [after(1, 2)]);
    assert_eq!(engine.fire(2), [to_name("a"), after(2, 3)]);
    engine.run(Input::NodeDown(node("a")));
    assert_eq!(engine.fire(3), []);
}

#[test]
fn a_node_told_twice_is_greeted_twice_and_nothing_else_happens() {
    let (mut engine, a) = engine_with_peer(5);
    engine.run(Input::NodeUp(node("a")));
    assert_eq!(engine.run(Input::NodeUp(node("a"))), [to_name("a"), after(1, 2)]);
    assert_eq!(engine.fire(1), []);
    assert_eq!(engine.set(7)[0], publish(&[&a], update(&me(), load(7))));
}

#[test]
fn our_own_node_is_not_greeted() {
    assert_eq!(engine().run(Input::NodeUp(node("me"))), []);
}

#[test]
fn a_standalone_engine_greets_nobody_and_answers_no_greeting() {
    let options = EngineOptions::default().standalone(true);
    let mut engine = Engine::new(atom!("s"), me(), Load, options);
    let a = pid("a", 1);
    assert_eq!(engine.run(Input::NodeUp(node("a"))), []);
    assert_eq!(engine.hear(&a, discover(&a, 2)), []);
    assert_eq!(engine.set(7), [Action::Updated { caller: CallerId(9), changed: true }]);
    assert_eq!(engine.seen(), [("me", 7)]);
}

#[test]
fn a_subscriber_gets_what_is_there_then_each_change_and_nothing_after_it_unsubscribed() {
    let (mut engine, a) = engine_with_peer(5);
    let subscriber = SubscriberId(3);
    let initial = BTreeMap::from([(node("a"), 5)]);
    assert_eq!(
        engine.run(Input::Subscribe { key: (), subscriber }),
        [Action::Subscribed { subscriber, initial }]
    );
    let event = (node("a"), 6);
    assert_eq!(engine.hear(&a, update(&a, load(6))), [Action::Notify { subscriber, event }]);
    assert_eq!(engine.run(Input::Unsubscribe { subscriber }), []);
    assert_eq!(engine.hear(&a, update(&a, load(7))), []);
    assert_eq!(engine.subscriber_count(), 0);
}

fn call(engine: &mut Engine<Load>, caller: &Pid, request: Term) -> Vec<Action<Load>> {
    let from = tuple![caller, atom!("tag")];
    engine.hear(caller, tuple![atom!("$gen_call"), from, request])
}

fn reply(caller: &Pid, reply: impl Into<Term>) -> Action<Load> {
    to(caller, tuple![atom!("tag"), reply.into()])
}

#[test]
fn a_process_anywhere_can_update_our_data() {
    let (mut engine, caller) = (engine(), pid("x", 5));
    assert_eq!(
        call(&mut engine, &caller, tuple![atom!("update"), 7]),
        [reply(&caller, atom!("ok"))]
    );
    assert_eq!(engine.seen(), [("me", 7)]);
}

#[test]
fn a_process_anywhere_can_subscribe_and_unsubscribe() {
    let (mut engine, a) = engine_with_peer(5);
    let caller = pid("x", 5);
    let answer = call(&mut engine, &caller, tuple![atom!("subscribe"), atom!("all")]);
    let Action::Send { message, .. } = &answer[1] else { panic!("{answer:?}") };
    let [tag, content] = message.tuple::<2>().unwrap();
    let [reference, initial] = content.tuple::<2>().unwrap();
    assert_eq!(answer[0], monitor(2, &caller));
    assert_eq!((tag, initial), (&atom!("tag").into(), &map! { node("a") => 5 }));

    assert_eq!(
        engine.hear(&a, update(&a, load(6))),
        [to(&caller, tuple![reference, node("a"), 6])]
    );
    for times in 0..2 {
        let done = call(&mut engine, &caller, tuple![atom!("unsubscribe"), reference]);
        let demonitor = (times == 0).then_some(Action::Demonitor { id: MonitorId(2) });
        let expected: Vec<_> = demonitor.into_iter().chain([reply(&caller, atom!("ok"))]).collect();
        assert_eq!(done, expected);
    }
    assert_eq!(engine.hear(&a, update(&a, load(7))), []);
}

#[test]
fn a_subscribed_process_that_ends_is_forgotten() {
    let (mut engine, a) = engine_with_peer(5);
    let caller = pid("x", 5);
    call(&mut engine, &caller, tuple![atom!("subscribe"), atom!("all")]);
    assert_eq!(engine.lose(2, &caller), []);
    assert_eq!(engine.hear(&a, update(&a, load(6))), []);
    assert_eq!(engine.subscriber_count(), 0);
}

/// Its monitor may be over a newer connection than its call, and then there's no `Down`.
#[test]
fn no_subscribed_process_outlives_the_connection_to_its_node() {
    let (mut engine, a) = engine_with_peer(5);
    for caller in [pid("x", 5), pid("y", 5)] {
        call(&mut engine, &caller, tuple![atom!("subscribe"), atom!("all")]);
    }
    let demonitor = Action::Demonitor { id: MonitorId(2) };
    assert_eq!(engine.run(Input::NodeDown(node("x"))), [demonitor]);
    assert_eq!(engine.subscriber_count(), 1);
    assert_eq!(engine.hear(&a, update(&a, load(6))).len(), 1);
}

#[test]
fn processes_of_another_node_subscribe_as_often_as_allowed_and_no_more() {
    let (mut engine, caller, other) = (engine(), pid("x", 5), pid("y", 5));
    // Without the checks after each step: they take longer the more there are.
    let subscribe = |engine: &mut Engine<Load>, caller: &Pid| {
        let from = tuple![caller, atom!("tag")];
        let message = tuple![atom!("$gen_call"), from, tuple![atom!("subscribe"), atom!("all")]];
        engine.handle(Input::Message { from: caller.node.clone(), message }, &mut Vec::new());
        engine.subscriber_count()
    };
    for number in 1..=MOST_OF_NODE {
        assert_eq!(subscribe(&mut engine, &caller), number);
    }
    assert_eq!(subscribe(&mut engine, &caller), MOST_OF_NODE);
    assert_eq!(engine.counters().refused_calls, 1);
    assert_eq!(subscribe(&mut engine, &other), MOST_OF_NODE + 1);

    // One that ends makes room.
    let down =
        Input::Down { monitor: MonitorId(1), pid: caller.clone(), reason: atom!("x").into() };
    engine.handle(down, &mut Vec::new());
    assert_eq!(subscribe(&mut engine, &caller), MOST_OF_NODE + 1);
}

#[test]
fn a_call_that_cannot_be_served_is_refused_and_nobody_waits() {
    let (mut engine, caller) = (engine(), pid("x", 5));
    for request in [
        atom!("nonsense").into(),
        tuple![atom!("update"), atom!("bad")],
        tuple![atom!("subscribe"), atom!("bad")],
        tuple![atom!("unsubscribe"), 1],
    ] {
        let refusal = tuple![atom!("error"), atom!("badarg")];
        assert_eq!(call(&mut engine, &caller, request), [reply(&caller, refusal)]);
    }
    assert_eq!(engine.counters().refused_calls, 4);
}

/// On the BEAM it might be a scope, which dies of an answer it hasn't asked for.
#[test]
fn a_call_in_the_name_of_another_nodes_process_is_ignored_and_counted() {
    let (mut engine, other) = (engine(), pid("x", 5));
    let nonsense = Term::from(atom!("nonsense"));
    let call = |request: &Term| tuple![atom!("$gen_call"), tuple![&other, atom!("tag")], request];
    let subscribe = tuple![atom!("subscribe"), atom!("all")];
    for request in [&subscribe, &tuple![atom!("update"), 7], &nonsense] {
        let message = call(request);
        assert_eq!(engine.run(Input::Message { from: node("y"), message }), []);
    }
    let (spoofed, refused_calls) = (engine.counters().spoofed, engine.counters().refused_calls);
    assert_eq!((spoofed, refused_calls, engine.subscriber_count()), (3, 0, 0));
    assert_eq!(engine.seen(), []);
    // A process of our own node may pass on what it was asked.
    let passed_on = Input::Message { from: node("me"), message: call(&nonsense) };
    let refusal = tuple![atom!("error"), atom!("badarg")];
    assert_eq!(engine.run(passed_on), [reply(&other, refusal)]);
}

#[test]
fn timers_end_with_those_they_are_for() {
    let mut engine = engine();
    for id in 1..=100 {
        engine.hear(&pid("a", id), local_data(&pid("a", id), 2, atom!("bad")));
    }
    // Two for each peer that is known.
    assert_eq!(engine.timers.running.len(), 2 * 16);
    for _ in 0..3 {
        engine.run(Input::NodeUp(node("a")));
    }
    assert_eq!(engine.timers.running.len(), 2 * 16 + 1);
    engine.run(Input::NodeDown(node("a")));
    assert_eq!(engine.timers.running.len(), 0);
}

#[test]
fn a_message_nobody_knows_is_counted_and_ignored() {
    let (mut engine, a) = engine_with_peer(5);
    for message in [
        atom!("x").into(),
        list![],
        tuple![],
        tuple![atom!("$gen_call"), 1, 2],
        tuple![atom!("$gen_cast"), atom!("x")],
        tuple![atom!("discover"), 1, 2],
        tuple![atom!("update"), &a, 1, 2],
        tuple![atom!("DOWN"), 1, atom!("process"), &a, atom!("x")],
    ] {
        assert_eq!(engine.hear(&a, message), []);
    }
    assert_eq!((engine.seen(), engine.counters().unknown), (vec![("a", 5)], 8));
}

/// Whatever comes, in whatever order: the laws that `check` knows hold, and nothing panics.
#[test]
fn no_input_in_no_order_breaks_the_engine() {
    let mut state = 1u64;
    let mut random = move |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..200 {
        let mut engine = engine();
        for _ in 0..200 {
            let peer = pid(["a", "b", "me"][random(3) as usize], random(3) as u32);
            let over = if random(8) == 0 { node("b") } else { peer.node.clone() };
            let data = match random(4) {
                0 => atom!("bad").into(),
                n => load(n.cast_signed()),
            };
            let number = random(12);
            let tag = tuple![&peer, atom!("t")];
            let input = match random(14) {
                0 => Input::NodeUp(over),
                1 => Input::NodeDown(over),
                2 => {
                    let reason = atom!("x").into();
                    Input::Down { monitor: MonitorId(number), pid: peer, reason }
                }
                3 => Input::Timer(TimerId(number)),
                4 => Input::Update { update: number.cast_signed(), caller: CallerId(number) },
                5 => Input::Subscribe { key: (), subscriber: SubscriberId(number % 3) },
                6 => Input::Unsubscribe { subscriber: SubscriberId(number % 3) },
                7 | 8 => Input::Message {
                    from: over,
                    message: discover(&peer, number.cast_signed() % 4),
                },
                9 | 10 => Input::Message { from: over, message: local_data(&peer, 1, data) },
                11 | 12 => Input::Message { from: over, message: update(&peer, data) },
                _ => {
                    let request = tuple![atom!("subscribe"), atom!("all")];
                    let message = tuple![atom!("$gen_call"), tag, request];
                    Input::Message { from: over, message }
                }
            };
            engine.run(input);
        }
    }
}

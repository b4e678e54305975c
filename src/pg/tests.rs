//! `pg` as its peers and its readers see it: an engine that runs the publisher, and what it says.

mod taken;

use std::sync::Arc;

use super::{Change, Event, Initial, Members, PgPublisher, Subscription, is_allowed_shape};
use crate::engine::{
    Action, CallerId, Engine, EngineOptions, Input, MonitorId, SubscriberId, Version,
};
use crate::term::{Creation, NodeName, Pid, Term};
use crate::{atom, list, map, tuple};

struct Pg {
    engine: Engine<PgPublisher>,
    members: Members,
}

fn pid(name: &str, id: u32) -> Pid {
    let node = NodeName::new(&format!("{name}@h")).unwrap();
    Pid { node, id, serial: 0, creation: Creation(4) }
}

fn me() -> Pid {
    pid("me", 1)
}

fn group(name: i64) -> Term {
    name.into()
}

fn cast(message: Term) -> Term {
    tuple![atom!("$gen_cast"), message]
}

impl Pg {
    fn new() -> Self {
        let publisher = PgPublisher::new();
        let members = publisher.members().clone();
        let engine = Engine::new(atom!("pg"), me(), publisher, EngineOptions::default());
        Self { engine, members }
    }

    fn run(&mut self, input: Input<PgPublisher>) -> Vec<Action<PgPublisher>> {
        let mut actions = Vec::new();
        self.engine.handle(input, &mut actions);
        self.engine.check();
        actions
    }

    fn update(&mut self, changes: Vec<Change>) -> Vec<Term> {
        sent(&self.run(Input::Update { update: changes, caller: CallerId(1) }))
    }

    fn join(&mut self, name: i64, pids: &[&Pid]) -> Vec<Term> {
        self.update(vec![Change::join(&group(name), pids.iter().copied().cloned())])
    }

    fn leave(&mut self, name: i64, pids: &[&Pid]) -> Vec<Term> {
        self.update(vec![Change::leave(&group(name), pids.iter().copied().cloned())])
    }

    fn hear(&mut self, from: &Pid, message: Term) -> Vec<Term> {
        sent(&self.run(Input::Message { from: from.node.clone(), message }))
    }

    fn of(&self, name: i64) -> Vec<Pid> {
        self.members.get_members(&group(name)).to_vec()
    }
}

fn sent(actions: &[Action<PgPublisher>]) -> Vec<Term> {
    let messages = actions.iter().filter_map(|action| match action {
        Action::Send { message, .. } | Action::Publish { message, .. } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

/// A peer of this version, met and with nobody in its groups.
fn pg_with_peer(version: Option<i64>) -> (Pg, Pid) {
    let (mut pg, peer) = (Pg::new(), pid("a", 1));
    pg.hear(&peer, hello(&peer, version));
    pg.hear(&peer, cast(tuple![atom!("sync"), &peer, list![]]));
    (pg, peer)
}

fn hello(from: &Pid, version: Option<i64>) -> Term {
    match version {
        None => tuple![atom!("discover"), from],
        Some(version) => tuple![atom!("discover"), from, version],
    }
}

#[test]
fn the_first_word_to_a_node_is_the_short_discover() {
    let actions = Pg::new().run(Input::NodeUp(me_elsewhere()));
    assert_eq!(sent(&actions), [tuple![atom!("discover"), me()]]);
}

fn me_elsewhere() -> NodeName {
    NodeName::new("a@h").unwrap()
}

#[test]
fn a_peer_of_version_0_gets_a_cast_sync_and_then_plain_joins_and_leaves() {
    let (mut pg, peer) = (Pg::new(), pid("a", 1));
    let (x, y) = (pid("me", 10), pid("me", 11));
    pg.join(1, &[&x, &x]);
    assert_eq!(
        pg.hear(&peer, hello(&peer, None)),
        [
            cast(tuple![atom!("sync"), me(), list![tuple![1, list![&x, &x]]]]),
            tuple![atom!("discover"), me()],
        ]
    );
    assert_eq!(pg.join(2, &[&x, &y]), [tuple![atom!("join"), me(), 2, list![&x, &y]]]);
    assert_eq!(
        pg.leave(2, &[&x, &y]),
        [tuple![atom!("leave"), me(), &x, list![2]], tuple![atom!("leave"), me(), &y, list![2]],]
    );
}

#[test]
fn a_peer_of_version_1_gets_local_data_and_then_updates() {
    let (mut pg, peer) = (Pg::new(), pid("a", 1));
    let x = pid("me", 10);
    pg.join(1, &[&x]);
    assert_eq!(
        pg.hear(&peer, hello(&peer, Some(1))),
        [
            cast(tuple![atom!("local_data"), me(), 1, map! { 1 => list![&x] }]),
            tuple![atom!("discover"), me(), 1],
        ]
    );
    assert_eq!(
        pg.leave(1, &[&x]),
        [tuple![atom!("update"), me(), list![tuple![1, list![], list![&x]]]]]
    );
}

#[test]
fn a_peer_of_a_later_version_gets_what_we_have_labelled_1() {
    let (mut pg, peer) = (Pg::new(), pid("a", 1));
    let answer = pg.hear(&peer, hello(&peer, Some(2)));
    assert_eq!(answer[0], cast(tuple![atom!("local_data"), me(), 1, map! {}]));
}

#[test]
fn nobody_is_told_to_leave_a_group_without_being_in_it() {
    let (mut pg, _) = pg_with_peer(None);
    let (x, y) = (pid("me", 10), pid("me", 11));
    pg.join(1, &[&x]);
    assert_eq!(pg.leave(2, &[&x]), Vec::<Term>::new());
    assert_eq!(pg.leave(1, &[&y, &x, &x]), [tuple![atom!("leave"), me(), &x, list![1]]]);
    assert!(pg.members.which_groups().is_empty());
}

#[test]
fn a_join_between_leaves_stays_between_them_for_version_0() {
    let (mut pg, _) = pg_with_peer(None);
    let x = pid("me", 10);
    let all = vec![
        Change::join(&group(1), [x.clone()]),
        Change::leave(&group(1), [x.clone()]),
        Change::join(&group(2), [x.clone()]),
    ];
    assert_eq!(
        pg.update(all),
        [
            tuple![atom!("join"), me(), 1, list![&x]],
            tuple![atom!("leave"), me(), &x, list![1]],
            tuple![atom!("join"), me(), 2, list![&x]],
        ]
    );
}

#[test]
fn all_dialects_are_read_plain_and_cast_whatever_the_peer_announced() {
    let (x, y) = (pid("a", 10), pid("a", 11));
    let peer = pid("a", 1);
    let messages = [
        (tuple![atom!("sync"), &peer, list![tuple![1, list![&x]]]], vec![&x]),
        (tuple![atom!("local_data"), &peer, 1, map! { 1 => list![&x, &x] }], vec![&x, &x]),
        (tuple![atom!("join"), &peer, 1, &y], vec![&x, &x, &y]),
        (tuple![atom!("leave"), &peer, list![&x, &y], list![1]], vec![&x]),
        (tuple![atom!("join"), &peer, 1, list![&y, &y]], vec![&x, &y, &y]),
        (tuple![atom!("leave"), &peer, &y, list![1, 1, 2]], vec![&x]),
        (tuple![atom!("update"), &peer, list![tuple![1, list![&y], list![&x]]]], vec![&y]),
    ];
    for version in [None, Some(1)] {
        for wrap in [cast, |message| message] {
            let (mut pg, _) = pg_with_peer(version);
            for (message, expected) in &messages {
                pg.hear(&peer, wrap(message.clone()));
                assert_eq!(pg.of(1).iter().collect::<Vec<_>>(), *expected, "{message}");
            }
        }
    }
}

#[test]
fn a_member_that_ends_leaves_all_its_groups_in_one_update() {
    let x = pid("me", 10);
    for (version, expected) in [
        (None, tuple![atom!("leave"), me(), &x, list![1, 1, 2]]),
        (
            Some(1),
            tuple![
                atom!("update"),
                me(),
                list![tuple![1, list![], list![&x, &x]], tuple![2, list![], list![&x]]]
            ],
        ),
    ] {
        let (mut pg, _) = pg_with_peer(version);
        pg.join(2, &[&x]);
        pg.join(1, &[&x, &x]);
        let reason = atom!("killed").into();
        let down = Input::Down { monitor: MonitorId(2), pid: x.clone(), reason };
        let actions = pg.run(down);
        assert_eq!(sent(&actions), [expected]);
        assert!(!actions.iter().any(|action| matches!(action, Action::Demonitor { .. })));
        assert!(pg.members.which_local_groups().is_empty());
    }
}

#[test]
fn a_member_is_watched_once_until_it_has_left_all_its_groups() {
    let mut pg = Pg::new();
    let x = pid("me", 10);
    let update = |name, count| vec![Change::join(&group(name), vec![x.clone(); count])];
    let caller = CallerId(1);
    let first = pg.run(Input::Update { update: update(1, 2), caller });
    let is_monitor =
        |action: &Action<_>| matches!(action, Action::Monitor { pid, .. } if *pid == x);
    assert!(first.iter().any(is_monitor));
    pg.run(Input::Update { update: update(2, 1), caller });
    assert_eq!(pg.engine.monitors().count(), 1);
    pg.leave(1, &[&x, &x]);
    assert_eq!(pg.engine.monitors().count(), 1);
    pg.leave(2, &[&x]);
    assert_eq!(pg.engine.monitors().count(), 0);
}

#[test]
fn who_joined_three_times_and_left_twice_is_in_the_group_once() {
    let mut pg = Pg::new();
    let x = pid("me", 10);
    pg.join(1, &[&x, &x, &x]);
    pg.leave(1, &[&x, &x]);
    assert_eq!(pg.of(1).len(), 1);
    assert_eq!(pg.members.local_count(&group(1), &x), 1);
}

#[test]
fn a_group_without_members_is_not_shown_whoever_lists_it() {
    let (mut pg, peer) = pg_with_peer(Some(1));
    pg.hear(&peer, tuple![atom!("local_data"), &peer, 1, map! { 1 => list![] }]);
    pg.hear(&peer, tuple![atom!("update"), &peer, list![tuple![2, list![], list![pid("a", 9)]]]]);
    assert!(pg.members.which_groups().is_empty());
}

#[test]
fn an_update_with_something_else_than_pids_is_not_half_applied() {
    let (mut pg, peer) = pg_with_peer(Some(1));
    let x = pid("a", 10);
    pg.hear(&peer, tuple![atom!("join"), &peer, 1, &x]);
    let good = tuple![2, list![&x], list![]];
    let bad = tuple![3, list![1], list![]];
    let question = pg.hear(&peer, tuple![atom!("update"), &peer, list![good, bad]]);
    assert_eq!(question, [tuple![atom!("discover"), me(), 1]]);
    assert!(pg.members.which_groups().is_empty());
    assert_eq!(pg.engine.counters().unreadable, 1);
}

#[test]
fn a_leave_that_would_make_long_work_of_a_short_message_is_not_read() {
    let (mut pg, peer) = pg_with_peer(None);
    let pids = Term::list_of((0..2000).map(|id| Term::from(pid("a", id))));
    let groups = Term::list_of((0..2000).map(Term::from));
    pg.hear(&peer, tuple![atom!("leave"), &peer, pids, groups]);
    assert_eq!(pg.engine.counters().unreadable, 1);
}

#[test]
fn an_integer_and_its_float_name_two_groups() {
    let mut pg = Pg::new();
    let (x, y) = (pid("me", 10), pid("me", 11));
    let float = Term::float_of(1.0).unwrap();
    pg.join(1, &[&x]);
    pg.update(vec![Change::join(&float, [y.clone()])]);
    assert_eq!(pg.of(1), [x]);
    assert_eq!(*pg.members.get_members(&float), [y]);
    assert_eq!(pg.members.which_groups().len(), 2);
}

#[test]
fn a_subscriber_to_a_group_hears_of_that_group_only() {
    let mut pg = Pg::new();
    let (x, one) = (pid("me", 10), SubscriberId(1));
    let key = Subscription::Group(group(1));
    match &pg.run(Input::Subscribe { key, subscriber: one })[..] {
        [Action::Subscribed { subscriber, initial: Initial::Group(pids) }] => {
            assert_eq!((*subscriber, pids.len()), (one, 0));
        }
        other => panic!("{other:?}"),
    }
    pg.join(2, &[&x]);
    let update = vec![Change::join(&group(1), [x.clone()])];
    let actions = pg.run(Input::Update { update, caller: CallerId(1) });
    let heard: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Notify { subscriber, event } => Some((*subscriber, event.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(heard, [(one, Event::Join { group: group(1), pids: Arc::from([x]) })]);
}

#[test]
fn a_process_on_the_beam_subscribes_and_gets_the_messages_pg_sends() {
    let mut pg = Pg::new();
    let (caller, x) = (pid("a", 50), pid("me", 10));
    pg.join(1, &[&x]);
    let mut ask = |key: Term| {
        let request = tuple![atom!("subscribe"), key];
        let call = tuple![atom!("$gen_call"), tuple![&caller, 0], request];
        let reply = pg.hear(&caller, call).pop().unwrap();
        let [_, answer] = reply.tuple::<2>().unwrap();
        let [reference, initial] = answer.tuple::<2>().unwrap();
        (reference.clone(), initial.clone())
    };
    let (scope, all) = ask(atom!("scope").into());
    let (one, members) = ask(tuple![atom!("group"), 1]);
    assert_eq!((all, members), (map! { 1 => list![&x] }, list![&x]));
    assert_eq!(
        pg.leave(1, &[&x]),
        [scope, one].map(|reference| tuple![reference, atom!("leave"), 1, list![&x]])
    );
}

#[test]
fn a_stopped_scope_shows_no_members_and_hands_on_its_own() {
    let (mut pg, peer) = pg_with_peer(None);
    let x = pid("me", 10);
    pg.join(1, &[&x]);
    pg.hear(&peer, tuple![atom!("join"), &peer, 1, pid("a", 9)]);
    let local = pg.engine.stop();
    assert_eq!(local.get(&group(1)).unwrap().iter().collect::<Vec<_>>(), [&x]);
    assert!(pg.members.which_groups().is_empty());
}

#[test]
fn only_what_a_scope_survives_has_an_allowed_shape() {
    let (p, x) = (pid("a", 1), pid("a", 2));
    let zero = Version::from(0);
    let one = Version::from(1);
    let short = tuple![atom!("discover"), &p];
    let long = tuple![atom!("discover"), &p, 1];
    let sync = cast(tuple![atom!("sync"), &p, list![tuple![1, list![&x]]]]);
    let update = tuple![atom!("update"), &p, list![tuple![1, list![&x], list![]]]];
    assert!(is_allowed_shape(None, &short) && !is_allowed_shape(None, &long));
    assert!(is_allowed_shape(Some(&zero), &sync) && !is_allowed_shape(Some(&one), &sync));
    assert!(is_allowed_shape(Some(&one), &update) && !is_allowed_shape(Some(&zero), &update));
    for crash in [
        tuple![atom!("sync"), &p, list![]],
        cast(tuple![atom!("join"), &p, 1, list![&x]]),
        cast(tuple![atom!("sync"), &p, list![tuple![1, list![]]]]),
        cast(tuple![atom!("sync"), &p, list![tuple![1, list![&x]], tuple![1, list![&x]]]]),
        tuple![atom!("join"), &p, 1, list![1]],
        tuple![atom!("update"), &p, list![]],
        tuple![atom!("update"), &p, list![tuple![1, 2]]],
        cast(tuple![atom!("local_data"), &p, 1, list![]]),
        atom!("x").into(),
    ] {
        assert!(!is_allowed_shape(Some(&zero), &crash), "{crash}");
        assert!(!is_allowed_shape(Some(&one), &crash), "{crash}");
    }
}

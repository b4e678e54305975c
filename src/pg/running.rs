//! Tests of `pg` as a process of a node: what needs its task and not only the engine.

use std::time::Duration;

use tokio::time::timeout;

use super::{Change, Event, Pg, Subscription};
use crate::atom;
use crate::node::{Cookie, Node, NodeConfig, Process};
use crate::scope::Notice;
use crate::term::Term;

/// Far above what anything here takes; only a broken test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

/// As many events as a subscriber may be behind.
const BEHIND: i64 = 10_000;

/// A node with an EPMD of its own on a free port.
async fn node() -> Node {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = NodeConfig::new("a@127.0.0.1").unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(port)).await.unwrap()
}

/// A scope and one process to join with.
async fn scope() -> (Node, Pg, Process) {
    let node = node().await;
    let (pg, member) = (Pg::start(&node, atom!("pg")).unwrap(), node.spawn());
    (node, pg, member)
}

/// The member joins each of these groups, all in one update.
async fn join_all(pg: &Pg, member: &Process, groups: std::ops::Range<i64>) {
    let join = |group| Change::join(&Term::from(group), [member.pid().clone()]);
    pg.scope.update(groups.map(join).collect()).await.unwrap();
}

#[tokio::test]
async fn readers_see_nothing_of_a_scope_that_has_stopped() {
    let (_node, pg, member) = scope().await;
    pg.join(1, member.pid()).await.unwrap();
    let members = pg.members().clone();
    assert_eq!(members.which_groups(), [Term::from(1)]);

    pg.stop().await;
    assert!(members.which_groups().is_empty());
    assert!(members.get_local_members(&1.into()).is_empty());
}

#[tokio::test]
async fn a_slow_subscriber_costs_one_snapshot_until_it_has_caught_up() {
    let (_node, pg, member) = scope().await;
    let (_, mut changes) = pg.scope.subscribe(Subscription::Scope).await.unwrap();
    join_all(&pg, &member, 0..BEHIND + 1).await;

    let mut snapshots = 0;
    for _ in 0..BEHIND + 100 {
        match timeout(LIMIT, changes.next()).await.unwrap().unwrap() {
            Notice::Event(_) => {}
            Notice::Lagged(_) => snapshots += 1,
        }
        pg.leave(0, member.pid()).await.unwrap();
        pg.join(0, member.pid()).await.unwrap();
    }
    assert_eq!(snapshots, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_left_out_of_the_events_before_a_fresh_snapshot() {
    let (_node, pg, member) = scope().await;
    let (_, mut changes) = pg.scope.subscribe(Subscription::Scope).await.unwrap();
    let joining = tokio::spawn(async move {
        join_all(&pg, &member, 0..20 * BEHIND).await;
        // The snapshot is the scope's to give.
        (pg, member)
    });

    // On another thread than the scope, which so has no more room now and some in the next moment.
    let mut next = 0;
    loop {
        while changes.waiting() < BEHIND as usize - 1 && !joining.is_finished() {
            std::thread::yield_now();
        }
        let notice = timeout(LIMIT, changes.next()).await.unwrap().unwrap();
        let Notice::Event(event) = notice else { break };
        let Event::Join { group, .. } = event else { panic!("{event:?}") };
        assert_eq!(group, Term::from(next));
        next += 1;
    }
    joining.await.unwrap();
}

#[tokio::test]
async fn members_that_live_are_members_of_the_next_scope_of_the_name() {
    let (node, pg, member) = scope().await;
    let (other, dead) = (node.spawn(), node.spawn());
    pg.join(1, [member.pid(), member.pid()]).await.unwrap();
    pg.join(1, [other.pid(), dead.pid()]).await.unwrap();
    pg.stop().await;
    drop(dead);

    let pg = Pg::start(&node, atom!("pg")).unwrap();
    pg.ready().await.unwrap();
    let (members, mut changes) = pg.monitor(1).await.unwrap();
    let mut left = members.len();
    while left > 3 {
        let Some(Event::Leave { pids, .. }) = timeout(LIMIT, changes.next()).await.unwrap() else {
            panic!("one has died, nobody has come")
        };
        left -= pids.len();
    }
    let mut members = pg.get_members(&1.into()).to_vec();
    members.sort();
    assert_eq!(members, [member.pid().clone(), member.pid().clone(), other.pid().clone()]);
    // They are watched as before.
    drop(other);
    let Some(Event::Leave { .. }) = timeout(LIMIT, changes.next()).await.unwrap() else { panic!() };
}

//! Tests of pubsubs on nodes of ours; `integration/pubsub` has those with Elixir.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::epmd::EpmdServer;
use crate::node::{Cookie, NodeConfig, Received};
use crate::{atom, gen_server, map, tuple};

/// Far above what anything here takes; only a broken test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

async fn node(name: &str, epmd: &EpmdServer) -> Node {
    let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(epmd.port())).await.unwrap()
}

async fn two_nodes() -> (EpmdServer, Node, Node) {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let (a, b) = (node("a@127.0.0.1", &epmd).await, node("b@127.0.0.1", &epmd).await);
    a.connect("b@127.0.0.1").await.unwrap();
    b.connect("a@127.0.0.1").await.unwrap();
    (epmd, a, b)
}

async fn next(subscription: &mut Subscription) -> Notice {
    timeout(LIMIT, subscription.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_broadcast_reaches_the_subscribers_of_both_nodes_once() {
    let (_epmd, a, b) = two_nodes().await;
    let (pa, pb) = (PubSub::start(&a, "P").await.unwrap(), PubSub::start(&b, "P").await.unwrap());
    pa.wait_for(b.name()).await.unwrap();
    assert_eq!(pa.nodes(), [b.name().clone()]);
    let (mut here, mut there) = (pa.subscribe("t"), pb.subscribe("t"));
    let mut elsewhere = pb.subscribe("u");

    assert_eq!(pa.broadcast("t", 1).await.unwrap(), 1);
    assert_eq!(pa.broadcast_from(&here, "t", 2).await.unwrap(), 1);
    pa.local_broadcast("t", 3).unwrap();
    pa.direct_broadcast(b.name(), "t", 4).await.unwrap();
    pa.direct_broadcast(a.name(), "t", 5).await.unwrap();
    pa.channel_broadcast("t", "e", map! {atom!("n") => 6}).await.unwrap();
    pa.broadcast("u", 7).await.unwrap();

    let message = |n: i64| Notice::Message(n.into());
    let event = Broadcast::new("t", "e", map! {atom!("n") => 6}).unwrap();
    for n in [1, 3, 5] {
        assert_eq!(next(&mut here).await, message(n));
    }
    assert_eq!(next(&mut here).await, Notice::Broadcast(event.clone()));
    for n in [1, 2, 4] {
        assert_eq!(next(&mut there).await, message(n));
    }
    assert_eq!(next(&mut there).await, Notice::Broadcast(event));
    assert_eq!(next(&mut elsewhere).await, message(7));
}

#[tokio::test]
async fn what_has_another_shape_is_dropped_and_a_call_is_answered() {
    let (_epmd, a, b) = two_nodes().await;
    let pa = PubSub::start(&a, "P").await.unwrap();
    let mut here = pa.subscribe("t");
    let to = (atom!("Elixir.P.Adapter"), a.name().clone());
    let bad = tuple![atom!("forward_to_local"), atom!("t"), 1, atom!("Elixir.Phoenix.PubSub")];
    b.send(to.clone(), bad).await.unwrap();
    b.send(to.clone(), atom!("what")).await.unwrap();
    let reply = gen_server::call(&b, to.clone(), 1).await.unwrap();
    assert_eq!(reply, tuple![atom!("error"), atom!("badarg")]);
    let good = message::forward("t", &2.into(), Dispatcher::PubSub);
    b.send(to, good).await.unwrap();
    assert_eq!(next(&mut here).await, Notice::Message(2.into()));
}

#[tokio::test]
async fn further_groups_of_a_pool_are_joined_as_they_are_seen() {
    let (_epmd, a, b) = two_nodes().await;
    let pa = PubSub::start(&a, "P").await.unwrap();
    let mut here = pa.subscribe("t");
    let options = Options { pool_size: 3, ..Options::default() };
    let pb = PubSub::start_with(&b, "P", &options).await.unwrap();
    let mut there = pb.subscribe("t");

    let group = Term::from(atom!("Elixir.P.Adapter_3"));
    let pg = pb.0.scope.upgrade().unwrap();
    let (members, mut events) = pg.monitor(group.clone()).await.unwrap();
    for _ in members.len()..2 {
        timeout(LIMIT, events.next()).await.unwrap().unwrap();
    }
    let name = (atom!("Elixir.P.Adapter_3"), a.name().clone());
    b.send(name, message::forward("t", &1.into(), Dispatcher::PubSub)).await.unwrap();
    assert_eq!(next(&mut here).await, Notice::Message(1.into()));
    // And to all of the larger pool we send once.
    pa.ready().await.unwrap();
    pa.broadcast("t", 2).await.unwrap();
    pa.broadcast("t", 3).await.unwrap();
    assert_eq!(next(&mut there).await, Notice::Message(2.into()));
    assert_eq!(next(&mut there).await, Notice::Message(3.into()));
}

#[tokio::test]
async fn pubsubs_of_a_node_share_the_scope_and_its_name_is_free_after_the_last() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let node = node("a@127.0.0.1", &epmd).await;
    let (p, q) =
        (PubSub::start(&node, "P").await.unwrap(), PubSub::start(&node, "Q").await.unwrap());
    let taken = PubSub::start(&node, "P").await.unwrap_err();
    assert!(matches!(taken, StartError::Register(RegisterError::Taken { .. })), "{taken}");
    assert!(matches!(PubSub::start(&node, "").await, Err(StartError::BadName(_))));
    let (mut of_p, mut of_q) = (p.subscribe("t"), q.subscribe("t"));

    let clone = p.clone();
    p.stop().await;
    assert_eq!(timeout(LIMIT, of_p.next()).await.unwrap(), None);
    let stopped = clone.broadcast("t", 1).await.unwrap_err();
    assert!(matches!(stopped, BroadcastError::Stopped { .. }), "{stopped}");
    assert!(node.whereis(&SharedScope::name()).is_some());
    q.broadcast("t", 1).await.unwrap();
    assert_eq!(next(&mut of_q).await, Notice::Message(1.into()));

    q.stop().await;
    assert_eq!(node.whereis(&SharedScope::name()), None);
    // At once, and also when the last handle is just dropped.
    for _ in 0..20 {
        drop(PubSub::start(&node, "R").await.unwrap());
        let again = PubSub::start(&node, "S").await.unwrap();
        again.stop().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_subscription_ends_with_the_node() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let node = node("a@127.0.0.1", &epmd).await;
    let pubsub = PubSub::start(&node, "P").await.unwrap();
    let mut subscription = pubsub.subscribe("t");
    node.stop().await;
    assert_eq!(timeout(LIMIT, subscription.next()).await.unwrap(), None);
    let error = pubsub.broadcast("t", 1).await.unwrap_err();
    assert!(matches!(error, BroadcastError::Stopped { .. }), "{error}");
}

#[tokio::test]
async fn a_group_leaves_with_its_pubsub() {
    let (_epmd, a, b) = two_nodes().await;
    let (pa, pb) = (PubSub::start(&a, "P").await.unwrap(), PubSub::start(&b, "P").await.unwrap());
    pa.ready().await.unwrap();
    let mut watcher = a.spawn();
    watcher.monitor((atom!("Elixir.P.Adapter"), b.name().clone()));
    pb.stop().await;
    let down = timeout(LIMIT, watcher.receive()).await.unwrap().unwrap();
    assert!(matches!(down, Received::Down { .. }), "{down:?}");
    pa.ready().await.unwrap();
    let (mut members, mut events) =
        pa.0.scope.upgrade().unwrap().monitor(atom!("Elixir.P.Adapter")).await.unwrap();
    while members.len() > 1 {
        timeout(LIMIT, events.next()).await.unwrap().unwrap();
        members = pa.0.members.get_members(&atom!("Elixir.P.Adapter").into());
    }
    assert!(pa.nodes().is_empty());
}

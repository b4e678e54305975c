//! Tests of a scope as a process of a node, with a publisher that does what it's told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::engine::{Effects, Wire};
use crate::epmd::EpmdServer;
use crate::node::{Cookie, DownReason, Limits, NodeConfig, NodeEvent, Received};
use crate::term::{BadTerm, NodeName, Reference};
use crate::{atom, tuple};

/// Far above what anything here takes; only a broken test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

/// A number for each node. Panics on -1; on the wire, -2 is larger than a message may be.
#[derive(Debug)]
struct Load;

type Loads = BTreeMap<NodeName, i64>;

impl DataPublisher for Load {
    type LocalData = i64;
    type Update = i64;
    type GlobalView = Loads;
    type Subscription = ();
    type Initial = Loads;
    type Event = (NodeName, i64);

    fn init_local_data(&self) -> i64 {
        0
    }
    fn init_global_view(&mut self, _: &Atom) -> Loads {
        Loads::new()
    }
    fn update_local_data(&self, update: i64, data: &mut i64) -> Option<i64> {
        (std::mem::replace(data, update) != update).then_some(update)
    }
    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        update: &i64,
        view: &mut Loads,
        effects: &mut Effects<'_, Self>,
    ) {
        assert!(*update != -1, "a publisher with a bug");
        view.insert(origin.clone(), *update);
        effects.notify(&(), &(origin.clone(), *update));
    }
    fn data_diff(&self, old: &i64, new: &i64) -> Option<i64> {
        (old != new).then_some(*new)
    }
    fn new_subscription(&self, (): &(), view: &Loads) -> Loads {
        view.clone()
    }
    fn translate_update(&self, _: &Pid, _: &Version, update: &i64) -> Wire {
        match update {
            -2 => Wire::Term(Term::binary_of(vec![0; crate::wire::MAX_MESSAGE])),
            update => Wire::Term((*update).into()),
        }
    }
    fn translate_local_data(&self, _: &Pid, _: &Version, data: &i64) -> Wire {
        Wire::Term((*data).into())
    }
    fn read_update(&self, term: &Term) -> Result<i64, BadTerm> {
        term.integer()
    }
    fn read_local_data(&self, term: &Term) -> Result<i64, BadTerm> {
        term.integer()
    }
    fn read_subscription(&self, _: &Term) -> Result<(), BadTerm> {
        Ok(())
    }
    fn initial_term(&self, _: &Loads) -> Term {
        atom!("loads").into()
    }
    fn event_term(&self, _: &Reference, _: &(NodeName, i64)) -> Term {
        atom!("load").into()
    }
}

/// An EPMD for as long as the test runs; its port.
async fn epmd_port() -> u16 {
    let server = EpmdServer::bind_loopback(0).await.unwrap();
    let port = server.port();
    tokio::spawn(async move {
        let _server = server;
        std::future::pending::<()>().await;
    });
    port
}

async fn node(name: &str, epmd_port: u16) -> Node {
    let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(epmd_port)).await.unwrap()
}

fn start(node: &Node) -> Scope<Load> {
    Scope::start(node, atom!("load"), Load).unwrap()
}

#[tokio::test]
async fn an_update_is_in_the_view_when_it_returns() {
    let node = node("a@127.0.0.1", epmd_port().await).await;
    let load = start(&node);
    assert!(load.update(5).await.unwrap());
    assert_eq!(load.view(|view| view[node.name()]), Ok(5));
    assert!(!load.update(5).await.unwrap());
}

#[tokio::test]
async fn a_subscriber_may_be_as_far_behind_as_its_limit_and_no_further() {
    const MOST: usize = 3;
    for (updates, is_lagged) in [(3, false), (4, true)] {
        let limits = Limits { subscriber: MOST, ..Limits::default() };
        let config = NodeConfig::new("a@127.0.0.1").unwrap().cookie(Cookie::new("c").unwrap());
        let config = config.epmd_port(epmd_port().await).limits(limits);
        let node = Node::start(config).await.unwrap();
        let load = start(&node);
        let (_, mut changes) = load.subscribe(()).await.unwrap();
        for number in 1..=updates {
            load.update(number).await.unwrap();
        }
        for _ in 0..MOST {
            let notice = timeout(LIMIT, changes.next()).await.unwrap();
            assert!(matches!(notice, Some(Notice::Event(_))), "{notice:?}");
        }
        load.update(100).await.unwrap();
        let notice = timeout(LIMIT, changes.next()).await.unwrap();
        assert_eq!(matches!(notice, Some(Notice::Lagged(_))), is_lagged, "{notice:?}");
    }
}

#[tokio::test]
async fn ready_is_when_the_data_of_all_who_are_connected_is_here() {
    let epmd = epmd_port().await;
    let a = node("a@127.0.0.1", epmd).await;
    let mut others = Vec::new();
    for i in 0..8 {
        let other = node(&format!("b{i}@127.0.0.1"), epmd).await;
        // Every second one runs the scope.
        let scope = (i % 2 == 0).then(|| start(&other));
        if let Some(scope) = &scope {
            scope.update(i).await.unwrap();
        }
        others.push((other, scope));
    }
    let load = start(&a);
    timeout(LIMIT, load.ready()).await.expect("nobody to wait for").unwrap();
    for (other, _) in &others {
        a.connect(other.name()).await.unwrap();
    }

    timeout(LIMIT, load.ready()).await.expect("all have answered").unwrap();

    let seen = load.view(|view| view.values().sum::<i64>());
    assert_eq!(seen, Ok(2 + 4 + 6));
    timeout(LIMIT, load.ready()).await.expect("and still have").unwrap();
}

#[tokio::test]
async fn ready_does_not_wait_for_a_node_that_is_lost_meanwhile() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    // Something has the scope's name, and never answers.
    let silent = b.spawn();
    b.register(atom!("load"), silent.pid()).unwrap();
    let load = start(&a);
    a.connect(b.name()).await.unwrap();
    let waiting = tokio::spawn({
        let load = load.clone();
        async move { load.ready().await }
    });
    // It's being waited for once the other end is watched: `b` has been asked.
    assert!(timeout(Duration::from_millis(200), load.ready()).await.is_err());
    assert!(!waiting.is_finished());
    assert_eq!(load.awaited().await.unwrap(), [b.name().clone()]);

    a.disconnect(b.name());

    timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(load.awaited().await.unwrap(), []);
}

#[tokio::test]
async fn ready_waits_for_silent_ones_but_not_for_ever() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let silent = b.spawn();
    b.register(atom!("load"), silent.pid()).unwrap();
    a.connect(b.name()).await.unwrap();
    let process = a.spawn();
    let (answer, mut answered) = oneshot::channel();
    let mut ready = ready::Ready::default();
    let nodes = std::collections::BTreeSet::from([b.name().clone()]);
    ready.wait_for(nodes, answer, (&process, &atom!("load")));

    let due = ready.next_due().unwrap();
    ready.expire(due.checked_sub(Duration::from_millis(1)).unwrap(), &process);
    assert!(answered.try_recv().is_err() && ready.is_awaited(b.name()));
    ready.expire(due, &process);
    assert!(answered.try_recv().is_ok() && ready.next_due().is_none());
}

#[tokio::test]
async fn a_publisher_that_panics_ends_its_scope_and_nothing_else() {
    let node = node("a@127.0.0.1", epmd_port().await).await;
    let load = start(&node);
    load.update(5).await.unwrap();
    let mut observer = node.spawn();
    let monitor = observer.monitor(load.pid());

    assert!(load.update(-1).await.is_err());

    let Some(Received::Down { reference, reason, .. }) =
        timeout(LIMIT, observer.receive()).await.unwrap()
    else {
        panic!("no DOWN")
    };
    assert_eq!((reference, reason), (monitor, atom!("panic").into()));
    assert_eq!(load.view(Loads::len), Err(ScopeStopped { scope: atom!("load") }));
    // What it choked on isn't handed on.
    let next = start(&node);
    assert!(next.update(1).await.unwrap());
    assert_eq!(next.view(|view| view[node.name()]), Ok(1));
}

#[tokio::test]
async fn an_update_larger_than_a_message_ends_the_connection_and_is_no_gap() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let (here, there) = (start(&a), start(&b));
    a.connect(b.name()).await.unwrap();
    for scope in [&here, &there] {
        timeout(LIMIT, scope.ready()).await.unwrap().unwrap();
    }
    let mut events = a.events();

    assert!(here.update(-2).await.unwrap());

    let reason = timeout(LIMIT, async {
        loop {
            if let NodeEvent::Down { reason, .. } = events.next().await.unwrap() {
                return reason;
            }
        }
    });
    assert_eq!(reason.await.unwrap(), DownReason::TooLarge);
    // What there is to say can be said again.
    here.update(7).await.unwrap();
    a.connect(b.name()).await.unwrap();
    timeout(LIMIT, there.ready()).await.unwrap().unwrap();
    assert_eq!(there.view(|view| view[a.name()]), Ok(7));
}

/// All in one read: it's of one process.
#[tokio::test]
async fn what_waits_while_a_scope_is_suspended_comes_before_what_follows() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let load = start(&b);
    let peer = a.spawn();
    a.connect(b.name()).await.unwrap();
    let to = (atom!("load"), b.name().clone());
    let data = tuple![atom!("local_data"), peer.pid(), 0, 1];
    let update = |number: i64| tuple![atom!("update"), peer.pid(), number];
    let system = |request| tuple![atom!("system"), tuple![peer.pid(), atom!("tag")], request];
    for message in [
        tuple![atom!("$gen_cast"), data],
        system(atom!("suspend")),
        update(5),
        system(atom!("resume")),
        update(6),
    ] {
        assert!(peer.send(to.clone(), message));
    }
    let has_come = async {
        while load.stats().await.unwrap().exchanged.updates_in < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, has_come).await.unwrap();
    assert_eq!(load.view(|view| view[a.name()]), Ok(6));
}

/// Readers and subscribers would hear of a state that belongs to the past, and callers be heard whose
/// call is lost.
#[tokio::test]
async fn what_a_connection_brought_is_lost_with_it() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let load = start(&b);
    let (_, mut changes) = load.subscribe(()).await.unwrap();
    let (peer, mut other) = (a.spawn(), b.spawn());
    let system = |request| tuple![atom!("system"), tuple![other.pid(), atom!("tag")], request];
    let (suspend, resume) = (system(atom!("suspend")), system(atom!("resume")));
    assert!(other.send(load.pid(), suspend));
    timeout(LIMIT, other.receive()).await.unwrap();
    a.connect(b.name()).await.unwrap();
    let data = tuple![atom!("local_data"), peer.pid(), 0, 1];
    assert!(peer.send(load.pid(), tuple![atom!("$gen_cast"), data]));
    // Behind it: so that has come.
    assert!(peer.send(other.pid(), atom!("behind")));
    timeout(LIMIT, other.receive()).await.unwrap();

    b.disconnect(a.name());
    assert!(other.send(load.pid(), resume));
    timeout(LIMIT, load.ready()).await.unwrap().unwrap();
    load.update(5).await.unwrap();

    let first = timeout(LIMIT, changes.next()).await.unwrap();
    assert_eq!(first, Some(Notice::Event((b.name().clone(), 5))));
}

#[tokio::test]
async fn timers_for_peers_that_are_gone_do_not_pile_up() {
    const CLAIMED: u32 = 20_000;
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let load = start(&b);
    let liar = a.spawn();
    a.connect(b.name()).await.unwrap();
    for id in 1..=CLAIMED {
        let peer = Pid { id, ..liar.pid().clone() };
        let data = tuple![atom!("local_data"), peer, 0, atom!("unreadable")];
        a.send((atom!("load"), b.name().clone()), tuple![atom!("$gen_cast"), data]).await.unwrap();
    }
    let has_come = async {
        while load.stats().await.unwrap().refused.unreadable < CLAIMED.into() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, has_come).await.unwrap();
    let timers = load.0.running.lock().as_ref().map(Running::timers);
    assert!(timers.is_some_and(|timers| timers <= 4096), "{timers:?}");
}

/// The peers are the same ones as before, and so are their pids.
#[tokio::test]
async fn updates_go_over_the_connection_that_is_there() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let (here, there) = (start(&a), start(&b));
    for number in 1..=3 {
        a.connect(b.name()).await.unwrap();
        for scope in [&here, &there] {
            timeout(LIMIT, scope.ready()).await.unwrap().unwrap();
        }
        let (_, mut changes) = there.subscribe(()).await.unwrap();
        here.update(number).await.unwrap();
        let change = timeout(LIMIT, changes.next()).await.unwrap();
        assert_eq!(change, Some(Notice::Event((a.name().clone(), number))));
        a.disconnect(b.name());
        // Or the next is no other.
        while b.nodes().contains(a.name()) {
            tokio::task::yield_now().await;
        }
        drop(changes);
    }
}

#[tokio::test]
async fn a_scope_lives_beside_another_on_one_node() {
    let node = node("a@127.0.0.1", epmd_port().await).await;
    let (load, other) = (start(&node), Scope::start(&node, atom!("other"), Load).unwrap());
    load.update(1).await.unwrap();
    other.update(2).await.unwrap();
    assert_eq!(load.view(|view| view[node.name()]), Ok(1));
    load.stop().await;
    assert_eq!(other.view(|view| view[node.name()]), Ok(2));
    assert!(Scope::start(&node, atom!("other"), Load).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_scope_leaves_late_is_not_lost() {
    let node = node("a@127.0.0.1", epmd_port().await).await;
    let load = start(&node);
    load.update(5).await.unwrap();
    // A reader that takes its time keeps the scope from ending.
    let (entered, inside) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let reader = load.clone();
    let reading = std::thread::spawn(move || {
        let _ = reader.view(|_| {
            entered.send(()).unwrap();
            released.recv().unwrap();
        });
    });
    inside.await.unwrap();
    node.router().end_process(load.pid(), &atom!("killed").into());
    let next = start(&node);
    // Longer than somebody who lost the name is waited for.
    tokio::time::sleep(task::LAST_WORD * 3 / 2).await;
    release.send(()).unwrap();
    let left = async {
        while next.view(|view| view.get(node.name()).copied()) != Ok(Some(5)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, left).await.unwrap();
    reading.join().unwrap();
}

#[tokio::test]
async fn what_one_scope_publishes_is_what_the_other_has_received() {
    let epmd = epmd_port().await;
    let (a, b) = (node("a@127.0.0.1", epmd).await, node("b@127.0.0.1", epmd).await);
    let (here, there) = (start(&a), start(&b));
    a.connect("b@127.0.0.1").await.unwrap();
    here.ready().await.unwrap();
    there.ready().await.unwrap();
    for number in 1..=10 {
        here.update(number).await.unwrap();
    }
    here.update(10).await.unwrap();
    let received = async {
        while there.stats().await.unwrap().exchanged.updates_in < 10 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, received).await.unwrap();

    let (at_a, at_b) = (here.stats().await.unwrap(), there.stats().await.unwrap());
    assert_eq!(at_a.exchanged.updates_out, 10, "the last changed nothing");
    assert_eq!((at_a.exchanged.updates_in, at_b.exchanged.updates_out), (0, 0));
    assert!(at_b.exchanged.snapshots_in >= 1 && at_a.exchanged.snapshots_out >= 1);
    assert_eq!(at_a.peers.len(), 1);
    assert_eq!(at_a.peers[0].pid, *there.pid());
    assert!(at_a.peers[0].synced && at_a.awaited.is_empty() && at_a.subscribers == 0);
    assert_eq!(at_a.refused.unknown, 0);
}

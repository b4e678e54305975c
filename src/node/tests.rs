//! Two nodes of ours, over real sockets: what processes see of each other and of connections.

use std::time::Duration;

use tokio::time::timeout;

use super::connection::table::{Claim, Failed, Knock};
use super::*;
use crate::epmd::EpmdServer;
use crate::{atom, tuple};

/// Far above what anything here takes; only a broken test waits so long.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Pair {
    pub(super) a: Node,
    pub(super) b: Node,
    pub(super) _epmd: EpmdServer,
}

pub(super) async fn node(name: &str, epmd: &EpmdServer) -> Node {
    let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(epmd.port())).await.unwrap()
}

pub(super) async fn pair() -> Pair {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let (a, b) = (node("a@127.0.0.1", &epmd).await, node("b@127.0.0.1", &epmd).await);
    a.connect("b@127.0.0.1").await.unwrap();
    Pair { a, b, _epmd: epmd }
}

async fn next(process: &mut Process) -> Received {
    timeout(LIMIT, process.receive()).await.expect("nothing came").expect("the process has ended")
}

async fn next_term(process: &mut Process) -> Term {
    next(process).await.into_term()
}

fn down(reference: &Reference, object: Term, reason: Atom) -> Term {
    tuple![atom!("DOWN"), reference, atom!("process"), object, reason]
}

#[tokio::test]
async fn messages_reach_pids_names_and_aliases_in_the_order_they_were_sent() {
    let Pair { a, b, _epmd } = pair().await;
    let mut receiver = b.spawn();
    b.register(atom!("box"), receiver.pid()).unwrap();
    let alias = receiver.alias();

    a.send(receiver.pid(), 1).await.unwrap();
    a.send((atom!("box"), b.name().clone()), 2).await.unwrap();
    a.send(alias.clone(), 3).await.unwrap();
    for expected in [1, 2, 3] {
        assert_eq!(next_term(&mut receiver).await, Term::from(expected));
    }

    receiver.unalias(&alias);
    a.send(alias, 4).await.unwrap();
    a.send(receiver.pid(), 5).await.unwrap();
    assert_eq!(next_term(&mut receiver).await, Term::from(5));
}

#[tokio::test]
async fn a_monitor_tells_once_why_a_process_ended() {
    let Pair { a, b, _epmd } = pair().await;
    let mut watcher = a.spawn();
    let object = b.spawn();
    let pid = object.pid().clone();
    let by_pid = watcher.monitor(&pid);
    let by_name = watcher.monitor((atom!("nobody"), b.name().clone()));
    let name = tuple![atom!("nobody"), b.name()];
    assert_eq!(next_term(&mut watcher).await, down(&by_name, name, atom!("noproc")));

    // Known there before the process ends: the answer to a monitor made later comes later.
    let ended = b.spawn().pid().clone();
    let late = watcher.monitor(&ended);
    assert_eq!(next_term(&mut watcher).await, down(&late, (&ended).into(), atom!("noproc")));
    object.exit(atom!("tired"));
    assert_eq!(next_term(&mut watcher).await, down(&by_pid, (&pid).into(), atom!("tired")));
}

#[tokio::test]
async fn a_lost_connection_tells_downs_and_exits_before_the_nodedown() {
    let Pair { a, b, _epmd } = pair().await;
    let mut watcher = a.spawn();
    watcher.trap_exit(true);
    watcher.monitor_nodes();
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("nodeup"), b.name()]);
    let other = b.spawn();
    let monitor = watcher.monitor(other.pid());
    watcher.link(other.pid());

    a.disconnect(b.name());
    a.connect(b.name()).await.unwrap();

    let lost = atom!("noconnection");
    assert_eq!(next_term(&mut watcher).await, down(&monitor, other.pid().into(), lost.clone()));
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("EXIT"), other.pid(), lost]);
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("nodedown"), b.name()]);
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("nodeup"), b.name()]);
}

#[tokio::test]
async fn a_monitor_without_a_connection_says_noconnection_at_once() {
    let Pair { a, b, _epmd } = pair().await;
    let pid = b.spawn().pid().clone();
    a.disconnect(b.name());
    let mut watcher = a.spawn();
    let monitor = watcher.monitor(&pid);
    assert_eq!(next_term(&mut watcher).await, down(&monitor, pid.into(), atom!("noconnection")));
}

#[tokio::test]
async fn linked_processes_end_together_across_nodes() {
    let Pair { a, b, _epmd } = pair().await;
    let (mut left, right) = (a.spawn(), b.spawn());
    let mut trapping = b.spawn();
    trapping.trap_exit(true);
    trapping.link(left.pid());
    // The link is there when a message sent after it has come.
    trapping.send(left.pid(), atom!("linked"));
    assert_eq!(next_term(&mut left).await, atom!("linked"));
    left.link(right.pid());
    left.send(trapping.pid(), atom!("go"));
    assert_eq!(next_term(&mut trapping).await, atom!("go"));

    right.exit(atom!("broken"));

    assert!(timeout(LIMIT, left.receive()).await.unwrap().is_none());
    assert_eq!(left.exit_reason(), Some(&atom!("broken").into()));
    let exit = tuple![atom!("EXIT"), left.pid(), atom!("broken")];
    assert_eq!(next_term(&mut trapping).await, exit);
}

#[tokio::test]
async fn after_unlink_the_other_may_end_as_it_likes() {
    let Pair { a, b, _epmd } = pair().await;
    let (mut left, mut right) = (a.spawn(), b.spawn());
    left.link(right.pid());
    left.unlink(right.pid());
    left.send(right.pid(), atom!("go"));
    assert_eq!(next_term(&mut right).await, atom!("go"));
    let left_pid = left.pid().clone();
    right.send(&left_pid, atom!("last word"));
    right.exit(atom!("broken"));
    assert_eq!(next_term(&mut left).await, atom!("last word"));
    // Anything of the end of `right` would have come before this.
    let again = b.spawn();
    again.send(left.pid(), atom!("alive"));
    assert_eq!(next_term(&mut left).await, atom!("alive"));
}

#[tokio::test]
async fn kill_ends_a_process_that_traps_exits_and_is_told_as_killed() {
    let Pair { a, b, _epmd } = pair().await;
    let mut victim = b.spawn();
    victim.trap_exit(true);
    let mut killer = a.spawn();
    let monitor = killer.monitor(victim.pid());
    a.exit(&killer, victim.pid(), atom!("normal"));
    let normal = tuple![atom!("EXIT"), killer.pid(), atom!("normal")];
    assert_eq!(next_term(&mut victim).await, normal);
    a.exit(&killer, victim.pid(), atom!("kill"));
    let expected = down(&monitor, victim.pid().into(), atom!("killed"));
    assert_eq!(next_term(&mut killer).await, expected);
    assert!(victim.receive().await.is_none());
}

#[tokio::test]
async fn an_io_request_gets_an_error_and_never_arrives() {
    let Pair { a, b, _epmd } = pair().await;
    let mut asker = a.spawn();
    let mut file = b.spawn();
    let request = tuple![atom!("io_request"), asker.pid(), 7, atom!("getopts")];
    asker.send(file.pid(), request);
    let error = tuple![atom!("error"), atom!("enotsup")];
    assert_eq!(next_term(&mut asker).await, tuple![atom!("io_reply"), 7, error]);
    assert!(file.try_receive().is_none());
}

#[tokio::test]
async fn a_name_has_one_living_process() {
    let Pair { a, b, _epmd } = pair().await;
    let (first, second) = (a.spawn(), a.spawn());
    a.register(atom!("name"), first.pid()).unwrap();
    let taken = a.register(atom!("name"), second.pid()).unwrap_err();
    assert!(matches!(taken, RegisterError::Taken { .. }), "{taken}");
    let foreign = a.register(atom!("other"), b.spawn().pid()).unwrap_err();
    assert!(matches!(foreign, RegisterError::NoProcess { .. }), "{foreign}");
    drop(first);
    a.register(atom!("name"), second.pid()).unwrap();
    assert_eq!(a.whereis(&atom!("name")).as_ref(), Some(second.pid()));
}

#[tokio::test]
async fn both_dialling_at_once_gives_one_connection() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let (a, b) = (node("a@127.0.0.1", &epmd).await, node("b@127.0.0.1", &epmd).await);
    for round in 0..50 {
        let (mut a_events, mut b_events) = (a.events(), b.events());
        let (there, back) = tokio::join!(a.connect(b.name()), b.connect(a.name()));
        there.unwrap_or_else(|error| panic!("round {round}, a to b: {error}"));
        back.unwrap_or_else(|error| panic!("round {round}, b to a: {error}"));
        assert_eq!((a.nodes(), b.nodes()), (vec![b.name().clone()], vec![a.name().clone()]));
        a.disconnect(b.name());
        for events in [&mut a_events, &mut b_events] {
            let up = timeout(LIMIT, events.next()).await.unwrap().unwrap();
            assert!(matches!(up, NodeEvent::Up { .. }), "round {round}: {up:?}");
            let down = timeout(LIMIT, events.next()).await.unwrap().unwrap();
            assert!(matches!(down, NodeEvent::Down { .. }), "round {round}: {down:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_cookie_a_missing_node_and_ourselves_are_told_apart() {
    let Pair { a, b, _epmd: epmd } = pair().await;
    let stranger = NodeConfig::new("s@127.0.0.1").unwrap().cookie(Cookie::new("other").unwrap());
    let stranger = Node::start(stranger.epmd_port(epmd.port())).await.unwrap();
    let error = stranger.connect(b.name()).await.unwrap_err();
    assert!(matches!(error, ConnectError::BadCookie { .. }), "{error}");
    let error = a.connect("nobody@127.0.0.1").await.unwrap_err();
    assert!(matches!(error, ConnectError::NoSuchNode { .. }), "{error}");
    let error = a.connect(a.name()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Ourselves { .. }), "{error}");
    let error = a.connect("no name").await.unwrap_err();
    assert!(matches!(error, ConnectError::BadName(_)), "{error}");
}

#[tokio::test]
async fn stopping_tells_monitors_why_before_the_connection_goes() {
    let Pair { a, b, _epmd } = pair().await;
    let mut watcher = a.spawn();
    watcher.monitor_nodes();
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("nodeup"), b.name()]);
    let object = b.spawn();
    let monitor = watcher.monitor(object.pid());
    // The monitor is there when the answer to a later one is here.
    let probe = watcher.monitor((atom!("nobody"), b.name().clone()));
    let name = tuple![atom!("nobody"), b.name()];
    assert_eq!(next_term(&mut watcher).await, down(&probe, name, atom!("noproc")));

    let name = b.name().clone();
    b.stop().await;

    let expected = down(&monitor, object.pid().into(), atom!("shutdown"));
    assert_eq!(next_term(&mut watcher).await, expected);
    assert_eq!(next_term(&mut watcher).await, tuple![atom!("nodedown"), name]);
}

/// Waits for some seconds, as a node does before it believes that EPMD won't return.
#[tokio::test]
async fn when_the_node_with_the_embedded_epmd_ends_another_runs_the_next() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = async |name| {
        let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
        Node::start(config.epmd_port(free)).await.unwrap()
    };
    let (first, _second) = (start("first@127.0.0.1").await, start("second@127.0.0.1").await);
    first.stop().await;
    let epmd = crate::epmd::Epmd::new(free);
    let registered = async {
        while !matches!(epmd.lookup("127.0.0.1", "second").await, Ok(Some(_))) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), registered).await.expect("it runs its own EPMD");
}

#[tokio::test]
async fn a_name_in_use_is_refused_and_free_again_after_the_end() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let first = node("a@127.0.0.1", &epmd).await;
    let config = || {
        let config = NodeConfig::new("a@127.0.0.1").unwrap().cookie(Cookie::new("c").unwrap());
        config.epmd_port(epmd.port())
    };
    let error = Node::start(config()).await.unwrap_err();
    assert!(matches!(error, StartError::NameTaken { .. }), "{error}");
    first.stop().await;
    Node::start(config()).await.unwrap();
}

#[tokio::test]
async fn when_a_node_ends_so_does_all_that_waits_for_it_whoever_holds_what() {
    for politely in [true, false] {
        let Pair { a, b, _epmd } = pair().await;
        let mut process = b.spawn();
        let mut events = b.events();
        let name = b.name().clone();
        if politely {
            let clone = b.clone();
            b.stop().await;
            let error = clone.connect(a.name()).await.unwrap_err();
            assert!(matches!(error, ConnectError::Stopped { .. }), "{error}");
            assert!(clone.spawn().receive().await.is_none());
            assert!(clone.events().next().await.is_none());
        } else {
            drop(b);
        }
        assert!(timeout(LIMIT, process.receive()).await.unwrap().is_none());
        assert_eq!(process.exit_reason(), Some(&atom!("shutdown").into()));
        let told = async { while events.next().await.is_some() {} };
        timeout(LIMIT, told).await.expect("the events end");
        let gone = async {
            while a.nodes().contains(&name) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, gone).await.expect("the connection closes");
    }
}

#[tokio::test]
async fn a_node_that_has_ended_dials_nobody() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let there = crate::epmd::Epmd::new(epmd.port());
    let kind = crate::epmd::NodeKind::Visible;
    let _silent = there.register("silent", port, kind).await.unwrap();
    let a = node("a@127.0.0.1", &epmd).await;
    let dialling = tokio::spawn({
        let a = a.clone();
        async move { a.connect("silent@127.0.0.1").await }
    });
    let (mut dialled, _) = silent.accept().await.unwrap();

    a.stop().await;

    let error = timeout(LIMIT, dialling).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Stopped { .. }), "{error}");
    let mut all = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut dialled, &mut all);
    let _ = timeout(LIMIT, read).await.expect("the socket closes");
}

#[tokio::test]
async fn who_is_dialled_may_dial_us_while_we_only_look_for_it() {
    // Of the two names ours is the greater: once it's told, the other has to wait for our dial.
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let (a, b) = (node("a@127.0.0.1", &epmd).await, node("b@127.0.0.1", &epmd).await);
    let Claim::Dial(_, cancel, mut outcome) = b.router().table().claim(a.name()) else {
        panic!("the place was free")
    };
    timeout(LIMIT, a.connect(b.name())).await.unwrap().unwrap();
    assert!(cancel.is_cancelled());
    let outcome = timeout(LIMIT, outcome.wait_for(Option::is_some)).await.unwrap();
    assert!(matches!(*outcome.unwrap(), Some(Ok(()))));
}

#[tokio::test]
async fn who_waits_for_a_dial_of_the_peer_that_comes_to_nothing_dials() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let (a, b) = (node("a@127.0.0.1", &epmd).await, node("b@127.0.0.1", &epmd).await);
    // A dial of the past, whose socket is closed: only its name is still read.
    let Knock::Admit(_, stale, _) = b.router().table().knock(b.name(), a.name(), 9) else {
        panic!("the place was free")
    };
    let connect = b.connect(a.name());
    tokio::pin!(connect);
    assert!(timeout(Duration::from_millis(50), &mut connect).await.is_err(), "it waits");

    b.router().table().fail(a.name(), stale, Failed::Theirs);

    timeout(LIMIT, connect).await.unwrap().unwrap();
    assert_eq!(b.nodes(), [a.name().clone()]);
}

//! What only shows inside: what is left of processes and connections that are gone, and signals that
//! no honest peer sends.

use tokio::time::timeout;

use super::*;
use crate::node::connection::Credit;
use crate::node::tests::{LIMIT, Pair, node, pair};
use crate::wire::signal::PidOrName;

#[tokio::test]
async fn a_chain_of_links_of_any_length_ends() {
    let Pair { a, _epmd, .. } = pair().await;
    let all: Vec<_> = (0..20_000).map(|_| a.spawn()).collect();
    for two in all.windows(2) {
        two[0].link(two[1].pid());
    }
    a.router().end_process(all[0].pid(), &atom!("broken").into());
    assert!(all.iter().all(|process| process.exit_reason() == Some(&atom!("broken").into())));
}

#[tokio::test]
async fn a_process_that_has_ended_leaves_nothing_behind() {
    let Pair { a, b, _epmd } = pair().await;
    let (mut ended, other, there) = (a.spawn(), a.spawn(), b.spawn());
    a.exit(&other, ended.pid(), atom!("kill"));
    assert!(ended.receive().await.is_none());
    let router = a.router();
    for pid in [other.pid(), there.pid()] {
        let reference = ended.monitor(pid);
        assert!(router.monitors.release(&reference).is_none());
        ended.link(pid);
    }
    assert!(router.links.process_ended(ended.pid()).is_empty());
    let alias = ended.alias();
    assert!(router.aliases.owner(&alias).is_none());
}

#[tokio::test]
async fn what_comes_over_a_connection_that_has_just_closed_changes_nothing() {
    let Pair { a, b, _epmd } = pair().await;
    let ours = a.spawn();
    ours.trap_exit(true);
    let theirs = b.spawn();
    let connection = a.router().table().up(b.name()).unwrap();
    a.disconnect(b.name());

    let (from, to) = (theirs.pid().clone(), ours.pid().clone());
    let reference = b.make_ref();
    let monitor = Signal::Monitor {
        from: from.clone(),
        target: PidOrName::Pid(to.clone()),
        reference: reference.clone(),
    };
    a.router().receive(&connection, monitor, 0).unwrap();
    a.router()
        .receive(&connection, Signal::Link { from: from.clone(), to: to.clone() }, 0)
        .unwrap();

    assert!(a.router().monitors.unwatch(&reference, Some(connection.id())).is_none());
    assert!(!a.router().links.remove(&to, &from, Some(connection.id())));
    assert_eq!(a.router().links.count(connection.id()), 0);
}

#[tokio::test]
async fn nobody_breaks_a_link_in_another_nodes_name() {
    let Pair { a, b, _epmd: epmd } = pair().await;
    let c = node("c@127.0.0.1", &epmd).await;
    c.connect(a.name()).await.unwrap();
    let (mut ours, mut theirs) = (a.spawn(), b.spawn());
    ours.link(theirs.pid());
    // The link is there when a message sent after it has come.
    ours.send(theirs.pid(), atom!("linked"));
    timeout(LIMIT, theirs.receive()).await.unwrap().unwrap();
    let foreign = a.router().table().up(c.name()).unwrap();
    let (from, to) = (theirs.pid().clone(), ours.pid().clone());
    let exit = Signal::Exit { from: from.clone(), to: to.clone(), reason: atom!("spoof").into() };
    a.router().receive(&foreign, exit, 0).unwrap();
    a.router().receive(&foreign, Signal::Unlink { id: 1, from, to }, 0).unwrap();

    theirs.exit(atom!("true"));

    assert!(timeout(LIMIT, ours.receive()).await.unwrap().is_none());
    assert_eq!(ours.exit_reason(), Some(&atom!("true").into()));
}

#[tokio::test]
async fn nobody_ends_a_monitor_in_another_nodes_name() {
    let Pair { a, b, _epmd: epmd } = pair().await;
    let c = node("c@127.0.0.1", &epmd).await;
    a.connect(c.name()).await.unwrap();
    let (mut ours, mut theirs) = (a.spawn(), b.spawn());
    let reference = ours.monitor(theirs.pid());
    // The monitor is there when a message sent after it has come.
    ours.send(theirs.pid(), atom!("monitored"));
    timeout(LIMIT, theirs.receive()).await.unwrap().unwrap();
    let foreign = a.router().table().up(c.name()).unwrap();
    let (from, to) = (PidOrName::Pid(theirs.pid().clone()), ours.pid().clone());
    let down = Signal::MonitorExit { from, to, reference, reason: atom!("spoof").into() };
    a.router().receive(&foreign, down, 0).unwrap();

    theirs.exit(atom!("true"));

    let received = timeout(LIMIT, ours.receive()).await.unwrap();
    assert!(
        matches!(&received, Some(Received::Down { reason, .. }) if reason.is_atom("true")),
        "{received:?}"
    );
}

#[tokio::test]
async fn unhandled_messages_have_a_bound_and_large_ones_another() {
    let Pair { a, b, _epmd } = pair().await;
    let connection = a.router().table().up(b.name()).unwrap();
    let limits = a.router().limits();
    let take = |bytes| Credit::take(&connection, bytes, limits);

    let times = limits.unhandled / limits.soft_mark;
    let small: Vec<_> = (0..times).map(|_| take(limits.soft_mark).expect("below it")).collect();
    assert!(take(1).is_none());
    let half = limits.unhandled_large / 2;
    let large = [half, half].map(|bytes| take(bytes).expect("below the other"));
    assert!(take(limits.soft_mark + 1).is_none());
    drop((small, large));

    let _lone = take(limits.unhandled_large + 1).expect("a lone one may be larger");
    assert!(take(limits.soft_mark + 1).is_none());
    assert!(take(1).is_some());
}

#[tokio::test]
async fn exit_signals_and_refused_requests_count_as_unhandled_too() {
    let Pair { a, b, _epmd } = pair().await;
    let (ours, theirs) = (a.spawn(), b.spawn());
    ours.trap_exit(true);
    let connection = a.router().table().up(b.name()).unwrap();
    let (from, to) = (theirs.pid().clone(), ours.pid().clone());
    let half = a.router().limits().unhandled_large / 2 + 1;
    let exit = || Signal::Exit2 {
        from: from.clone(),
        to: Target::Pid(to.clone()),
        reason: atom!("large").into(),
    };
    let request = || Signal::Send {
        from: Some(from.clone()),
        to: Target::Pid(to.clone()),
        message: tuple![atom!("io_request"), &to, 1, atom!("large")],
    };
    for signals in [[exit(), exit()], [request(), request()]] {
        let mut ours = None;
        for signal in signals {
            ours = Some(a.router().receive(&connection, signal, half));
        }
        assert_eq!(ours, Some(Err(DownReason::Overrun)));
    }
}

#[tokio::test]
async fn those_who_stop_listening_for_events_are_forgotten() {
    let Pair { a, _epmd, .. } = pair().await;
    for _ in 0..100 {
        drop(a.events());
    }
    assert!(a.router().observers.lock().unwrap().len() <= 1);
}

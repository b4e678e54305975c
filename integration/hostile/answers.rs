//! What a Rust node answers to what any node may ask it: always something, so that nobody waits.

use anyhow::{Context, Result};
use data_publisher::term::{Atom, Pid, Reference, Term};
use data_publisher::wire::signal::{PidOrName, Signal, Target};
use data_publisher::{atom, list, tuple};

use super::Victim;
use super::raw::Raw;

/// The next message to this process or alias of the peer.
async fn message_to(peer: &mut Raw, to: impl Into<Target>) -> Result<Term> {
    let to = to.into();
    peer.expect(&format!("a message to {to:?}"), |signal| match signal {
        Signal::Send { to: found, message, .. } if *found == to => Some(message.clone()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_monitor_of_what_is_not_there_is_answered_by_noproc() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let dead = Pid { id: 1 << 20, ..victim.node.spawn().pid().clone() };
    for (word, target) in
        [PidOrName::Name(atom!("nobody")), PidOrName::Pid(dead)].into_iter().enumerate()
    {
        let reference = peer.reference(word as u32);
        let monitor = Signal::Monitor {
            from: peer.pid(1),
            target: target.clone(),
            reference: reference.clone(),
        };
        peer.signal(&monitor).await?;
        let (from, to, reason) = peer
            .expect("an answer", |signal| match signal {
                Signal::MonitorExit { from, to, reference: found, reason }
                    if *found == reference =>
                {
                    Some((from.clone(), to.clone(), reason.clone()))
                }
                _ => None,
            })
            .await?;
        assert_eq!((from, to, reason), (target, peer.pid(1), atom!("noproc").into()));
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_link_to_what_is_not_there_is_answered_by_noproc() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let dead = Pid { id: 1 << 20, ..victim.node.spawn().pid().clone() };
    peer.signal(&Signal::Link { from: peer.pid(1), to: dead.clone() }).await?;
    let exit = Signal::Exit { from: dead, to: peer.pid(1), reason: atom!("noproc").into() };
    peer.expect("an exit", |signal| (*signal == exit).then_some(())).await?;
    victim.assert_unharmed().await
}

#[tokio::test]
async fn an_unlink_is_acknowledged_whether_or_not_there_was_a_link() -> Result<()> {
    let victim = Victim::start().await?;
    let target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let dead = Pid { id: 1 << 20, ..target.pid().clone() };
    for (id, to) in [(7, target.pid()), (u64::MAX, target.pid()), (8, &dead)] {
        peer.signal(&Signal::Unlink { id, from: peer.pid(1), to: to.clone() }).await?;
        let ack = Signal::UnlinkAck { id, from: to.clone(), to: peer.pid(1) };
        peer.expect("an acknowledgement", |signal| (*signal == ack).then_some(())).await?;
    }
    victim.assert_unharmed().await
}

/// `m:f(Args)`, monitored.
fn spawn_request(peer: &Raw, word: u32, arity: u8, args: Term) -> Signal {
    Signal::SpawnRequest {
        reference: peer.reference(word),
        from: peer.pid(1),
        group_leader: peer.pid(2),
        mfa: (atom!("m"), atom!("f"), arity),
        options: Term::list_of([atom!("monitor").into()]),
        args,
    }
}

/// What the request with this word in its reference got: a pid, or the reason why not.
async fn spawn_reply(peer: &mut Raw, word: u32) -> Result<PidOrName> {
    let asked = peer.reference(word);
    peer.expect("a reply", |signal| match signal {
        Signal::SpawnReply { reference, flags, result, .. } if *reference == asked => {
            assert_eq!(*flags, if matches!(result, PidOrName::Pid(_)) { 2 } else { 0 });
            Some(result.clone())
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_spawn_request_is_answered_whatever_it_asks_for() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let request = |word, arity, args| spawn_request(&peer, word, arity, args);
    let with = |mut request: Signal, function: (Atom, Atom, u8), new_options: Option<Term>| {
        if let Signal::SpawnRequest { mfa, options, .. } = &mut request {
            *mfa = function;
            *options = new_options.unwrap_or_else(|| options.clone());
        }
        request
    };
    let m = || (atom!("m"), atom!("f"), 1);
    let erpc = || (atom!("erpc"), atom!("execute_call"), 4);
    let four = || list![1, 2, 3, 4];
    for (word, signal, refusal) in [
        (1, request(1, 4, Term::NIL), Some("badarg")),
        (2, request(2, 1, atom!("none").into()), Some("badarg")),
        (3, with(request(3, 1, list![1]), m(), Some(1.into())), Some("badopt")),
        (4, request(4, 1, list![1]), None),
        (5, with(request(5, 4, four()), erpc(), None), None),
    ] {
        peer.signal(&signal).await?;
        match (spawn_reply(&mut peer, word).await?, refusal) {
            (PidOrName::Name(reason), Some(expected)) => assert_eq!(reason, *expected),
            (PidOrName::Pid(pid), None) => {
                // It ends at once, and that is told.
                let asked = peer.reference(word);
                let down = |signal: &Signal| match signal {
                    Signal::MonitorExit { from, reference, reason, .. } if *reference == asked => {
                        Some((from.clone(), reason.clone()))
                    }
                    _ => None,
                };
                let (from, reason) = peer.expect("a DOWN", down).await?;
                assert_eq!(from, PidOrName::Pid(pid));
                let expected = if word == 4 {
                    "{undef, [{m, f, [1], []}]}"
                } else {
                    "{1, error, {erpc, badarg}}"
                };
                assert_eq!(reason, expected.parse::<Term>()?);
            }
            other => panic!("{word}: {other:?}"),
        }
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn functions_that_run_at_the_same_time_are_bounded() -> Result<()> {
    let victim = Victim::start().await?;
    let never = |_| std::future::pending();
    victim.node.rpc().allow(atom!("m"), atom!("f"), 1, never);
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let mut pids = Vec::new();
    for word in 0..1024 {
        peer.signal(&spawn_request(&peer, word, 1, list![1])).await?;
        match spawn_reply(&mut peer, word).await? {
            PidOrName::Pid(pid) => pids.push(pid),
            PidOrName::Name(reason) => panic!("{word}: {reason}"),
        }
    }
    let limit = PidOrName::Name(atom!("system_limit"));
    peer.signal(&spawn_request(&peer, 2000, 1, list![1])).await?;
    assert_eq!(spawn_reply(&mut peer, 2000).await?, limit);
    // One that is ended makes room, once its task has seen it.
    let (from, to) = (peer.pid(1), Target::Pid(pids[0].clone()));
    peer.signal(&Signal::Exit2 { from, to, reason: atom!("kill").into() }).await?;
    for word in 3000.. {
        peer.signal(&spawn_request(&peer, word, 1, list![1])).await?;
        if spawn_reply(&mut peer, word).await? != limit {
            break;
        }
        assert!(word < 6000, "there is no room");
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn an_io_request_to_any_process_is_refused() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let reply_as = peer.reference(3);
    let put = tuple![atom!("put_chars"), atom!("unicode"), Term::binary_of("hello")];
    let request = tuple![atom!("io_request"), peer.pid(1), reply_as.clone(), put];
    for to in [Target::Name(atom!("target")), target.pid().clone().into()] {
        peer.send(to, request.clone()).await?;
        let reply = message_to(&mut peer, peer_pid(&victim, 1)?).await?;
        let error = tuple![atom!("error"), atom!("enotsup")];
        assert_eq!(reply, tuple![atom!("io_reply"), reply_as.clone(), error]);
    }
    assert!(target.try_receive().is_none(), "the process itself sees nothing of it");
    victim.assert_unharmed().await
}

/// Pid `id` of `x@127.0.0.1`, the only attacker here.
fn peer_pid(_: &Victim, id: u32) -> Result<Pid> {
    Ok(Pid { node: "x@127.0.0.1".parse()?, id, serial: 0, creation: super::raw::CREATION })
}

/// Each form of tag that `gen` of a release makes, and where its reply must go.
fn tags(peer: &Raw) -> [(Term, Target); 5] {
    let (reference, alias) = (peer.reference(10), peer.reference(11));
    let with_alias = |reference: &Reference| {
        Term::list_with_tail(vec![atom!("alias").into()], Term::from(reference.clone()))
    };
    let pid = Target::Pid(peer.pid(1));
    [
        (reference.clone().into(), pid.clone()),
        (with_alias(&reference), Target::Alias(reference.clone())),
        (
            Term::list_with_tail(vec![with_alias(&alias)], reference.clone().into()),
            Target::Alias(alias),
        ),
        (tuple![reference, peer.name()], pid.clone()),
        (atom!("any").into(), pid),
    ]
}

#[tokio::test]
async fn calls_to_the_kernel_s_servers_are_answered_for_every_form_of_tag() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let lock = |what: &str| -> Result<Term> {
        Ok(tuple![Atom::new(what)?, tuple![atom!("resource"), peer.pid(1)]])
    };
    let calls = [
        ("net_kernel", tuple![atom!("is_auth"), peer.name()], atom!("yes").into()),
        ("global_name_server", lock("set_lock")?, true.into()),
        ("global_name_server", lock("del_lock")?, true.into()),
        (
            "net_kernel",
            atom!("nonsense").into(),
            tuple![atom!("error"), tuple![atom!("unknown_call"), atom!("nonsense")]],
        ),
    ];
    for (name, request, expected) in calls {
        for (tag, reply_to) in tags(&peer) {
            let from = tuple![peer.pid(1), tag.clone()];
            peer.send_to_name(name, tuple![atom!("$gen_call"), from, request.clone()]).await?;
            let reply = message_to(&mut peer, reply_to).await?;
            assert_eq!(reply, tuple![tag, expected.clone()], "{name}: {request}");
        }
    }
    victim.assert_unharmed().await
}

/// And never by an `init_connect` of ours: half of that protocol hangs the cluster.
#[tokio::test]
async fn global_s_greeting_is_answered_by_in_sync_and_by_nothing_else() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let locker =
        tuple![atom!("locker"), atom!("no_longer_a_pid"), data_publisher::map! {}, peer.pid(3)];
    let greeting = tuple![atom!("init_connect"), tuple![8, 123], peer.name(), locker];
    peer.send_to_name("global_name_server", tuple![atom!("$gen_cast"), greeting]).await?;

    let mut others = Vec::new();
    let in_sync = tuple![atom!("in_sync"), victim.node.name(), true];
    let expected = tuple![atom!("$gen_cast"), in_sync];
    let to = Target::Name(atom!("global_name_server"));
    peer.expect("in_sync", |signal| match signal {
        Signal::Send { to: found, message, .. } if *found == to => {
            if *message == expected {
                return Some(());
            }
            others.push(message.clone());
            None
        }
        _ => None,
    })
    .await
    .with_context(|| format!("{others:?}"))?;
    assert!(others.is_empty(), "nothing else goes there: {others:?}");
    victim.assert_unharmed().await
}

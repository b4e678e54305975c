//! Functions called between two nodes of ours.

use futures::FutureExt;

use super::*;
use crate::epmd::EpmdServer;
use crate::node::{Cookie, DownReason, Limits, NodeConfig, NodeEvent};
use crate::{gen_server, list, tuple};

struct Pair {
    a: Node,
    b: Node,
    _epmd: EpmdServer,
}

async fn pair() -> Pair {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let config = |name| {
        let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
        config.epmd_port(epmd.port()).mesh(false)
    };
    let a = crate::start(config("a@127.0.0.1")).await.unwrap();
    let b = crate::start(config("b@127.0.0.1")).await.unwrap();
    b.rpc().allow(atom!("m"), atom!("f"), 1, |args| async move {
        let Term::Atom(word) = &args[0] else { return Ok(args[0].clone()) };
        match word.as_str() {
            "error" => Err(Exception::error(atom!("no"))),
            "exit" => Err(Exception::exit(atom!("no"))),
            "throw" => Err(Exception::throw(atom!("no"))),
            "panic" => panic!("no"),
            "hang" => std::future::pending().await,
            _ => Ok(args[0].integer()?.into()),
        }
    });
    Pair { a, b, _epmd: epmd }
}

async fn f(node: &Node, to: &Node, arg: impl Into<Term>) -> Result<Term, RpcError> {
    call(node, to.name(), atom!("m"), atom!("f"), list![arg.into()]).await
}

fn exception(result: Result<Term, RpcError>) -> Exception {
    match result {
        Err(RpcError::Exception(exception)) => exception,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_function_returns_or_raises_as_it_does_there() {
    let Pair { a, b, _epmd } = pair().await;
    // From another node, and from its own.
    for node in [&a, &b] {
        assert_eq!(f(node, &b, 42).await.unwrap(), Term::from(42));
        let stack = list![tuple![atom!("m"), atom!("f"), 1, Term::NIL]];
        for (word, class, reason, stacktrace) in [
            ("error", Class::Error, Term::from(atom!("no")), stack.clone()),
            ("exit", Class::Exit, atom!("no").into(), Term::NIL),
            ("throw", Class::Throw, atom!("no").into(), Term::NIL),
            ("other", Class::Error, atom!("badarg").into(), stack.clone()),
            ("panic", Class::Error, tuple![atom!("panic"), Term::binary_of("no")], stack.clone()),
        ] {
            let raised = exception(f(node, &b, Atom::new(word).unwrap()).await);
            assert_eq!(raised, Exception { class, reason, stacktrace }, "{word}");
        }
        let args = list![1, 2];
        let raised = exception(call(node, b.name(), atom!("m"), atom!("f"), &args).await);
        assert_eq!(raised.reason, atom!("undef"));
        assert_eq!(raised.stacktrace, list![tuple![atom!("m"), atom!("f"), args, Term::NIL]]);
    }
    assert!(b.rpc().refuse(&atom!("m"), &atom!("f"), 1));
    assert_eq!(exception(f(&a, &b, 1).await).reason, atom!("undef"));
}

#[tokio::test]
async fn a_call_ends_in_time_and_with_its_connection() {
    let Pair { a, b, _epmd } = pair().await;
    let hang = || list![atom!("hang")];
    let limit = Duration::from_millis(50);
    let late = call_within(&a, b.name(), atom!("m"), atom!("f"), hang(), limit).await;
    assert!(matches!(late, Err(RpcError::Timeout { .. })), "{late:?}");
    let (lost, ()) = tokio::join!(f(&a, &b, atom!("hang")), async {
        // Behind the other: both go the same way.
        while f(&a, &b, 1).await.is_err() {}
        a.disconnect(b.name());
    });
    assert!(matches!(lost, Err(RpcError::NoConnection { .. })), "{lost:?}");
    let nobody = NodeName::new("nobody@127.0.0.1").unwrap();
    let all = [nobody, b.name().clone()];
    let all = multicall(&a, all, atom!("m"), atom!("f"), list![7], CALL_TIMEOUT).await;
    let [(_, Err(RpcError::Send(_))), (_, Ok(seven))] = &all[..] else { panic!("{all:?}") };
    assert_eq!(*seven, Term::from(7));
}

#[tokio::test]
async fn a_spawned_process_is_linked_and_monitored_as_asked() {
    let Pair { a, b, _epmd } = pair().await;
    a.connect(b.name()).await.unwrap();
    let mut asker = a.spawn();
    asker.trap_exit(true);
    let request = |arg: Atom| {
        let args = vec![Term::from(arg)].into();
        SpawnRequest::new(b.name().clone(), atom!("m"), atom!("f"), args).link().monitor()
    };
    for (word, reason) in [
        ("error", tuple![atom!("no"), list![tuple![atom!("m"), atom!("f"), 1, Term::NIL]]]),
        ("exit", atom!("no").into()),
        ("hang", atom!("killed").into()),
    ] {
        let reference = asker.spawn_request(request(Atom::new(word).unwrap()));
        let Some(Received::SpawnReply { reference: r, result: Ok(pid) }) = asker.receive().await
        else {
            panic!("no pid")
        };
        assert_eq!(r, reference);
        if word == "hang" {
            a.exit(&asker, &pid, atom!("kill"));
        }
        let mut ends = Vec::new();
        for _ in 0..2 {
            ends.push(asker.receive().await.unwrap().into_term());
        }
        ends.sort();
        let down = tuple![atom!("DOWN"), &reference, atom!("process"), &pid, &reason];
        assert_eq!(ends, [tuple![atom!("EXIT"), &pid, &reason], down], "{word}");
    }
    a.disconnect(b.name());
    let reference = asker.spawn_request(request(atom!("hang")));
    let answer = asker.receive().await.unwrap().into_term();
    let lost = tuple![atom!("spawn_reply"), &reference, atom!("error"), atom!("noconnection")];
    assert_eq!(answer, lost);
}

#[tokio::test]
async fn rex_calls_what_is_allowed() {
    let Pair { a, b, _epmd } = pair().await;
    let rex = || (atom!("rex"), b.name().clone());
    let ask = |arg: Term| tuple![atom!("call"), atom!("m"), atom!("f"), list![arg], atom!("user")];
    assert_eq!(gen_server::call(&a, rex(), ask(5.into())).await.unwrap(), Term::from(5));
    let bad = gen_server::call(&a, rex(), ask(atom!("exit").into())).await.unwrap();
    assert_eq!(bad, tuple![atom!("badrpc"), tuple![atom!("EXIT"), atom!("no")]]);
    let nodes = tuple![atom!("call"), atom!("erlang"), atom!("nodes"), Term::NIL, atom!("user")];
    assert_eq!(gen_server::call(&a, rex(), nodes).await.unwrap(), list![a.name()]);
}

/// Whether it's passed on to somebody who doesn't receive, or kept by a function that doesn't return.
#[tokio::test]
async fn what_rex_keeps_or_passes_on_counts_as_unhandled() {
    let epmd = EpmdServer::bind_loopback(0).await.unwrap();
    let limits = Limits { unhandled: 100_000, ..Limits::default() };
    let config = |name| {
        let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
        config.epmd_port(epmd.port()).mesh(false).limits(limits.clone())
    };
    let a = crate::start(config("a@127.0.0.1")).await.unwrap();
    let b = crate::start(config("b@127.0.0.1")).await.unwrap();
    b.rpc().allow(atom!("m"), atom!("hang"), 1, |_| std::future::pending());
    b.rpc().allow(atom!("m"), atom!("return"), 1, async |_| Ok(Term::NIL));
    let deaf = b.spawn();
    b.register(atom!("deaf"), deaf.pid()).unwrap();
    let (mut events, asker) = (b.events(), a.spawn());
    let bytes = Term::binary_of(vec![7; 10_000]);
    let call = |tag, function| tuple![tag, atom!("m"), function, list![&bytes], atom!("user")];
    let rex = || Destination::Name(atom!("rex"), b.name().clone());
    for (message, is_kept) in [
        (tuple![asker.pid(), tuple![atom!("sbcast"), atom!("deaf"), &bytes]], true),
        (tuple![asker.pid(), call(atom!("call"), atom!("hang"))], true),
        (tuple![atom!("$gen_cast"), call(atom!("cast"), atom!("hang"))], true),
        (tuple![asker.pid(), call(atom!("call"), atom!("return"))], false),
        (tuple![asker.pid(), tuple![atom!("sbcast"), atom!("nobody"), &bytes]], false),
    ] {
        a.connect(b.name()).await.unwrap();
        let mut handled = 0;
        while handled < 20 {
            asker.send(rex(), message.clone());
            // Answered once the message before it is handled.
            let unknown = gen_server::call(&a, rex(), atom!("unknown"));
            if unknown.await.is_err() {
                break;
            }
            handled += 1;
        }
        assert_eq!(handled, if is_kept { 9 } else { 20 }, "{message}");
        if is_kept {
            let down = async {
                loop {
                    if let Some(NodeEvent::Down { reason, .. }) = events.next().await {
                        return reason;
                    }
                }
            };
            let reason = tokio::time::timeout(CALL_TIMEOUT, down).await.unwrap();
            assert_eq!(reason, DownReason::Overrun);
        }
    }
}

#[tokio::test]
async fn a_cast_waits_for_nobody_and_says_whether_it_has_left() {
    let Pair { a, b, _epmd } = pair().await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    b.rpc().allow(atom!("m"), atom!("tell"), 1, move |args| {
        let _ = sender.send(args[0].clone());
        async { Ok(Term::NIL) }
    });
    a.connect(b.name()).await.unwrap();
    let cast = async |arg: Term| {
        let (module, function) = (atom!("m"), atom!("tell"));
        cast(&a, b.name(), module, function, vec![arg].into()).await
    };
    // Nothing else runs meanwhile, so no answer of `b` has come.
    for n in [1, 2] {
        cast(n.into()).now_or_never().expect("it waits").unwrap();
    }
    let mut all = [told.recv().await, told.recv().await].map(Option::unwrap);
    all.sort();
    assert_eq!(all, [1, 2].map(Term::from));
    // It has no `user` that could print.
    let leader = a.router().known_leader(&a.router().table().up(b.name()).unwrap()).unwrap();
    let mut printing = b.spawn();
    let request = tuple![atom!("io_request"), printing.pid(), 1, atom!("x")];
    printing.send(&leader, request);
    let answer = printing.receive().await.unwrap().into_term();
    let refused = tuple![atom!("error"), atom!("enotsup")];
    assert_eq!(answer, tuple![atom!("io_reply"), 1, refused]);

    let large = Term::binary_of(vec![7; crate::wire::MAX_MESSAGE]);
    let unsent = cast(large).await;
    assert!(matches!(unsent, Err(SendError::TooLarge { .. })), "{unsent:?}");
}

#[tokio::test]
async fn a_large_result_sheds_nobody() {
    let Pair { a, b, _epmd } = pair().await;
    // Above the hard mark of a queue.
    let size = b.router().limits().hard_mark + (4 << 20);
    b.rpc().allow(atom!("m"), atom!("large"), 0, move |_| async move {
        Ok(Term::binary_of(vec![7; size]))
    });
    a.connect(b.name()).await.unwrap();
    let large = call_within(&a, b.name(), atom!("m"), atom!("large"), Term::NIL, CALL_TIMEOUT * 4);
    let small = async {
        for n in 0..100 {
            assert_eq!(f(&a, &b, n).await.unwrap(), Term::from(n));
        }
    };
    let (large, ()) = tokio::join!(large, small);
    assert_eq!(large.unwrap().binary().unwrap().len(), size);
}

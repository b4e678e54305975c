//! Calls, servers and `sys` between two nodes of ours.

use tokio::time::{Instant, timeout};

use super::*;
use crate::epmd::EpmdServer;
use crate::list;
use crate::node::router::Recipient;
use crate::node::{Cookie, NodeConfig, Origin, RegisterError};
use crate::term::{Creation, NodeName, Reference};

/// Far above what anything here takes; only a broken test waits so long.
const LIMIT: Duration = Duration::from_secs(5);

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
    a.connect(b.name()).await.unwrap();
    Pair { a, b, _epmd: epmd }
}

/// A server that does what it is told.
#[derive(Default)]
struct Obedient {
    kept: Option<Caller>,
    infos: Vec<Term>,
    /// Gets the reason when it is terminated.
    watcher: Option<Pid>,
}

impl GenServer for Obedient {
    async fn handle_call(&mut self, request: Term, caller: Caller, context: &Context) -> Reply {
        let Term::Atom(word) = &request else { return Reply::Now(request) };
        match word.as_str() {
            "keep" => {
                self.kept = Some(caller);
                Reply::Later
            }
            "from_a_task" => {
                tokio::spawn(async move { caller.reply(atom!("from_there")) });
                Reply::Later
            }
            "stop" => {
                Reply::Stop { reason: atom!("done").into(), reply: Some(atom!("bye").into()) }
            }
            "give_up" => Reply::Stop { reason: atom!("tired").into(), reply: None },
            "panic" => panic!("no {}", context.pid().id),
            "hang" => std::future::pending().await,
            _ => Reply::Now(request),
        }
    }

    async fn handle_cast(&mut self, request: Term, context: &Context) -> Next {
        if let Some([watcher]) = request.tagged("watch") {
            self.watcher = watcher.pid().ok().cloned();
        } else if request.is_atom("release") {
            self.kept.take().unwrap().reply(atom!("kept"));
        } else if let Some([pid]) = request.tagged("trap") {
            context.process().trap_exit(true);
            context.process().link(pid.pid().unwrap());
        } else {
            return Next::Stop(request);
        }
        Next::Continue
    }

    async fn handle_info(&mut self, info: Received, _: &Context) -> Next {
        self.infos.push(info.into_term());
        Next::Continue
    }

    async fn terminate(&mut self, reason: &Term, context: &Context) {
        if let Some(watcher) = &self.watcher {
            context.process().send(watcher, tuple![atom!("terminated"), reason]);
        }
    }

    fn state_term(&self) -> Term {
        Term::list_of(self.infos.iter().cloned())
    }
}

async fn down(process: &mut Process) -> Term {
    loop {
        let received = timeout(LIMIT, process.receive()).await.expect("nothing came").unwrap();
        if let Received::Down { reason, .. } = received {
            return reason;
        }
    }
}

#[tokio::test]
async fn a_server_replies_at_once_later_or_from_another_task() {
    let Pair { a, b, _epmd } = pair().await;
    let server = start_registered(&b, atom!("server"), Obedient::default()).unwrap();
    let name = (atom!("server"), b.name().clone());
    for node in [&a, &b] {
        assert_eq!(call(node, &server, 1).await.unwrap(), Term::from(1));
        let there = call(node, name.clone(), atom!("from_a_task")).await.unwrap();
        assert_eq!(there, atom!("from_there"));
        let (kept, ()) = tokio::join!(call(node, &server, atom!("keep")), async {
            // Behind the call: both go the same way.
            while call(node, &server, 1).await.is_err() {}
            cast(node, &server, atom!("release")).await.unwrap();
        });
        assert_eq!(kept.unwrap(), atom!("kept"));
    }
    let taken = start_registered(&b, atom!("server"), Obedient::default());
    assert!(matches!(taken, Err(RegisterError::Taken { .. })));
}

#[tokio::test]
async fn a_server_ends_with_the_reason_it_gives() {
    let Pair { a, b, _epmd } = pair().await;
    let mut watcher = a.spawn();
    for (request, result, reason) in
        [("stop", Some(atom!("bye")), atom!("done")), ("give_up", None, atom!("tired"))]
    {
        let server = start(&b, Obedient::default());
        watcher.monitor(&server);
        cast(&a, &server, tuple![atom!("watch"), watcher.pid()]).await.unwrap();
        match (call(&a, &server, Atom::new(request).unwrap()).await, result) {
            (Ok(reply), Some(expected)) => assert_eq!(reply, expected),
            (Err(CallError::Exit { reason: why, .. }), None) => assert_eq!(why, reason),
            other => panic!("{other:?}"),
        }
        let terminated = timeout(LIMIT, watcher.receive()).await.unwrap().unwrap().into_term();
        assert_eq!(terminated, tuple![atom!("terminated"), &reason]);
        assert_eq!(down(&mut watcher).await, reason);
    }
    let server = start(&b, Obedient::default());
    stop(&a, &server, atom!("enough")).await.unwrap();
    assert!(matches!(stop(&a, &server, 1).await, Err(CallError::NoProc { .. })));
}

#[tokio::test]
async fn a_panic_ends_the_server_and_nothing_else() {
    let Pair { a, b, _epmd } = pair().await;
    let (server, other) = (start(&b, Obedient::default()), start(&b, Obedient::default()));
    let Err(CallError::Exit { reason, .. }) = call(&a, &server, atom!("panic")).await else {
        panic!("it lives")
    };
    assert_eq!(reason, tuple![atom!("panic"), Term::binary_of(format!("no {}", server.id))]);
    assert_eq!(call(&a, &other, 1).await.unwrap(), Term::from(1));
}

#[tokio::test]
async fn an_exit_signal_ends_a_server_that_waits_for_ever() {
    let Pair { a, b, _epmd } = pair().await;
    let server = start(&b, Obedient::default());
    let killer = a.spawn();
    let (result, ()) = tokio::join!(call(&a, &server, atom!("hang")), async {
        a.exit(&killer, &server, atom!("kill"));
    });
    let Err(CallError::Exit { reason, .. }) = result else { panic!("{result:?}") };
    assert_eq!(reason, atom!("killed"));
    assert!(!b.is_alive(&server));
}

#[tokio::test]
async fn a_call_ends_with_what_happened() {
    let Pair { a, b, _epmd } = pair().await;
    let nobody = (atom!("nobody"), b.name().clone());
    assert!(matches!(call(&a, nobody, 1).await, Err(CallError::NoProc { .. })));
    let server = start(&b, Obedient::default());
    let short = Duration::from_millis(20);
    let late = call_within(&a, &server, atom!("keep"), short).await;
    assert!(matches!(late, Err(CallError::Timeout { .. })), "{late:?}");
    // A reply that nobody waits for harms nobody.
    cast(&a, &server, atom!("release")).await.unwrap();
    assert_eq!(call(&a, &server, 1).await.unwrap(), Term::from(1));
    let (lost, ()) = tokio::join!(call(&a, &server, atom!("keep")), async {
        // Behind the call: both go the same way.
        while call(&a, &server, 1).await.is_err() {}
        b.stop().await;
    });
    // The server was told to end before the connection closed.
    let Err(CallError::Exit { reason, .. }) = lost else { panic!("{lost:?}") };
    assert_eq!(reason, atom!("shutdown"));
    let gone = call(&a, &server, 1).await;
    assert!(matches!(gone, Err(CallError::Send(_))), "{gone:?}");
}

#[tokio::test]
async fn a_reply_ends_the_alias_and_the_monitor_of_its_call() {
    let Pair { a, b, _epmd } = pair().await;
    let mut caller = a.spawn();
    let mut other = b.spawn();
    let alias = caller.monitor_alias(other.pid());
    for n in [1, 2] {
        other.send(alias.clone(), n);
    }
    other.send(caller.pid(), 3);
    for expected in [1, 3] {
        let term = timeout(LIMIT, caller.receive()).await.unwrap().unwrap().into_term();
        assert_eq!(term, Term::from(expected));
    }
    // The `Demonitor` is there when what was sent after it is; so no `DOWN` comes.
    caller.send(other.pid(), 4);
    timeout(LIMIT, other.receive()).await.unwrap().unwrap();
    let once = caller.alias_once();
    let monitor = caller.monitor(other.pid());
    other.send(once.clone(), 5);
    other.send(once, 6);
    other.exit(atom!("done"));
    let five = timeout(LIMIT, caller.receive()).await.unwrap().unwrap().into_term();
    assert_eq!(five, Term::from(5));
    let Some(Received::Down { reference, .. }) = timeout(LIMIT, caller.receive()).await.unwrap()
    else {
        panic!("no DOWN")
    };
    assert_eq!(reference, monitor);
}

#[tokio::test]
async fn a_multi_call_says_who_replied_and_who_did_not() {
    let Pair { a, b, _epmd } = pair().await;
    start_registered(&a, atom!("server"), Obedient::default()).unwrap();
    start_registered(&b, atom!("server"), Obedient::default()).unwrap();
    let nobody = NodeName::new("nobody@127.0.0.1").unwrap();
    let nodes = [b.name().clone(), nobody.clone(), a.name().clone()];
    let all = multi_call(&a, nodes, &atom!("server"), 7, LIMIT).await;
    assert_eq!(all.replies, [(b.name().clone(), 7.into()), (a.name().clone(), 7.into())]);
    let [(bad, CallError::Send(_))] = &all.bad_nodes[..] else { panic!("{all:?}") };
    assert_eq!(*bad, nobody);
}

/// What `sys` asks, and the answer.
async fn ask_sys(caller: &mut Process, server: &Pid, request: impl Into<Term>) -> Term {
    let tag = caller.alias_once();
    let from = tuple![caller.pid(), &tag];
    caller.send(server, tuple![atom!("system"), from, request.into()]);
    let answer = timeout(LIMIT, caller.receive()).await.expect("no answer").unwrap().into_term();
    let [echoed, reply] = answer.tuple::<2>().unwrap();
    assert_eq!(*echoed, Term::from(&tag));
    reply.clone()
}

#[tokio::test]
async fn sys_sees_and_suspends_a_server() {
    let Pair { a, b, _epmd } = pair().await;
    let mut caller = a.spawn();
    let server = start(&b, Obedient::default());
    let ok = Term::from(atom!("ok"));
    assert_eq!(ask_sys(&mut caller, &server, atom!("suspend")).await, ok);
    for n in [1, 2, 3] {
        caller.send(&server, n);
    }
    let state = |infos: Term| tuple![atom!("ok"), infos];
    assert_eq!(ask_sys(&mut caller, &server, atom!("get_state")).await, state(Term::NIL));
    let status = ask_sys(&mut caller, &server, atom!("get_status")).await;
    let [tag, pid, module, items] = status.tuple::<4>().unwrap();
    assert!(tag.is_atom("status") && *pid == server);
    assert_eq!(*module, tuple![atom!("module"), atom!("gen_server")]);
    assert!(items.list().unwrap()[1].is_atom("suspended"), "{items}");
    assert_eq!(ask_sys(&mut caller, &server, atom!("resume")).await, ok);
    assert_eq!(call(&a, &server, 1).await.unwrap(), Term::from(1));
    let infos = state(list![1, 2, 3]);
    assert_eq!(ask_sys(&mut caller, &server, atom!("get_state")).await, infos);
    let replace = tuple![atom!("replace_state"), 1];
    let refused = ask_sys(&mut caller, &server, replace).await;
    assert!(refused.tagged("error").is_some(), "{refused}");
    let unknown = tuple![atom!("error"), tuple![atom!("unknown_system_msg"), atom!("what")]];
    assert_eq!(ask_sys(&mut caller, &server, atom!("what")).await, unknown);
    caller.monitor(&server);
    let terminate = tuple![atom!("terminate"), atom!("enough")];
    assert_eq!(ask_sys(&mut caller, &server, terminate).await, ok);
    assert_eq!(down(&mut caller).await, atom!("enough"));
}

#[tokio::test]
async fn who_serves_input_and_output_gets_the_requests() {
    let Pair { a, b, _epmd } = pair().await;
    let (mut caller, mut server) = (a.spawn(), b.spawn());
    let request = tuple![atom!("io_request"), caller.pid(), 1, atom!("getopts")];
    for sender in [&a, &b] {
        sender.send(server.pid(), &request).await.unwrap();
        let refused = timeout(LIMIT, caller.receive()).await.unwrap().unwrap().into_term();
        let error = tuple![atom!("error"), atom!("enotsup")];
        assert_eq!(refused, tuple![atom!("io_reply"), 1, error]);
    }
    server.receive_io_requests(true);
    for sender in [&a, &b] {
        sender.send(server.pid(), &request).await.unwrap();
        let received = timeout(LIMIT, server.receive()).await.unwrap().unwrap().into_term();
        assert_eq!(received, request);
    }
}

/// A service that panics when it's told to.
struct Fragile;

impl GenServer for Fragile {
    async fn handle_call(&mut self, request: Term, _: Caller, _: &Context) -> Reply {
        assert!(!request.is_atom("panic"), "told to");
        Reply::Now(request)
    }
}

#[tokio::test]
async fn a_service_is_there_for_as_long_as_its_node() {
    let Pair { a, b, _epmd } = pair().await;
    keep(&b, atom!("service"), || Fragile);
    let name = || (atom!("service"), b.name().clone());
    let (mut caller, first) = (a.spawn(), b.whereis(&atom!("service")).unwrap());
    for reason in ["kill", "shutdown", "normal"] {
        a.exit(&caller, &first, Atom::new(reason).unwrap());
    }
    for request in [atom!("suspend").into(), tuple![atom!("terminate"), atom!("x")]] {
        let refused = ask_sys(&mut caller, &first, request.clone()).await;
        let why = tuple![atom!("unknown_system_msg"), request];
        assert_eq!(refused, tuple![atom!("error"), why]);
    }
    assert_eq!(call(&a, name(), 1).await.unwrap(), Term::from(1));
    assert_eq!(b.whereis(&atom!("service")), Some(first.clone()));

    let panicked = call(&a, name(), atom!("panic")).await;
    assert!(matches!(panicked, Err(CallError::Exit { .. })), "{panicked:?}");
    let again = async { while call(&a, name(), 1).await.is_err() {} };
    timeout(LIMIT, again).await.expect("it isn't there any more");
    assert!(!b.is_alive(&first));
    let router = b.router().clone();
    b.stop().await;
    let gone = async {
        while router.process_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, gone).await.expect("it outlives its node");
}

#[tokio::test]
async fn what_waits_for_a_suspended_server_counts_as_unhandled() {
    let Pair { a, b, _epmd } = pair().await;
    let mut caller = a.spawn();
    let server = start(&b, Obedient::default());
    ask_sys(&mut caller, &server, atom!("suspend")).await;
    let monitor = caller.monitor(&server);
    let half_a_megabyte = Term::binary_of(vec![0; 1 << 19]);
    let limit = b.router().limits().unhandled >> 19;
    for _ in 0..limit + 2 {
        if a.send(&server, &half_a_megabyte).await.is_err() {
            break;
        }
    }
    let lost = timeout(LIMIT * 4, caller.receive()).await.expect("the connection lives").unwrap();
    let Received::Down { reference, reason, .. } = lost else { panic!("{lost:?}") };
    assert!(reference == monitor && reason.is_atom("noconnection"), "{reason}");
}

#[tokio::test]
async fn a_trapped_exit_is_an_info() {
    let Pair { a, b, _epmd } = pair().await;
    let mut caller = a.spawn();
    let server = start(&b, Obedient::default());
    let linked = a.spawn();
    cast(&a, &server, tuple![atom!("trap"), linked.pid()]).await.unwrap();
    call(&a, &server, 1).await.unwrap();
    let pid = linked.pid().clone();
    linked.exit(atom!("broken"));
    call(&a, &server, 1).await.unwrap();
    let exit = list![tuple![atom!("EXIT"), pid, atom!("broken")]];
    let state = ask_sys(&mut caller, &server, atom!("get_state")).await;
    assert_eq!(state, tuple![atom!("ok"), exit]);
}

#[test]
fn a_reply_goes_where_the_form_of_the_tag_says() {
    let node = NodeName::new("a@b").unwrap();
    let pid = Pid { node: node.clone(), id: 1, serial: 0, creation: Creation(4) };
    let reference = Reference::new(node, Creation(4), &[1, 2, 3]).unwrap();
    let alias = Term::list_with_tail(vec![atom!("alias").into()], (&reference).into());
    let nested = Term::list_with_tail(vec![alias.clone()], (&reference).into());
    let to_pid = Destination::Pid(pid.clone());
    let to_alias = Destination::Alias(reference.clone());

    assert_eq!(reply_destination(&pid, &(&reference).into()), to_pid);
    assert_eq!(reply_destination(&pid, &tuple![&reference, atom!("n@h")]), to_pid);
    assert_eq!(reply_destination(&pid, &alias), to_alias);
    assert_eq!(reply_destination(&pid, &nested), to_alias);
    assert_eq!(reply_destination(&pid, &list![atom!("alias"), &reference]), to_pid);
}

/// It takes a little of what waits for it all the time.
#[tokio::test]
async fn a_server_waits_for_a_slow_caller_and_a_service_does_not() {
    let Pair { a, b, _epmd } = pair().await;
    let server = start_registered(&b, atom!("server"), Obedient::default()).unwrap();
    let router = b.router();
    let known = router.table().up(a.name()).unwrap();
    let slow = NodeName::new("slow@127.0.0.1").unwrap();
    let caller = Pid { node: slow.clone(), ..server.clone() };
    let slow = router.new_connection(slow, known.creation(), known.flags());
    let half = Term::binary_of(vec![7; router.limits().soft_mark / 2 + 1]);
    for _ in 0..2 {
        router.publish(&server, [&Recipient::new(slow.clone(), &caller)], &half);
    }
    assert!(slow.queue().is_crowded());
    let taking = tokio::spawn({
        let slow = slow.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                slow.queue().written(1);
            }
        }
    });
    // Whether who asks behind three calls of the slow one waits a second for each of them.
    for (name, waits) in [(atom!("net_kernel"), false), (atom!("server"), true)] {
        for _ in 0..3 {
            let from = tuple![&caller, atom!("tag")];
            let call = tuple![atom!("$gen_call"), from, 1];
            assert!(router.pass_on(&name, call, Origin::Connection(slow.clone()), None));
        }
        let asked = Instant::now();
        call(&a, (name.clone(), b.name().clone()), 1).await.unwrap();
        let waited = asked.elapsed();
        assert_eq!(waited >= Duration::from_secs(2), waits, "{name}: {waited:?}");
    }
    taking.abort();
}

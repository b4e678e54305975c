//! Much at once: replies to many callers, messages of many processes, and what is too large to be
//! said at all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use data_publisher::gen_server::{self, Caller, Context, GenServer, Next, Reply};
use data_publisher::node::{DownReason, NodeEvent};
use data_publisher::pg::Pg;
use data_publisher::term::Term;
use data_publisher::{Node, atom, list, rpc};
use futures::FutureExt;

use super::Pair;
use crate::otp::on_each_release;
use crate::support::{Otp, SOON};

on_each_release! {
    as_many_large_replies_as_are_asked_for_arrive
    many_processes_send_large_messages_at_once
    who_asks_for_too_much_gets_an_error
    a_large_result_lets_small_messages_pass
}

/// For what takes long on a machine that has more to do.
const PATIENT: Duration = Duration::from_secs(60);

/// Answers each call by so many bytes, at once or from a task of its own, and shows as many.
struct Large(usize);

impl GenServer for Large {
    async fn handle_call(&mut self, request: Term, caller: Caller, _: &Context) -> Reply {
        let reply = self.state_term();
        if request.is_atom("later") {
            tokio::spawn(caller.reply_soon(reply));
            Reply::Later
        } else {
            Reply::Now(reply)
        }
    }

    async fn handle_cast(&mut self, request: Term, _: &Context) -> Next {
        self.0 = request.integer().map_or(0, |bytes| usize::try_from(bytes).unwrap_or(0));
        Next::Continue
    }

    fn state_term(&self) -> Term {
        Term::binary_of(vec![7; self.0])
    }
}

/// `m:large/1` gives so many bytes.
fn allow_large(node: &Node) {
    node.rpc().allow(atom!("m"), atom!("large"), 1, |args| async move {
        let bytes = usize::try_from(args[0].integer()?).unwrap_or(0);
        Ok(Term::binary_of(vec![7; bytes]))
    });
}

async fn as_many_large_replies_as_are_asked_for_arrive(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let mut events = pair.rust.events();
    ensure!(matches!(events.next().await, Some(NodeEvent::Up { .. })), "it was up");
    allow_large(&pair.rust);
    gen_server::start_registered(&pair.rust, atom!("large"), Large(0))?;
    let pg = Pg::start(&pair.rust, atom!("s"))?;
    let worker = pair.rust.spawn();
    // How many of `Callers` processes got at least `Bytes` from `Ask`, and what the others got.
    pair.erl
        .eval(
            "N = 'r@127.0.0.1', S = {s, N}, L = {large, N}, \
             Many = fun(Callers, Bytes, Ask) -> \
               Asked = [spawn_monitor(fun() -> \
                   exit(try {got, erlang:external_size(Ask()) >= Bytes} catch _:W -> W end) \
                 end) || _ <- lists:seq(1, Callers)], \
               Got = [receive {'DOWN', R, _, _, What} -> What end || {_, R} <- Asked], \
               {length([x || {got, true} <- Got]), lists:usort(Got) -- [{got, true}]} end, ok",
        )
        .await?;
    for (callers, bytes) in [(40, 810_000), (400, 81_000), (17, 900_000)] {
        let group = Term::binary_of(vec![3; bytes]);
        pg.join(&group, worker.pid()).await?;
        pair.erl.eval(&format!("gen_server:cast(L, {bytes}), ok")).await?;
        for ask in [
            "sys:get_state(S, 50000)",
            "sys:get_status(S, 50000)",
            "sys:get_state(L, 50000)",
            "gen_server:call(L, now, 50000)",
            "gen_server:call(L, later, 50000)",
            &format!("erpc:call(N, m, large, [{bytes}], 50000)"),
            &format!("rpc:block_call(N, m, large, [{bytes}], 50000)"),
        ] {
            let many = format!("Many({callers}, {bytes}, fun() -> {ask} end)");
            let got = pair.erl.eval_within(&many, PATIENT).await?;
            let down = events.next().now_or_never();
            ensure!(down.is_none(), "{callers} x {ask}, {bytes} bytes: {down:?}");
            ensure!(got == format!("{{{callers},[]}}"), "{callers} x {ask}, {bytes} bytes: {got}");
        }
        pg.leave(&group, worker.pid()).await?;
    }
    // And the other way round: arguments.
    let there = pair.there()?;
    let argument = Term::binary_of(vec![7; 900_000]);
    let calls = (0..40).map(|_| {
        let args = list![&argument];
        rpc::call_within(&pair.rust, &there, atom!("erlang"), atom!("byte_size"), args, PATIENT)
    });
    for size in futures::future::try_join_all(calls).await? {
        assert_eq!(size, Term::from(900_000));
    }
    let down = events.next().now_or_never();
    ensure!(down.is_none(), "{down:?}");
    pair.erl.finish().await
}

async fn many_processes_send_large_messages_at_once(otp: Otp) -> Result<()> {
    const SENDERS: u32 = 300;
    let pair = Pair::start(otp).await?;
    let mut events = pair.rust.events();
    ensure!(matches!(events.next().await, Some(NodeEvent::Up { .. })), "it was up");
    let mut sink = pair.rust.spawn();
    pair.rust.register(atom!("sink"), sink.pid())?;
    // At once: what isn't taken from a mailbox soon is too much for it.
    let taken = tokio::spawn(async move {
        let mut missing: BTreeSet<_> = (1..=SENDERS).map(i64::from).collect();
        while !missing.is_empty() {
            let received = tokio::time::timeout(SOON, sink.receive()).await;
            let received = received.with_context(|| format!("{} are missing", missing.len()))?;
            let message = received.context("the process has ended")?.into_term();
            let [number, binary] = message.tuple::<2>()?;
            let (number, bytes) = (number.integer()?, binary.binary()?);
            let byte = number.to_le_bytes()[0];
            let all = bytes.len() == 1_000_000 && bytes.iter().step_by(9_999).all(|b| *b == byte);
            ensure!(all && missing.remove(&number), "{number} is wrong");
        }
        anyhow::Ok(())
    });
    pair.erl
        .peek(&format!(
            "Senders = [spawn(fun() -> B = binary:copy(<<N>>, 1000000), \
               receive go -> {{sink, 'r@127.0.0.1'}} ! {{N, B}} end end) \
             || N <- lists:seq(1, {SENDERS})], [P ! go || P <- Senders], ok"
        ))
        .await?;
    let taken = taken.await?;
    let down = events.next().now_or_never();
    taken.with_context(|| format!("{down:?}"))?;
    ensure!(down.is_none(), "{down:?}");
    pair.erl.finish().await
}

async fn who_asks_for_too_much_gets_an_error(otp: Otp) -> Result<()> {
    const TOO_MUCH: usize = 257 << 20;
    let pair = Pair::start(otp).await?;
    let mut events = pair.rust.events();
    ensure!(matches!(events.next().await, Some(NodeEvent::Up { .. })), "it was up");
    allow_large(&pair.rust);
    let server = gen_server::start_registered(&pair.rust, atom!("large"), Large(TOO_MUCH))?;
    for (expression, expected) in [
        (
            format!("catch erpc:call('r@127.0.0.1', m, large, [{TOO_MUCH}])"),
            "{system_limit,too_large}",
        ),
        (format!("rpc:call('r@127.0.0.1', m, large, [{TOO_MUCH}])"), "{system_limit,too_large}"),
        (
            String::from("gen_server:call({large, 'r@127.0.0.1'}, get, infinity)"),
            "{error,{system_limit,too_large}}",
        ),
        (
            String::from("catch sys:get_state({large, 'r@127.0.0.1'}, infinity)"),
            "{system_limit,too_large}",
        ),
    ] {
        let seen = pair.erl.eval_within(&expression, PATIENT).await?;
        ensure!(seen.contains(expected), "`{expression}`: {seen}");
    }
    // An exit signal as well.
    let linked = format!(
        "T = self(), register(linked, spawn(fun() -> process_flag(trap_exit, true), \
         link({}), T ! linked, \
         receive {{'EXIT', _, W}} -> receive {{ask, P}} -> P ! {{ended, W}} end end end)), \
         receive linked -> erpc:call('r@127.0.0.1', erlang, node, []) end",
        crate::otp::erlang_pid(&server)
    );
    pair.erl.eval(&linked).await?;
    let killer = pair.rust.spawn();
    pair.rust.exit(&killer, &server, Term::binary_of(vec![7; TOO_MUCH]));
    let ended = "linked ! {ask, self()}, receive {ended, Why} -> Why end";
    assert_eq!(pair.erl.eval_within(ended, PATIENT).await?, "{system_limit,too_large}");
    let down = events.next().now_or_never();
    ensure!(!matches!(down, Some(Some(NodeEvent::Down { reason: DownReason::Slow, .. }))));
    ensure!(down.is_none(), "{down:?}");
    pair.erl.finish().await
}

async fn a_large_result_lets_small_messages_pass(otp: Otp) -> Result<()> {
    const LARGE: usize = 64 << 20;
    let pair = Pair::start(otp).await?;
    pair.erl.load("erlang/test/flood.erl").await?;
    allow_large(&pair.rust);
    let mut echo = pair.rust.spawn();
    pair.rust.register(atom!("echo"), echo.pid())?;
    tokio::spawn(async move {
        while let Some(received) = echo.receive().await {
            let message = received.into_term();
            if let Ok([Term::Pid(from), what]) = message.tuple::<2>() {
                echo.send(from.clone(), data_publisher::tuple![atom!("echo"), what]);
            }
        }
    });
    let tested = format!(
        "T = self(), P = spawn(fun() -> T ! flood:ping({{echo, 'r@127.0.0.1'}}, 10000) end), \
         {LARGE} = byte_size(erpc:call('r@127.0.0.1', m, large, [{LARGE}])), P ! {{done, out}}, \
         receive {{_, Count, Longest}} -> {{Count, Longest}} end"
    );
    let tested: Term = pair.erl.eval_within(&tested, PATIENT).await?.parse()?;
    let [count, longest] = tested.tuple::<2>()?;
    let longest = Duration::from_micros(longest.integer()?.cast_unsigned());
    ensure!(count.integer()? >= 20 && longest < Duration::from_secs(1), "{tested}");
    pair.erl.finish().await
}

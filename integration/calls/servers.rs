//! `gen_server`, both ways.

use std::time::Duration;

use anyhow::{Result, bail};
use data_publisher::gen_server::{self, CallError};
use data_publisher::pg::Pg;
use data_publisher::term::{Destination, NodeName, Term};
use data_publisher::{atom, tuple};

use super::{AT_ONCE, Counter, Pair};
use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Otp, SOON, wait_eval};

on_each_release! {
    a_rust_server_answers_every_form_of_call
    late_replies_are_dropped
    a_rust_server_ends_as_its_callers_expect
    a_server_on_the_beam_is_called_from_rust
}

async fn a_rust_server_answers_every_form_of_call(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let pid = gen_server::start_registered(&pair.rust, atom!("counter"), Counter::default())?;
    let pid = erlang_pid(&pid);
    pair.erl.eval(&format!("Pid = {pid}, S = {{counter, 'r@127.0.0.1'}}")).await?;
    pair.assert_each(&[
        ("gen_server:call(S, get)", "0"),
        ("gen_server:cast(S, {add, 3}), gen_server:call(Pid, get)", "3"),
        ("Pid ! info, gen_server:call(S, get, infinity)", "103"),
        ("gen_server:call(S, {a, \"b\", <<\"c\">>, 1.5})", "{a,\"b\",<<\"c\">>,1.5}"),
        ("gen_server:call(S, later)", "later"),
        ("gen_server:multi_call(['r@127.0.0.1'], counter, get)", "{[{'r@127.0.0.1',103}],[]}"),
        (
            "gen_server:multi_call(['r@127.0.0.1'], counter, later, 900)",
            "{[{'r@127.0.0.1',later}],[]}",
        ),
        ("gen_server:abcast(['r@127.0.0.1'], counter, {add, 1}), gen_server:call(S, get)", "104"),
        ("gen_server:receive_response(gen_server:send_request(S, get), 900)", "{reply,104}"),
        ("gen_server:wait_response(gen_server:send_request(Pid, later), 900)", "{reply,later}"),
        // A call of long ago: the tag is a plain reference.
        ("Pid ! {'$gen_call', {self(), R0 = make_ref()}, get}, receive {R0, X0} -> X0 end", "104"),
        // And any other term.
        ("Pid ! {'$gen_call', {self(), tag}, get}, receive {tag, X1} -> X1 end", "104"),
        (
            "catch gen_server:call({nobody, 'r@127.0.0.1'}, get)",
            "{'EXIT',{noproc,{gen_server,call,[{nobody,'r@127.0.0.1'},get]}}}",
        ),
        (
            "{error, {W2, _}} = gen_server:receive_response(gen_server:send_request(\
             {nobody, 'r@127.0.0.1'}, get), 900), W2",
            "noproc",
        ),
        ("gen_server:multi_call(['r@127.0.0.1'], nobody, get)", "{[],['r@127.0.0.1']}"),
    ])
    .await?;
    pair.erl.finish().await
}

async fn late_replies_are_dropped(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    gen_server::start_registered(&pair.rust, atom!("counter"), Counter::default())?;
    // All in one process: what comes late would be in its mailbox.
    let late = "S = {counter, 'r@127.0.0.1'}, \
        {'EXIT', {timeout, _}} = (catch gen_server:call(S, keep, 20)), \
        Ms = gen_server:multi_call(['r@127.0.0.1'], counter, keep, 20), \
        gen_server:cast(S, release), 0 = gen_server:call(S, get), \
        {Ms, process_info(self(), messages)}";
    let seen = pair.erl.eval_within(late, SOON).await?;
    assert_eq!(seen, "{{[],['r@127.0.0.1']},{messages,[]}}");

    // From here: the BEAM's reply finds neither alias nor process.
    pair.erl
        .eval(
            "register(slow, spawn(fun() -> receive {'$gen_call', From, _} -> \
             receive go -> gen_server:reply(From, late) end end, receive stop -> ok end end))",
        )
        .await?;
    let slow = Destination::Name(atom!("slow"), pair.there()?);
    let limit = Duration::from_millis(50);
    let error = gen_server::call_within(&pair.rust, slow, 1, limit).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    pair.erl.eval("slow ! go").await?;
    pair.assert_each(&[("gen_server:call({counter, 'r@127.0.0.1'}, get)", "0")]).await?;
    pair.erl.finish().await
}

async fn a_rust_server_ends_as_its_callers_expect(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let start = || gen_server::start_registered(&pair.rust, atom!("counter"), Counter::default());
    let down = "S = {counter, 'r@127.0.0.1'}, \
        Ask = fun(What) -> M = monitor(process, S), A = (catch gen_server:call(S, What)), \
        receive {'DOWN', M, process, S, Why} -> {A, Why} end end, ok";
    pair.erl.eval(down).await?;
    for (expression, value) in [
        ("Ask(stop)", "{bye,stopped}"),
        ("{{'EXIT', {P1, _}}, P1} = Ask(panic), P1", "{panic,<<\"told to\">>}"),
        ("gen_server:stop(S)", "ok"),
        ("gen_server:stop(S, enough, 900)", "ok"),
        (
            "K = monitor(process, S), sys:terminate(S, late), \
             receive {'DOWN', K, process, S, W3} -> W3 end",
            "late",
        ),
    ] {
        start()?;
        pair.assert_each(&[(expression, value)]).await?;
    }
    let killed = erlang_pid(&start()?);
    let kill = format!(
        "T = self(), \
         {{_, L}} = spawn_monitor(fun() -> link({killed}), T ! linked, receive x -> ok end end), \
         receive linked -> ok end, exit({killed}, kill), \
         receive {{'DOWN', L, _, _, W4}} -> W4 end"
    );
    pair.assert_each(&[(&kill, "killed")]).await?;
    // The node is as well as ever.
    pair.assert_each(&[("net_adm:ping('r@127.0.0.1')", "pong")]).await?;
    pair.erl.finish().await
}

async fn a_server_on_the_beam_is_called_from_rust(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let (rust, there) = (&pair.rust, pair.there()?);
    let name = |name: &str| -> Result<Destination> { Ok((name.parse()?, there.clone()).into()) };
    let children =
        gen_server::call_within(rust, name("kernel_sup")?, atom!("count_children"), AT_ONCE)
            .await?;
    assert!(children.list().is_ok(), "{children}");

    let nobody = NodeName::new("nobody@127.0.0.1")?;
    let yes = tuple![atom!("is_auth"), rust.name()];
    let nodes = [nobody.clone(), there.clone(), rust.name().clone()];
    let all = gen_server::multi_call(rust, nodes, &atom!("net_kernel"), yes, SOON).await;
    let good = |node: &NodeName| (node.clone(), Term::from(atom!("yes")));
    assert_eq!(all.replies, [good(&there), good(rust.name())]);
    let [(bad, CallError::Send(_))] = &all.bad_nodes[..] else { bail!("{all:?}") };
    assert_eq!(*bad, nobody);

    // A server of OTP ends as it's told.
    pair.erl.eval("{ok, _} = pg:start(s), ok").await?;
    gen_server::stop(rust, name("s")?, atom!("normal")).await?;
    wait_eval(&pair.erl, "whereis(s)", "undefined", SOON).await?;
    let error = gen_server::stop(rust, name("s")?, atom!("normal")).await.unwrap_err();
    assert!(matches!(error, CallError::NoProc { .. }), "{error}");

    // And one of ours that is a scope.
    let _pg = Pg::start(rust, atom!("mine"))?;
    pair.assert_each(&[("gen_server:stop({mine, 'r@127.0.0.1'})", "ok")]).await?;
    assert_eq!(rust.whereis(&atom!("mine")), None);
    pair.erl.finish().await
}

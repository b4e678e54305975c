//! `rpc` and `erpc`, both ways, and processes that one side starts on the other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use data_publisher::node::{Received, SpawnRequest};
use data_publisher::rpc::{self, Class, Exception, RpcError};
use data_publisher::term::{List, Term};
use data_publisher::{Node, atom, list, tuple};

use super::{AT_ONCE, Pair, next, term};
use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Otp, SOON, wait_eval, wait_until};

on_each_release! {
    beam_processes_call_what_is_allowed
    what_is_not_allowed_is_undef_at_once
    beam_processes_spawn_here
    functions_of_the_beam_are_called_from_rust
    rust_processes_spawn_on_the_beam
    rex_answers_who_writes_to_it_without_rpc
}

/// `m:f/1`, which does what its argument says.
fn allow(node: &Node) {
    let pid = node.clone();
    node.rpc().allow(atom!("m"), atom!("f"), 1, move |args| {
        let node = pid.clone();
        async move {
            if let Some([to, message]) = args[0].tagged("send") {
                node.send(to.pid()?, message).await.map_err(|_| Exception::badarg())?;
                return Ok(atom!("sent").into());
            }
            let Term::Atom(word) = &args[0] else { return Ok(args[0].clone()) };
            match word.as_str() {
                "error" => Err(Exception::error(atom!("no"))),
                "exit" => Err(Exception::exit(atom!("no"))),
                "throw" => Err(Exception::throw(atom!("no"))),
                "panic" => panic!("told to"),
                "hang" => std::future::pending().await,
                _ => Ok(args[0].integer()?.into()),
            }
        }
    });
}

async fn beam_processes_call_what_is_allowed(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    allow(&pair.rust);
    let mut inbox = pair.rust.spawn();
    let pid = erlang_pid(inbox.pid());
    pair.erl.eval(&format!("N = 'r@127.0.0.1', Inbox = {pid}, ok")).await?;
    pair.assert_each(&[
        ("rpc:call(N, m, f, [{1, \"a\"}])", "{1,\"a\"}"),
        ("rpc:call(N, m, f, [2], 900)", "2"),
        ("erpc:call(N, m, f, [3])", "3"),
        ("erpc:call(N, m, f, [4], 900)", "4"),
        ("rpc:block_call(N, m, f, [5])", "5"),
        ("rpc:yield(rpc:async_call(N, m, f, [6]))", "6"),
        ("erpc:receive_response(erpc:send_request(N, m, f, [7]), 900)", "7"),
        ("rpc:multicall([N], m, f, [{8}])", "{[{8}],[]}"),
        ("rpc:multicall([node(), N], erlang, node, [])", "{['a@127.0.0.1','r@127.0.0.1'],[]}"),
        ("erpc:multicall([N], m, f, [9])", "[{ok,9}]"),
        ("rpc:call(N, erlang, nodes, [])", "['a@127.0.0.1']"),
        ("rpc:call(N, erlang, system_info, [otp_release])", "\"29\""),
        ("is_integer(rpc:call(N, erlang, system_info, [creation]))", "true"),
        // What it raises.
        ("rpc:call(N, m, f, [error])", "{badrpc,{'EXIT',{no,[{m,f,1,[]}]}}}"),
        ("rpc:call(N, m, f, [exit])", "{badrpc,{'EXIT',no}}"),
        ("rpc:call(N, m, f, [throw])", "no"),
        ("rpc:call(N, m, f, [panic])", "{badrpc,{'EXIT',{{panic,<<\"told to\">>},[{m,f,1,[]}]}}}"),
        (
            "rpc:call(N, erlang, system_info, [what])",
            "{badrpc,{'EXIT',{badarg,[{erlang,system_info,1,[]}]}}}",
        ),
        (
            "try erpc:call(N, m, f, [error]) catch C1:E1 -> {C1, E1} end",
            "{error,{exception,no,[{m,f,1,[]}]}}",
        ),
        ("try erpc:call(N, m, f, [exit]) catch C2:E2 -> {C2, E2} end", "{exit,{exception,no}}"),
        ("try erpc:call(N, m, f, [throw]) catch C3:E3 -> {C3, E3} end", "{throw,no}"),
        ("rpc:call(N, m, f, [hang], 50)", "{badrpc,timeout}"),
        (
            "try erpc:call(N, m, f, [hang], 50) catch C4:E4 -> {C4, E4} end",
            "{error,{erpc,timeout}}",
        ),
        // Nothing comes back.
        ("rpc:cast(N, m, f, [{send, Inbox, 1}])", "true"),
        ("erpc:cast(N, m, f, [{send, Inbox, 2}])", "ok"),
        ("erpc:multicast([N], m, f, [{send, Inbox, 3}])", "ok"),
        ("rpc:eval_everywhere([N], m, f, [{send, Inbox, 4}])", "abcast"),
        ("rpc:sbcast([N], nobody, x)", "{[],['r@127.0.0.1']}"),
    ])
    .await?;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(next(&mut inbox).await?);
    }
    told.sort();
    assert_eq!(told, [1, 2, 3, 4].map(Term::from));
    pair.rust.register(atom!("inbox"), inbox.pid())?;
    pair.assert_each(&[("rpc:sbcast([N], inbox, 5)", "{['r@127.0.0.1'],[]}")]).await?;
    assert_eq!(next(&mut inbox).await?, Term::from(5));
    pair.erl.finish().await
}

/// As `ei_rpc` of `erl_interface`, `erl_call` and `sendRPC` of `Jinterface` do: both nodes answer
/// alike.
async fn rex_answers_who_writes_to_it_without_rpc(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    allow(&pair.rust);
    pair.erl.eval("N = 'r@127.0.0.1', G = group_leader(), ok").await?;
    let mut inbox = pair.rust.spawn();
    pair.rust.register(atom!("inbox"), inbox.pid())?;
    let ask = |to: &str, what: &str| {
        let asked = format!("{{rex, {to}}} ! {{self(), {what}}}");
        let answer = "receive A when element(1, A) =:= rex -> A after 900 -> none end";
        format!("(fun() -> {asked}, {answer} end)()")
    };
    for (what, answer) in [
        ("{call, erlang, system_info, [wordsize], G}", "{rex,8}"),
        (
            "{call, no_such, function, [1], G}",
            "{rex,{badrpc,{'EXIT',{undef,[{no_such,function,[1],[]}]}}}}",
        ),
        ("{send, nobody, x}", "{rex,NODE,{nonexisting_name,nobody}}"),
        ("{sbcast, nobody, x}", "{rex,NODE,{nonexisting_name,nobody}}"),
    ] {
        for node in ["'r@127.0.0.1'", "'a@127.0.0.1'"] {
            let seen = pair.erl.eval_within(&ask(node, what), AT_ONCE * 3).await?;
            // A BEAM has more in its stack trace than we.
            let end = answer.replace("NODE", node);
            let start = end.trim_end_matches(['}', ']']);
            ensure!(seen.starts_with(start), "`{what}` on {node}: {seen}, not {end}");
        }
    }
    pair.assert_each(&[
        (&ask("N", "{call, m, f, [{1, 2}], G}"), "{rex,{1,2}}"),
        (&ask("N", "{call, m, f, [error], G}"), "{rex,{badrpc,{'EXIT',{no,[{m,f,1,[]}]}}}}"),
        (&ask("N", "{sbcast, inbox, 1}"), "{rex,'r@127.0.0.1','r@127.0.0.1'}"),
        ("{rex, N} ! {self(), {send, inbox, 2}}, self() =:= self()", "true"),
    ])
    .await?;
    assert_eq!(next(&mut inbox).await?, Term::from(1));
    let asked = next(&mut inbox).await?;
    ensure!(matches!(asked.tuple::<2>()?, [Term::Pid(_), Term::Integer(2)]), "{asked}");
    pair.erl.finish().await
}

async fn what_is_not_allowed_is_undef_at_once(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    allow(&pair.rust);
    pair.erl.eval("N = 'r@127.0.0.1', ok").await?;
    let undef = "{badrpc,{'EXIT',{undef,[{os,cmd,[\"ls\"],[]}]}}}";
    pair.assert_each(&[
        ("rpc:call(N, os, cmd, [\"ls\"])", undef),
        ("rpc:block_call(N, os, cmd, [\"ls\"])", undef),
        ("rpc:multicall([N], os, cmd, [\"ls\"])", &format!("{{[{undef}],[]}}")),
        (
            "try erpc:call(N, os, cmd, [\"ls\"]) catch C1:E1 -> {C1, E1} end",
            "{error,{exception,undef,[{os,cmd,[\"ls\"],[]}]}}",
        ),
        (
            "erpc:multicall([N], os, cmd, [\"ls\"])",
            "[{error,{exception,undef,[{os,cmd,[\"ls\"],[]}]}}]",
        ),
        // Another arity is another function.
        ("element(1, rpc:call(N, m, f, []))", "badrpc"),
        ("element(1, rpc:call(N, m, f, [1, 2]))", "badrpc"),
        // Funs are of a module that isn't here.
        (
            "try erpc:call(N, fun() -> 1 end) catch C2:{exception, E2, _} -> {C2, E2} end",
            "{error,undef}",
        ),
    ])
    .await?;
    pair.erl.finish().await
}

async fn beam_processes_spawn_here(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    allow(&pair.rust);
    pair.erl.eval("N = 'r@127.0.0.1', ok").await?;
    pair.assert_each(&[
        ("node(spawn(N, os, cmd, [\"ls\"]))", "'r@127.0.0.1'"),
        (
            "process_flag(trap_exit, true), P1 = spawn_link(N, os, cmd, []), \
             receive {'EXIT', P1, E1} -> E1 end",
            "{undef,[{os,cmd,[],[]}]}",
        ),
        (
            "{P2, M2} = spawn_monitor(N, os, cmd, []), \
             receive {'DOWN', M2, process, P2, E2} -> E2 end",
            "{undef,[{os,cmd,[],[]}]}",
        ),
        (
            "process_flag(trap_exit, true), R3 = spawn_request(N, m, f, [exit], [link, monitor]), \
             P3 = receive {spawn_reply, R3, ok, X3} -> X3 end, \
             {receive {'EXIT', P3, E3} -> E3 end, \
              receive {'DOWN', R3, process, P3, D3} -> D3 end}",
            "{no,no}",
        ),
        (
            "{P4, M4} = spawn_monitor(N, m, f, [1]), \
             receive {'DOWN', M4, process, P4, E4} -> E4 end",
            "normal",
        ),
        (
            "{P5, M5} = spawn_monitor(N, m, f, [hang]), exit(P5, enough), \
             receive {'DOWN', M5, process, P5, E5} -> E5 end",
            "enough",
        ),
        (
            "{P6, M6} = spawn_monitor(N, m, f, [throw]), \
             receive {'DOWN', M6, process, P6, E6} -> E6 end",
            "{{nocatch,no},[]}",
        ),
        // With a trace token all of it is another signal.
        (
            "seq_trace:set_token(label, 7), V7 = rpc:call(N, m, f, [7]), \
             W7 = erpc:call(N, m, f, [8]), seq_trace:set_token([]), {V7, W7}",
            "{7,8}",
        ),
    ])
    .await?;
    pair.erl.finish().await
}

async fn functions_of_the_beam_are_called_from_rust(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let (rust, there) = (&pair.rust, pair.there()?);
    let call = async |module: &str, function: &str, args: Term| -> Result<_> {
        Ok(rpc::call(rust, &there, module.parse()?, function.parse()?, args).await)
    };
    let raised = async |module: &str, function: &str, args: Term| -> Result<Exception> {
        match call(module, function, args).await? {
            Err(RpcError::Exception(exception)) => Ok(exception),
            other => bail!("{other:?}"),
        }
    };
    // Nothing is known of that node yet, and what the first function prints is printed there.
    let args = vec![Term::string_of("cast from here~n")].into();
    rpc::cast(rust, &there, atom!("io"), atom!("format"), args).await?;
    wait_until("it is printed there", SOON, async || {
        let output = pair.erl.output();
        if output.contains("cast from here") { Ok(()) } else { Err(output) }
    })
    .await?;
    let reversed = call("lists", "reverse", list![list![1, 2, 3]]).await??;
    assert_eq!(reversed, list![3, 2, 1]);
    let release = call("erlang", "system_info", list![atom!("otp_release")]).await??;
    assert_eq!(release, Term::string_of(otp.release()));
    // Its output goes there.
    let printed = call("io", "format", list![Term::string_of("said from here~n")]).await??;
    assert_eq!(printed, atom!("ok"));
    wait_until("it is printed there", SOON, async || {
        let output = pair.erl.output();
        if output.contains("said from here") { Ok(()) } else { Err(output) }
    })
    .await?;

    let undef = raised("nothing", "here", list![1]).await?;
    assert_eq!((undef.class, &undef.reason), (Class::Error, &atom!("undef").into()));
    let place = tuple![atom!("nothing"), atom!("here"), list![1], Term::NIL];
    assert_eq!(undef.stacktrace.list()?.first(), Some(&place));
    let badarith = raised("erlang", "div", list![1, 0]).await?;
    assert_eq!((badarith.class, badarith.reason), (Class::Error, atom!("badarith").into()));
    assert_eq!(raised("erlang", "throw", list![1]).await?, Exception::throw(1));
    assert_eq!(raised("erlang", "exit", list![1]).await?, Exception::exit(1));
    let no_list = raised("m", "f", Term::from(1)).await?;
    assert_eq!(no_list, Exception::badarg());

    let limit = Duration::from_millis(50);
    let sleep =
        rpc::call_within(rust, &there, atom!("timer"), atom!("sleep"), list![60_000], limit);
    let late = sleep.await;
    assert!(matches!(late, Err(RpcError::Timeout { .. })), "{late:?}");

    let mut inbox = rust.spawn();
    let args: List = vec![inbox.pid().into(), atom!("hello").into()].into();
    rpc::cast(rust, &there, atom!("erlang"), atom!("send"), args).await?;
    assert_eq!(next(&mut inbox).await?, atom!("hello"));
    let all = rpc::multicall(
        rust,
        [there.clone(), rust.name().clone()],
        atom!("erlang"),
        atom!("node"),
        Term::NIL,
        SOON,
    );
    for (node, result) in all.await {
        assert_eq!(result?, node.atom().clone());
    }

    let lost = tokio::spawn({
        let (rust, there) = (rust.clone(), there.clone());
        async move {
            let args = list![60_000];
            rpc::call_within(&rust, &there, atom!("timer"), atom!("sleep"), args, SOON).await
        }
    });
    // The first that sleeps there is the one we didn't wait for.
    let sleeping = "length([P || P <- processes(), {current_function, {timer, sleep, 1}} =:= \
                    process_info(P, current_function)])";
    wait_eval(&pair.erl, sleeping, "2", SOON).await?;
    pair.erl.eval("erlang:disconnect_node('r@127.0.0.1')").await?;
    let lost = lost.await?;
    assert!(matches!(lost, Err(RpcError::NoConnection { .. })), "{lost:?}");
    pair.erl.finish().await
}

async fn rust_processes_spawn_on_the_beam(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let mut asker = pair.rust.spawn();
    asker.trap_exit(true);
    let there = pair.there()?;
    let request = |module: &str, function: &str, args: Term| -> Result<SpawnRequest> {
        let Term::List(args): Term = args else { bail!("{args}") };
        Ok(SpawnRequest::new(there.clone(), module.parse()?, function.parse()?, args))
    };
    let pid_of = async |asker: &mut data_publisher::node::Process, request| {
        let reference = asker.spawn_request(request);
        match tokio::time::timeout(SOON, asker.receive()).await?.context("it lives")? {
            Received::SpawnReply { reference: r, result: Ok(pid) } if r == reference => {
                Ok((reference, pid))
            }
            other => bail!("{other:?}"),
        }
    };
    // Its monitor and its link are ours, with the reference of the request.
    let exits = || request("erlang", "exit", list![atom!("done")]);
    let (reference, pid) = pid_of(&mut asker, exits()?.link().monitor()).await?;
    let mut ends = [next(&mut asker).await?, next(&mut asker).await?];
    ends.sort();
    let down = tuple![atom!("DOWN"), &reference, atom!("process"), &pid, atom!("done")];
    assert_eq!(ends, [tuple![atom!("EXIT"), &pid, atom!("done")], down]);

    // Neither when neither was asked for.
    let (_, pid) = pid_of(&mut asker, exits()?).await?;
    let monitor = asker.monitor(&pid);
    let down = next(&mut asker).await?;
    ensure!(down.tuple_elements()?[1] == Term::from(&monitor), "{down}");

    // The link holds in the other direction too.
    let sleeps = request("timer", "sleep", list![60_000])?.link();
    let (_, pid) = pid_of(&mut asker, sleeps).await?;
    let leader = asker.group_leader();
    assert_eq!(leader, *asker.pid());
    asker.exit(atom!("over"));
    let gone = format!("is_process_alive(list_to_pid(\"<0.{}.{}>\"))", pid.id, pid.serial);
    wait_eval(&pair.erl, &gone, "false", SOON).await?;

    // A request that can't be met is answered too.
    let mut other = pair.rust.spawn();
    let long: List = vec![term("1")?; 256].into();
    let long = SpawnRequest::new(there.clone(), atom!("m"), atom!("f"), long);
    let reference = other.spawn_request(long);
    let refused = next(&mut other).await?;
    let expected = tuple![atom!("spawn_reply"), reference, atom!("error"), atom!("system_limit")];
    assert_eq!(refused, expected);
    pair.erl.finish().await
}

//! Whoever calls, monitors, links or writes to us from the BEAM gets an answer; and the same from here
//! to there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::gen_server::{self, CallError};
use data_publisher::node::{Process, Received};
use data_publisher::pg::Pg;
use data_publisher::term::{Destination, NodeName, Term};
use data_publisher::{atom, tuple};

use super::{Seen, erl, erlang_pid, on_each_release, rust_node};
use crate::support::{ErlNode, Otp, SOON, wait_until};

on_each_release! {
    beam_processes_call_the_scope
    beam_processes_get_answers_at_once
    rust_processes_call_monitor_and_link_on_the_beam
}

async fn beam_processes_call_the_scope(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    let pg = Pg::start(&rust, atom!("s"))?;
    let worker = rust.spawn();
    pg.join(atom!("w"), worker.pid()).await?;
    rust.connect("a@127.0.0.1").await?;

    // Events come to whoever subscribed; the calls are made by one process that stays.
    a.eval(
        "Server = {s, 'r@127.0.0.1'}, \
         Loop = fun F(Seen) -> receive \
             {call, From, Request} -> From ! {answer, gen_server:call(Server, Request)}, F(Seen); \
             {seen, From} -> From ! {answer, lists:reverse(Seen)}, F(Seen); \
             Event -> F([Event | Seen]) end end, \
         Caller = spawn(fun() -> Loop([]) end), \
         Ask = fun(What) -> Caller ! What, receive {answer, A} -> A end end, ok",
    )
    .await?;
    let pid = erlang_pid(worker.pid());
    let subscribe = "{ScopeRef, ScopeView} = Ask({call, self(), {subscribe, scope}})";
    a.eval(subscribe).await?;
    assert_eq!(a.eval(&format!("ScopeView =:= #{{w => [{pid}]}}")).await?, "true");
    a.eval("{GroupRef, Before} = Ask({call, self(), {subscribe, {group, g}}})").await?;
    assert_eq!(a.eval("{is_reference(ScopeRef), Before}").await?, "{true,[]}");

    pg.join(atom!("g"), worker.pid()).await?;
    let seen = format!(
        "lists:sort(Ask({{seen, self()}})) =:= lists:sort([\
         {{ScopeRef, join, g, [{pid}]}}, {{GroupRef, join, g, [{pid}]}}])"
    );
    wait_eval_kept(&a, &seen).await?;
    a.eval("Events = Ask({seen, self()}), ok").await?;

    assert_eq!(a.eval("Ask({call, self(), {unsubscribe, GroupRef}})").await?, "ok");
    pg.leave(atom!("g"), worker.pid()).await?;
    let seen = format!("[{{ScopeRef, leave, g, [{pid}]}}] =:= Ask({{seen, self()}}) -- Events");
    wait_eval_kept(&a, &seen).await?;

    // An update from there is an update of ours.
    let update = format!("Ask({{call, self(), {{update, [{{u, [{pid}], []}}]}}}})");
    assert_eq!(a.eval(&update).await?, "ok");
    assert_eq!(*pg.get_members(&atom!("u").into()), [worker.pid().clone()]);

    // The death of a subscriber harms nobody.
    a.eval("exit(Caller, kill)").await?;
    pg.join(atom!("last"), worker.pid()).await?;
    assert_eq!(pg.get_members(&atom!("last").into()).len(), 1);
    a.finish().await
}

/// As `wait_eval` for `true`, with what the node's expressions have bound so far.
async fn wait_eval_kept(node: &ErlNode, expression: &str) -> Result<()> {
    wait_until(expression, SOON, async || match node.eval(expression).await {
        Ok(value) if value == "true" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

async fn beam_processes_get_answers_at_once(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    rust.connect("a@127.0.0.1").await?;
    let mut process = rust.spawn();
    process.trap_exit(true);
    rust.register(atom!("box"), process.pid())?;
    let pid = erlang_pid(process.pid());
    let at_once = Duration::from_secs(2);
    let nobody = "{nobody, 'r@127.0.0.1'}";
    for (expression, expected) in [
        (
            format!("catch gen_server:call({nobody}, x)"),
            "{'EXIT',{noproc,{gen_server,call,[{nobody,'r@127.0.0.1'},x]}}}",
        ),
        (
            format!(
                "R1 = monitor(process, {nobody}), receive {{'DOWN', R1, _, W, Y}} -> {{W, Y}} end"
            ),
            "{{nobody,'r@127.0.0.1'},noproc}",
        ),
        ("gen_server:multi_call(['r@127.0.0.1'], nobody, x)".to_owned(), "{[],['r@127.0.0.1']}"),
        ("gen_server:call({net_kernel, 'r@127.0.0.1'}, {is_auth, node()})".to_owned(), "yes"),
        (
            "gen_server:multi_call(['r@127.0.0.1'], global_name_server, {set_lock, {x, self()}})"
                .to_owned(),
            "{[{'r@127.0.0.1',true}],[]}",
        ),
        ("rpc:call('r@127.0.0.1', erlang, node, [])".to_owned(), "'r@127.0.0.1'"),
        ("erpc:call('r@127.0.0.1', erlang, node, [])".to_owned(), "'r@127.0.0.1'"),
        (format!("catch io:format({pid}, \"x\", [])"), "{'EXIT',{badarg,"),
        ("net_adm:ping('r@127.0.0.1')".to_owned(), "pong"),
    ] {
        let answer = a.eval_within(&expression, at_once).await?;
        ensure!(answer.starts_with(expected), "`{expression}`: {answer}");
    }

    // Links and exits.
    a.eval(&format!(
        "Rust = {pid}, L = spawn(fun() -> link(Rust), Rust ! linked, \
                     receive stop -> exit(done) end end), ok"
    ))
    .await?;
    assert_eq!(next(&mut process).await?, atom!("linked"));
    a.eval("L ! stop").await?;
    let exit = next(&mut process).await?;
    assert_eq!(exit.tuple_elements()?[2], atom!("done"));
    a.eval("U = spawn(fun() -> link(Rust), unlink(Rust), Rust ! unlinked end), ok").await?;
    assert_eq!(next(&mut process).await?, atom!("unlinked"));
    a.eval("exit(Rust, because)").await?;
    assert_eq!(next(&mut process).await?.tuple_elements()?[2], atom!("because"));
    let both = "M = monitor(process, Rust), K = monitor(process, {box, 'r@127.0.0.1'}), \
                exit(Rust, kill), \
                lists:sort([receive {'DOWN', Ref, process, What, Why} -> {What =:= Rust, Why} end \
                || Ref <- [M, K]])";
    assert_eq!(a.eval_within(both, at_once).await?, "[{false,killed},{true,killed}]");
    ensure!(process.receive().await.is_none(), "killed, and still receiving");
    let gone = "D = monitor(process, Rust), receive {'DOWN', D, _, _, W2} -> W2 end";
    assert_eq!(a.eval_within(gone, at_once).await?, "noproc");
    let trap = "process_flag(trap_exit, true), link(Rust), receive {'EXIT', Rust, W3} -> W3 end";
    assert_eq!(a.eval_within(trap, at_once).await?, "noproc");
    a.finish().await
}

async fn rust_processes_call_monitor_and_link_on_the_beam(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    let there: NodeName = "a@127.0.0.1".parse()?;
    let name =
        |name: &str| -> Result<Destination> { Ok(Destination::Name(name.parse()?, there.clone())) };
    // It connects by itself.
    let request = tuple![atom!("is_auth"), rust.name()];
    let yes = gen_server::call(&rust, name("net_kernel")?, request).await?;
    assert_eq!(yes, atom!("yes"));
    let error = gen_server::call(&rust, name("nobody")?, atom!("x")).await.unwrap_err();
    assert!(matches!(error, CallError::NoProc { .. }), "{error}");
    a.eval("register(mute, spawn(fun() -> receive stop -> ok end end))").await?;
    let short = Duration::from_millis(200);
    let error = gen_server::call_within(&rust, name("mute")?, 1, short).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    a.eval("register(rude, spawn(fun() -> receive _ -> exit(rude) end end))").await?;
    let error = gen_server::call(&rust, name("rude")?, 1).await.unwrap_err();
    let CallError::Exit { reason, .. } = error else { anyhow::bail!("{error}") };
    assert_eq!(reason, atom!("rude"));
    gen_server::cast(&rust, name("mute")?, 1).await?;

    let mut process = rust.spawn();
    process.trap_exit(true);
    let by_name = process.monitor((atom!("mute"), there.clone()));
    // The answer to a call comes after the monitor has been made.
    let request = tuple![atom!("is_auth"), rust.name()];
    gen_server::call(&rust, name("net_kernel")?, request).await?;
    a.eval("mute ! stop").await?;
    let down = next(&mut process).await?;
    assert_eq!(down.tuple_elements()?[1], Term::from(&by_name));
    assert_eq!(down.tuple_elements()?[4], atom!("normal"));

    a.eval(
        "register(victim, V = spawn(fun() -> receive P -> P ! self() end, \
            receive after infinity -> ok end end))",
    )
    .await?;
    rust.send(name("victim")?, process.pid()).await?;
    let victim = next(&mut process).await?.pid()?.clone();
    process.link(&victim);
    let monitor = process.monitor(&victim);
    rust.exit(&process, &victim, atom!("enough"));
    let mut ends = [next(&mut process).await?, next(&mut process).await?];
    ends.sort();
    assert_eq!(ends[0], tuple![atom!("EXIT"), &victim, atom!("enough")]);
    let down = tuple![atom!("DOWN"), &monitor, atom!("process"), &victim, atom!("enough")];
    assert_eq!(ends[1], down);

    let lost = process.monitor((atom!("init"), there.clone()));
    a.eval("erlang:disconnect_node('r@127.0.0.1')").await?;
    let down = next(&mut process).await?;
    assert_eq!(down.tuple_elements()?[1], Term::from(&lost));
    assert_eq!(down.tuple_elements()?[4], atom!("noconnection"));
    a.finish().await
}

async fn next(process: &mut Process) -> Result<Term> {
    let received = tokio::time::timeout(SOON, process.receive()).await?;
    received.map(Received::into_term).context("the process has ended")
}

//! Monitors, links, exit signals, group leaders and aliases: in order, with their reasons, both ways.

use anyhow::{Result, ensure};
use data_publisher::node::Received;
use data_publisher::term::{Destination, Pid, Term};
use data_publisher::{atom, tuple};

use super::{Pair, next};
use crate::otp::{erlang_pid, on_each_release};
use crate::support::{Otp, SOON, wait_eval};

on_each_release! {
    exits_reach_the_beam_in_order_and_with_their_reasons
    exits_of_the_beam_reach_rust_in_order_and_with_their_reasons
    links_are_taken_back_from_either_side
    group_leaders_are_given_and_kept
    aliases_end_as_they_were_made_to
    traced_signals_are_as_good_as_others
}

/// A process of the BEAM that does what it's told: `{run, Fun}`, or `stop`. Registered as `worker`.
const WORKER: &str = "register(worker, spawn(fun() -> \
    process_flag(trap_exit, true), \
    (fun F() -> receive {run, G} -> G(), F(); {echo, To} -> To ! echo, F(); stop -> ok; {exit, Why} -> exit(Why) end end)() end)), ok";

async fn exits_reach_the_beam_in_order_and_with_their_reasons(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let seen = async |reason: &str, end: &str, expected: &str| -> Result<()> {
        let mut process = pair.rust.spawn();
        let pid = erlang_pid(process.pid());
        // Our process ends when it is told that theirs watches.
        pair.erl
            .eval(&format!(
                "(fun() -> T = self(), spawn(fun() -> process_flag(trap_exit, true), P = {pid}, \
                 M1 = monitor(process, P), link(P), M2 = monitor(process, P), \
                 P ! {{go, self()}}, T ! ready, \
                 A = receive {{'DOWN', M1, process, P, W1}} -> W1 end, \
                 B = receive {{'DOWN', M2, process, P, W2}} -> W2 end, \
                 C = receive {{'EXIT', P, W3}} -> W3 end, register(done, self()), \
                 receive {{tell, X}} -> X ! {{A, B, C}} end end), \
                 receive ready -> ok end end)()"
            ))
            .await?;
        next(&mut process).await?;
        match end {
            "drop" => drop(process),
            "exit" => process.exit(reason.parse::<Term>()?),
            _ => {
                pair.erl.eval(&format!("exit({pid}, {reason})")).await?;
                while process.receive().await.is_some() {}
            }
        }
        wait_eval(&pair.erl, "is_pid(whereis(done))", "true", SOON).await?;
        let told = pair.erl.peek("done ! {tell, self()}, receive {_, _, _} = E -> E end").await?;
        ensure!(told == expected, "{end} {reason}: {told}");
        wait_eval(&pair.erl, "whereis(done)", "undefined", SOON).await
    };
    for (reason, end, expected) in [
        ("normal", "drop", "{normal,normal,normal}"),
        ("{a, [\"b\"]}", "exit", "{{a,[\"b\"]},{a,[\"b\"]},{a,[\"b\"]}}"),
        ("because", "signal", "{because,because,because}"),
        ("kill", "signal", "{killed,killed,killed}"),
    ] {
        seen(reason, end, expected).await?;
    }
    pair.erl.finish().await
}

async fn exits_of_the_beam_reach_rust_in_order_and_with_their_reasons(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    for (how, reason) in [
        ("worker ! stop", "normal"),
        ("worker ! {exit, {a, [\"b\"]}}", "{a, [\"b\"]}"),
        ("exit(whereis(worker), kill)", "killed"),
    ] {
        pair.erl.eval(WORKER).await?;
        let mut watcher = pair.rust.spawn();
        watcher.trap_exit(true);
        pair.rust.register(atom!("watcher"), watcher.pid())?;
        let mut worker = None;
        pair.erl.eval("{watcher, 'r@127.0.0.1'} ! whereis(worker), ok").await?;
        if let Term::Pid(pid) = next(&mut watcher).await? {
            worker = Some(pid);
        }
        let worker: Pid = worker.ok_or_else(|| anyhow::anyhow!("no pid"))?;
        let monitor = watcher.monitor(&worker);
        let by_name = watcher.monitor((atom!("worker"), pair.there()?));
        watcher.link(&worker);
        // The signals of one process to another stay in their order, messages too.
        watcher.send(&worker, tuple![atom!("echo"), watcher.pid()]);
        assert_eq!(next(&mut watcher).await?, atom!("echo"));
        pair.erl.eval(how).await?;
        let reason: Term = reason.parse()?;
        let mut ends = Vec::new();
        for _ in 0..3 {
            ends.push(next(&mut watcher).await?);
        }
        let process = atom!("process");
        let name = tuple![atom!("worker"), &pair.there()?];
        let down = |r: &_, what: Term| tuple![atom!("DOWN"), r, &process, what, &reason];
        for expected in [
            down(&monitor, (&worker).into()),
            down(&by_name, name),
            tuple![atom!("EXIT"), &worker, &reason],
        ] {
            ensure!(ends.contains(&expected), "{how}: no {expected} in {ends:?}");
        }
        // Who is gone is known as such.
        watcher.link(&worker);
        let exit = next(&mut watcher).await?;
        assert_eq!(exit, tuple![atom!("EXIT"), &worker, atom!("noproc")]);
    }

    // Not trapping, one goes with the other.
    pair.erl.eval(WORKER).await?;
    let mut linked = pair.rust.spawn();
    let pid = erlang_pid(linked.pid());
    pair.erl.eval(&format!("worker ! {{run, fun() -> link({pid}), {pid} ! linked end}}")).await?;
    assert_eq!(next(&mut linked).await?, atom!("linked"));
    pair.erl.eval("worker ! {exit, together}").await?;
    assert!(linked.receive().await.is_none());
    assert_eq!(linked.exit_reason(), Some(&atom!("together").into()));
    pair.erl.finish().await
}

async fn links_are_taken_back_from_either_side(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    pair.erl.eval(WORKER).await?;
    let mut process = pair.rust.spawn();
    process.trap_exit(true);
    let pid = erlang_pid(process.pid());
    let tell =
        |what: &str| format!("worker ! {{run, fun() -> {what}, {pid} ! {{done, self()}} end}}");
    // Theirs.
    pair.erl.eval(&tell(&format!("link({pid}), unlink({pid}), link({pid})"))).await?;
    let worker = next(&mut process).await?.tuple_elements()?[1].pid()?.clone();
    pair.erl.eval(&tell(&format!("unlink({pid})"))).await?;
    next(&mut process).await?;
    // Ours: what it is told later, it is told behind our signals.
    process.link(&worker);
    process.unlink(&worker);
    process.link(&worker);
    process.unlink(&worker);
    let links = |node: &str| format!("element(2, process_info(whereis({node}), links))");
    wait_eval(&pair.erl, &links("worker"), "[]", SOON).await?;
    pair.erl.eval("worker ! {exit, gone}").await?;
    let monitor = process.monitor(&worker);
    let down = next(&mut process).await?;
    ensure!(down.tuple_elements()?[1] == Term::from(&monitor), "{down}");

    // And a link that was there again is there.
    pair.erl.eval(WORKER).await?;
    pair.erl.eval(&tell("ok")).await?;
    let worker = next(&mut process).await?.tuple_elements()?[1].pid()?.clone();
    process.link(&worker);
    process.unlink(&worker);
    process.link(&worker);
    pair.erl.eval(&tell("ok")).await?;
    next(&mut process).await?;
    wait_eval(&pair.erl, &format!("length({})", links("worker")), "1", SOON).await?;
    pair.erl.eval("worker ! {exit, gone}").await?;
    assert_eq!(next(&mut process).await?, tuple![atom!("EXIT"), &worker, atom!("gone")]);
    pair.erl.finish().await
}

async fn group_leaders_are_given_and_kept(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let mut process = pair.rust.spawn();
    assert_eq!(process.group_leader(), *process.pid());
    let pid = erlang_pid(process.pid());
    pair.erl
        .eval(&format!("true = group_leader(whereis(user), {pid}), {pid} ! whereis(user), ok"))
        .await?;
    let user = next(&mut process).await?.pid()?.clone();
    assert_eq!(process.group_leader(), user);

    pair.erl.eval(WORKER).await?;
    pair.erl.eval(&format!("{pid} ! whereis(worker), ok")).await?;
    let worker = next(&mut process).await?.pid()?.clone();
    pair.rust.set_group_leader(process.pid(), &worker);
    let leader = format!("process_info(whereis(worker), group_leader) =:= {{group_leader, {pid}}}");
    wait_eval(&pair.erl, &leader, "true", SOON).await?;
    // Who prints there is told at once that nobody prints here.
    pair.erl
        .eval(&format!("worker ! {{run, fun() -> {pid} ! (catch io:format(\"x\")) end}}"))
        .await?;
    let answer = next(&mut process).await?;
    ensure!(answer.tagged("EXIT").is_some(), "{answer}");
    pair.erl.finish().await
}

async fn aliases_end_as_they_were_made_to(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    pair.erl.eval(WORKER).await?;
    let mut process = pair.rust.spawn();
    let pid = erlang_pid(process.pid());
    pair.erl.eval(&format!("{pid} ! whereis(worker), ok")).await?;
    let worker = next(&mut process).await?.pid()?.clone();
    // They learn the references, and write to them twice.
    let aliases = [process.alias(), process.alias_once(), process.monitor_alias(&worker)];
    let all = Term::list_of(aliases.iter().map(Term::from));
    pair.erl
        .eval(
            "register(writer, spawn(fun() -> receive {L, To} -> \
        [begin A ! {N, 1}, A ! {N, 2} end || {N, A} <- lists:zip([1, 2, 3], L)], To ! end_of_it, \
        receive {more, [B | _]} -> B ! late, To ! second_end end end end)), ok",
        )
        .await?;
    let writer = Destination::Name(atom!("writer"), pair.there()?);
    process.send(writer.clone(), tuple![&all, process.pid()]);
    for expected in ["{1, 1}", "{1, 2}", "{2, 1}", "{3, 1}", "end_of_it"] {
        assert_eq!(next(&mut process).await?, expected.parse::<Term>()?);
    }
    process.unalias(&aliases[0]);
    process.send(writer, tuple![atom!("more"), &all]);
    assert_eq!(next(&mut process).await?, atom!("second_end"));
    // The monitor ended with its alias.
    let monitor = process.monitor(&worker);
    pair.erl.eval("worker ! {exit, gone}").await?;
    match tokio::time::timeout(SOON, process.receive()).await? {
        Some(Received::Down { reference, .. }) => assert_eq!(reference, monitor),
        other => panic!("{other:?}"),
    }
    ensure!(process.try_receive().is_none(), "a second DOWN");

    // Theirs: a message of ours comes by it once.
    pair.erl
        .eval(&format!(
            "register(owner, spawn(fun() -> A = alias([reply]), {pid} ! A, \
            receive go -> unregister(owner), register(told, self()), receive {{tell, X}} -> \
            X ! process_info(self(), messages) end end end)), ok"
        ))
        .await?;
    let alias = next(&mut process).await?.reference()?.clone();
    process.send(alias.clone(), 1);
    process.send(alias, 2);
    process.send(Destination::Name(atom!("owner"), pair.there()?), atom!("go"));
    wait_eval(&pair.erl, "is_pid(whereis(told))", "true", SOON).await?;
    let seen = pair.erl.peek("told ! {tell, self()}, receive {messages, M} -> M end").await?;
    assert_eq!(seen, "[1]");
    pair.erl.finish().await
}

async fn traced_signals_are_as_good_as_others(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let mut process = pair.rust.spawn();
    process.trap_exit(true);
    pair.rust.register(atom!("box"), process.pid())?;
    let alias = process.alias();
    let pid = erlang_pid(process.pid());
    pair.erl
        .eval(
            "register(writer, spawn(fun() -> receive {A, P} -> seq_trace:set_token(label, 3), \
            A ! by_alias, P ! by_pid, {box, 'r@127.0.0.1'} ! by_name, exit(P, by_exit), \
            link(P), exit(by_link) end end)), ok",
        )
        .await?;
    let writer = Destination::Name(atom!("writer"), pair.there()?);
    process.send(writer, tuple![&alias, process.pid()]);
    for expected in ["by_alias", "by_pid", "by_name"] {
        assert_eq!(next(&mut process).await?, expected.parse::<Term>()?);
    }
    for expected in ["by_exit", "by_link"] {
        let exit = next(&mut process).await?;
        let [_, _, reason] = exit.tuple::<3>()?;
        assert_eq!(*reason, expected.parse::<Term>()?);
    }
    // OTP 29 can send to a process of ours before all else; it comes like any other.
    if otp == Otp::R29 {
        pair.erl.eval(&format!("erlang:exit({pid}, urgent, [priority])")).await?;
        let exit = next(&mut process).await?;
        ensure!(exit.tuple::<3>()?[2] == atom!("urgent"), "{exit}");
    }
    pair.erl.finish().await
}

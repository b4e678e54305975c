//! `pg`: members, messages, events and deaths, seen from both sides.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::node::Received;
use data_publisher::pg::{Event, Pg};
use data_publisher::term::Term;
use data_publisher::{atom, tuple};

use super::{BOTH, Seen, erl, on_each_release, rust_node, wait_members};
use crate::support::{Otp, SOON, wait_eval, wait_until};

on_each_release! {
    a_rust_member_is_seen_within_100_ms_gets_messages_and_vanishes
    each_side_hears_of_the_others_joins_and_leaves
    a_scope_that_is_killed_and_restarted_is_whole_again
    groups_that_differ_by_the_sign_of_zero_kill_no_scope
}

/// What is promised to take at most 100 ms.
const AT_ONCE: Duration = Duration::from_millis(100);

async fn a_rust_member_is_seen_within_100_ms_gets_messages_and_vanishes(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    for seen in BOTH {
        let rust = rust_node("r", &epmd, seen).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        rust.connect("a@127.0.0.1").await?;
        wait_until("they know each other", SOON, async || match pg.peers().await {
            Ok(peers) if peers.len() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;

        // On the BEAM, somebody waits for it: polling would measure the poll.
        a.peek(
            "Self = self(), spawn(fun() -> {Ref, []} = pg:monitor(w), Self ! ready, \
             receive {Ref, join, w, [P]} -> P ! {hello, node()} end end), \
             receive ready -> ok end",
        )
        .await?;
        let mut worker = rust.spawn();
        pg.join(atom!("w"), worker.pid()).await?;
        let start = Instant::now();
        let hello = tokio::time::timeout(SOON, worker.receive()).await?.context("ended")?;
        let took = start.elapsed();
        let Received::Message { term, .. } = hello else { anyhow::bail!("{hello:?}") };
        assert_eq!(term, tuple![atom!("hello"), atom!("a@127.0.0.1")]);
        ensure!(took <= AT_ONCE, "seen and answered after {took:?}");
        assert_eq!(a.eval("[node(P) || P <- pg:get_members(w)]").await?, "['r@127.0.0.1']");

        drop(worker);
        wait_eval(&a, "pg:get_members(w)", "[]", SOON).await?;

        let survivor = rust.spawn();
        pg.join(atom!("w"), [survivor.pid(), survivor.pid()]).await?;
        wait_eval(&a, "length(pg:get_members(w))", "2", SOON).await?;
        drop(pg);
        wait_eval(&a, "pg:get_members(w)", "[]", SOON).await?;

        // The next one has the members that still live.
        let pg = Pg::start(&rust, atom!("pg"))?;
        wait_eval(&a, "length(pg:get_members(w))", "2", SOON).await?;
        pg.join(atom!("w"), survivor.pid()).await?;
        wait_eval(&a, "length(pg:get_members(w))", "3", SOON).await?;
        drop((pg, rust, survivor));
        wait_eval(&a, "{pg:get_members(w), nodes(connected)}", "{[],[]}", SOON).await?;
    }
    a.finish().await
}

async fn each_side_hears_of_the_others_joins_and_leaves(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    a.eval("Early = probe:member(pg, early), ok").await?;
    a.eval("S = probe:subscriber(pg), G = probe:subscriber(pg, {g, 1}), ok").await?;
    for seen in BOTH {
        let name = format!("{seen:?}").to_lowercase();
        let rust = rust_node(&name, &epmd, seen).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        rust.connect("a@127.0.0.1").await?;
        wait_members(&pg, &atom!("early").into(), 1, SOON).await?;
        let (groups, mut events) = pg.monitor_scope().await?;
        assert_eq!(groups.len(), 1, "{groups:?}");

        // Ours, heard there.
        let (first, second) = (rust.spawn(), rust.spawn());
        let group = tuple![atom!("g"), 1];
        pg.join(&group, [first.pid(), second.pid()]).await?;
        pg.join(&group, first.pid()).await?;
        assert!(pg.leave(&group, second.pid()).await?);
        assert!(!pg.leave(&group, second.pid()).await?);
        let view = "[{early,_}, {{g,1},[P,P]}] = probe:view(pg), node(P)";
        wait_eval(&a, view, &format!("'{}'", rust.name()), SOON).await?;
        let told = "{probe:followed(S) =:= probe:view(pg), \
                    probe:followed(G) =:= [V || {{g,1}, _} = V <- probe:view(pg)]}";
        wait_eval(&a, told, "{true,true}", SOON).await?;
        drop(first);
        wait_eval(&a, "[Group || {Group, _} <- probe:view(pg)]", "[early]", SOON).await?;
        wait_eval(&a, told, "{true,true}", SOON).await?;

        // Theirs, heard here; after our own.
        let ours = |event: &Event| {
            let (Event::Join { pids, .. } | Event::Leave { pids, .. }) = event;
            pids.iter().all(|pid| pid.node == *rust.name())
        };
        a.peek(
            "M = probe:member(pg, \"theirs\"), pg:join(pg, \"theirs\", [M, M]), \
             pg:leave(pg, \"theirs\", M), probe:stop(M)",
        )
        .await?;
        let theirs = Term::string_of("theirs");
        let (mut joined, mut left) = (0, 0);
        while left < 3 {
            let event = tokio::time::timeout(SOON, events.next()).await?.context("ended")?;
            match &event {
                event if ours(event) => {}
                Event::Join { group, pids } if *group == theirs => joined += pids.len(),
                Event::Leave { group, pids } if *group == theirs => left += pids.len(),
                other => anyhow::bail!("{other:?}"),
            }
        }
        assert_eq!(joined, 3);
        assert!(pg.get_members(&theirs).is_empty());
        drop(second);
        pg.stop().await;
        rust.stop().await;
    }
    a.finish().await
}

async fn a_scope_that_is_killed_and_restarted_is_whole_again(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    for seen in BOTH {
        let rust = rust_node("r", &epmd, seen).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        let worker = rust.spawn();
        pg.join(atom!("w"), worker.pid()).await?;
        rust.connect("a@127.0.0.1").await?;
        let (theirs, all) = (Term::from(atom!("b")), "[Group || {Group, _} <- probe:view(pg)]");
        for _ in 0..3 {
            a.peek("probe:member(pg, b), ok").await?;
            wait_eval(&a, all, "[b,w]", SOON).await?;
            wait_members(&pg, &theirs, 1, SOON).await?;
            a.eval("probe:kill_scope(pg)").await?;
            wait_members(&pg, &theirs, 0, SOON).await?;
            a.eval("probe:start_scope(pg), ok").await?;
            // By themselves: nobody joins anything.
            wait_eval(&a, all, "[w]", SOON).await?;
        }
        // And ours.
        a.peek("probe:member(pg, b), ok").await?;
        wait_members(&pg, &theirs, 1, SOON).await?;
        pg.stop().await;
        wait_eval(&a, all, "[b]", SOON).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        wait_members(&pg, &theirs, 1, SOON).await?;
        pg.join(atom!("w"), worker.pid()).await?;
        wait_eval(&a, all, "[b,w]", SOON).await?;
        a.peek("[M] = pg:get_local_members(b), probe:stop(M)").await?;
        rust.stop().await;
        wait_eval(&a, "{probe:view(pg), nodes(connected)}", "{[],[]}", SOON).await?;
    }
    a.finish().await
}

/// Before OTP 27 `0.0 =:= -0.0`: a scope that is told of both dies of the second leave.
async fn groups_that_differ_by_the_sign_of_zero_kill_no_scope(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    let pg = Pg::start(&rust, atom!("pg"))?;
    let worker = rust.spawn();
    let named = |zero: f64| Some(tuple![atom!("g"), Term::float_of(zero)?]);
    let groups = [named(0.0).context("0.0")?, named(-0.0).context("-0.0")?];
    for name in &groups {
        pg.join(name, worker.pid()).await?;
    }
    rust.connect("a@127.0.0.1").await?;
    wait_eval(&a, "[length(Pids) || {_, Pids} <- probe:view(pg)]", "[2]", SOON).await?;
    for name in &groups {
        assert!(pg.leave(name, worker.pid()).await?);
    }
    wait_eval(&a, "probe:view(pg)", "[]", SOON).await?;
    // The scope that saw it all is still the same.
    pg.join(atom!("w"), worker.pid()).await?;
    wait_eval(&a, "length(pg:get_members(w))", "1", SOON).await?;
    a.finish().await
}

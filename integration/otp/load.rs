//! Many groups, large messages, and a peer that stands still.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::node::Received;
use data_publisher::pg::Pg;
use data_publisher::term::Term;
use data_publisher::{atom, tuple};

use super::{Seen, config, erl, erlang_pid, on_each_release, rust_node};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_eval, wait_until};

on_each_release! {
    ten_thousand_groups_are_equal_within_1_s_of_connecting
    five_megabytes_arrive_both_ways
    a_stopped_peer_delays_neither_us_nor_the_others
}

async fn ten_thousand_groups_are_equal_within_1_s_of_connecting(otp: Otp) -> Result<()> {
    const GROUPS: usize = 10_000;
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    a.eval("M = probe:collector(), [ok = pg:join({beam, I}, M) || I <- lists:seq(1, 10000)], ok")
        .await?;
    let mut best = [Duration::MAX; 2];
    for _ in 0..3 {
        let rust = rust_node("r", &epmd, Seen::Visible).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        let (_, mut events) = pg.monitor_scope().await?;
        let start = Instant::now();
        rust.connect("a@127.0.0.1").await?;
        for _ in 0..GROUPS {
            tokio::time::timeout(SOON, events.next()).await?.context("ended")?;
        }
        best[0] = best[0].min(start.elapsed());
        assert_eq!(pg.which_groups().len(), GROUPS);
        rust.stop().await;
        wait_eval(&a, "nodes()", "[]", SOON).await?;
    }
    // The other way round: the BEAM tells us when its last group is there.
    a.eval("probe:stop(M)").await?;
    wait_eval(&a, "pg:which_groups()", "[]", SOON).await?;
    for _ in 0..3 {
        let rust = rust_node("r", &epmd, Seen::Visible).await?;
        let pg = Pg::start(&rust, atom!("pg"))?;
        let mut worker = rust.spawn();
        for i in 0..i64::try_from(GROUPS)? {
            pg.join(tuple![atom!("rust"), i], worker.pid()).await?;
        }
        a.peek(
            "Self = self(), spawn(fun() -> {Ref, _} = pg:monitor_scope(), Self ! ready, \
             F = fun F(0, P) -> P ! all; F(N, _) -> receive {Ref, join, _, [P]} -> F(N - 1, P) end \
             end, F(10000, none) end), receive ready -> ok end",
        )
        .await?;
        let start = Instant::now();
        rust.connect("a@127.0.0.1").await?;
        tokio::time::timeout(SOON, worker.receive()).await?.context("ended")?;
        best[1] = best[1].min(start.elapsed());
        drop(pg);
        rust.stop().await;
        wait_eval(&a, "{nodes(), pg:which_groups()}", "{[],[]}", SOON).await?;
    }
    println!("OTP {otp}: 10,000 groups in after {:?}, out after {:?}", best[0], best[1]);
    ensure!(best.iter().all(|took| *took <= Duration::from_secs(1)), "best of three: {best:?}");
    a.finish().await
}

async fn five_megabytes_arrive_both_ways(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    let rust = rust_node("r", &epmd, Seen::Visible).await?;
    rust.connect("a@127.0.0.1").await?;
    a.eval(
        "Echo = spawn(fun F() -> receive {From, Bin} -> From ! {erlang:md5(Bin), Bin}, F() end \
         end), register(echo, Echo)",
    )
    .await?;
    let mut process = rust.spawn();
    let bytes: Vec<u8> = (0..=249).cycle().take(5_000_000).collect();
    let message = tuple![process.pid(), Term::binary_of(&bytes)];
    rust.send((atom!("echo"), "a@127.0.0.1".parse()?), message).await?;
    let reply = tokio::time::timeout(SOON, process.receive()).await?.context("ended")?;
    let Received::Message { term, .. } = reply else { anyhow::bail!("{reply:?}") };
    let [digest, back] = term.tuple::<2>()?;
    // The sum is the BEAM's: what it got is what we sent.
    let sum = "erlang:md5(binary:copy(list_to_binary(lists:seq(0, 249)), 20000))";
    let expected: Term = a.eval(sum).await?.parse()?;
    assert_eq!(*digest, expected);
    assert!(back.binary()? == bytes, "what came back differs");
    a.finish().await
}

async fn a_stopped_peer_delays_neither_us_nor_the_others(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let mut stopped = ErlNode::start(otp, "stopped", &epmd).await?;
    let healthy = ErlNode::start(otp, "healthy", &epmd).await?;
    let config = config("r", &epmd)?;
    let rust = data_publisher::start(config).await?;
    let pg = Pg::start(&rust, atom!("pg"))?;
    for node in [&stopped, &healthy] {
        node.eval("probe:start_scope(pg), ok").await?;
        rust.connect(node.name()).await?;
    }
    wait_until("both are peers", SOON, async || match pg.peers().await {
        Ok(peers) if peers.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let mut worker = rust.spawn();
    healthy
        .eval(&format!(
            "Self = self(), Pid = {}, spawn(fun() -> {{Ref, _}} = pg:monitor_scope(), \
             Self ! ready, (fun F() -> receive {{Ref, join, G, _}} -> Pid ! G, F() end end)() end), \
             receive ready -> ok end",
            erlang_pid(worker.pid())
        ))
        .await?;

    stopped.stop_signal()?;
    // Enough to fill the sockets' buffers and our queue's soft mark many times over.
    let (mut joins, mut seen) = (Vec::new(), Vec::new());
    let payload = Term::binary_of(vec![7; 50_000]);
    for i in 0..200 {
        let group = tuple![i, &payload];
        let start = Instant::now();
        pg.join(&group, worker.pid()).await?;
        joins.push(start.elapsed());
        tokio::time::timeout(SOON, worker.receive()).await?.context("ended")?;
        seen.push(start.elapsed());
    }
    joins.sort();
    seen.sort();
    let (join, saw) = (joins[197], seen[197]);
    println!("OTP {otp}: join returned after {join:?}, was seen after {saw:?} (p99)");
    ensure!(join <= Duration::from_millis(10), "join returned after {joins:?}");
    ensure!(saw <= Duration::from_millis(100), "it was seen after {seen:?}");

    stopped.cont_signal()?;
    all_groups(&stopped, 200).await?;
    all_groups(&healthy, 200).await?;
    healthy.finish().await?;
    stopped.finish().await
}

async fn all_groups(node: &ErlNode, count: usize) -> Result<()> {
    let limit = Duration::from_secs(30);
    wait_eval(node, "length(probe:view(pg))", &count.to_string(), limit).await
}

//! L1 to L3, L6, L7 and R7: each load on a fresh target, with what it does to those beside it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::term::Term;
use rustix::process::{Pid, Signal, kill_process};

use super::{Extent, Goal, Health, Times};
use crate::crowd::Role;
use crate::proc;
use crate::stage::{Bench, Crowd, Kind, PATIENCE, Target};
use crate::support::wait_until;
use crate::table::percentile;

const MIB: f64 = (1 << 20) as f64;

pub(super) async fn all(bench: &Bench, extent: Extent) -> Result<Vec<Goal>> {
    let mut goals = vec![updates_of_a_beam(bench).await?];
    goals.extend(rust_to_rust(bench).await?);
    goals.push(herd(bench).await?);
    goals.extend(a_stopped_peer(bench).await?);
    goals.push(a_flood_is_read(bench, extent).await?);
    goals.push(heals(bench, extent).await?);
    Ok(goals)
}

async fn updates_of_a_beam(bench: &Bench) -> Result<Goal> {
    const UPDATES: u32 = 500_000;
    let stage = bench.stage(Kind::Rust, 0, 0).await?;
    let start = Instant::now();
    let nanos = stage.cpu_of(stage.send(&format!("{{joins, 1000, {}}}", UPDATES / 1000))).await?;
    let took = start.elapsed();
    stage.assert_view(1000, UPDATES / 1000).await?;
    stage.end().await?;
    let rate = f64::from(UPDATES) / took.as_secs_f64();
    let busy = nanos / took.as_nanos() as f64;
    Ok(Goal::new(
        "L1",
        format!("{UPDATES} updates of one BEAM, applied and visible"),
        ">= 100,000/s on one core",
        format!("{rate:.0}/s, {busy:.2} of a core (the sender's speed)"),
        // What the target could do if the BEAM were faster.
        rate / busy >= 100_000.0 && busy <= 1.0,
    ))
}

/// Two targets, one of which publishes to the other; the driver is no peer of them.
async fn rust_to_rust(bench: &Bench) -> Result<Vec<Goal>> {
    const JOINS: u32 = 400_000;
    const RATE: u32 = 20_000;
    bench.ask("dp_bench:stop_peer(bench)").await?;
    let seeing = Target::start(bench, Kind::Rust, None).await?;
    let saying = Target::start(bench, Kind::Rust, Some(seeing.name())).await?;
    let call = async |node: &Target, function: &str, arguments: &str| -> Result<Term> {
        let call = format!("dp_bench:call({}, {function}, {arguments})", node.atom());
        Ok(bench.ask(&call).await?.parse()?)
    };
    let has = async |number: u32| {
        let what = format!("group {number} is there");
        wait_until(&what, PATIENCE, async || {
            let seen = call(&seeing, "has", &format!("[bench, {number}]")).await;
            match seen {
                Ok(seen) if seen.is_atom("true") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    };
    call(&saying, "joins", "[bench, 0, 0]").await?;
    has(0).await?;
    let start = Instant::now();
    call(&saying, "joins", &format!("[bench, 1, {JOINS}]")).await?;
    has(JOINS).await?;
    let rate = f64::from(JOINS) / start.elapsed().as_secs_f64();

    call(&seeing, "watch", "[bench]").await?;
    call(&saying, "paced", &format!("[bench, {RATE}, 10000]")).await?;
    let times = Times::read(&call(&seeing, "watched", "[bench]").await?)?;
    saying.end().await?;
    seeing.end().await?;
    let Times { count, p50, p99, longest } = times;
    ensure!(count >= i64::from(RATE) / 2 * 9, "only {count} joins were seen");
    Ok(vec![
        Goal::new(
            "L2",
            format!("{JOINS} joins awaited one by one, from Rust to Rust, visible there"),
            ">= 200,000/s",
            format!("{rate:.0}/s"),
            rate >= 200_000.0,
        ),
        Goal::new(
            "L2",
            format!("join to event at the other node, at {RATE} updates/s for 10 s"),
            "p99 <= 1 ms",
            format!("p50 {p50:.3} ms, p99 {p99:.3} ms, longest {longest:.1} ms"),
            p99 <= 1.0,
        ),
    ])
}

/// As `pg_SUITE:thundering_herd/1`: many groups here, many syncs of one peer, then a join.
async fn herd(bench: &Bench) -> Result<Goal> {
    let stage = bench.stage(Kind::Rust, 10_000, 1).await?;
    stage.call("joins", "[bench, 100000, 109999]").await?;
    let start = Instant::now();
    let (herd, joined) = tokio::join!(stage.send("{herd, 2000}"), async {
        stage.call("joins", "[bench, 200000, 200000]").await?;
        anyhow::Ok(start.elapsed())
    });
    herd?;
    let joined = joined?.as_secs_f64();
    stage.assert_view(10_002, 1).await.context("after the herd")?;
    stage.end().await?;
    Ok(Goal::new(
        "L3",
        "10,000 groups here, 2,000 syncs of one peer, then a join",
        "<= 2 s",
        format!("{joined:.3} s"),
        joined <= 2.0,
    ))
}

/// One peer stands still while there's much to tell.
async fn a_stopped_peer(bench: &Bench) -> Result<Vec<Goal>> {
    let stage = bench.stage(Kind::Rust, 0, 0).await?;
    let stopped = Crowd::start(&stage, Role::Peers, 1).await?;
    let crowd = Crowd::start(&stage, Role::Peers, 8).await?;
    stage.settle().await?;
    let process = Pid::from_raw(stopped.process_id()?.cast_signed()).context("no process")?;
    let target = stage.target.process_id()?;
    // What the load takes by itself doesn't count.
    stage.call("paced", "[bench, 20000, 3000]").await?;
    stage.settle().await?;
    let before = proc::resident(target)?;
    kill_process(process, Signal::STOP)?;
    let paced = stage.call("paced", "[bench, 20000, 20000]");
    let watched = async {
        let mut most = before;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..200 {
            tick.tick().await;
            most = most.max(proc::resident(target)?);
        }
        anyhow::Ok(most)
    };
    let (paced, most) = tokio::join!(paced, watched);
    let resumed = kill_process(process, Signal::CONT);
    let (Times { p99, longest, .. }, most) = (Times::read(&paced?)?, most?);
    resumed?;
    let extra = most.saturating_sub(before) as f64 / MIB;
    let delays: Term = bench.ask("dp_bench:delays(bench)").await?.parse()?;
    let mut millis = Vec::new();
    for delay in delays.list()?.iter() {
        millis.push(delay.integer()? as f64 / 1e6);
    }
    let healthy = percentile(&millis, 99).context("nothing was heard")?;
    let Health { lost, .. } = Health::of(&stage).await?;
    crowd.end().await.context("a healthy peer")?;
    drop(stopped);
    stage.end().await?;
    Ok(vec![
        Goal::new(
            "L6",
            "one peer stopped, 20,000 updates/s for 20 s: how long an update takes",
            "p99 <= 10 ms",
            format!("p99 {p99:.3} ms, longest {longest:.1} ms"),
            p99 <= 10.0,
        ),
        Goal::new(
            "L6",
            "the same, until a healthy BEAM peer has it",
            "p99 <= 100 ms",
            format!("p99 {healthy:.3} ms"),
            healthy <= 100.0,
        ),
        Goal::new(
            "L6",
            "the same, memory beyond that of the same load with all healthy",
            "<= 17 MiB (soft and hard mark)",
            format!("{extra:.1} MiB, {lost} connection shed"),
            extra <= 17.0 && lost == 1,
        ),
    ])
}

/// A BEAM process that says as much as it can is never kept waiting by us.
async fn a_flood_is_read(bench: &Bench, extent: Extent) -> Result<Goal> {
    let seconds = if extent.quick { 10 } else { 60 };
    let stage = bench.stage(Kind::Rust, 0, 0).await?;
    let flood = format!("dp_bench:flood(bench, 1000, {})", seconds * 1000);
    let sent: Term = bench.ask(&flood).await?.parse()?;
    let [count, longest] = sent.tuple::<2>()?;
    let (count, longest) = (count.integer()?, longest.integer()? as f64 / 1e6);
    stage.assert_view(0, 0).await?;
    let lost = Health::of(&stage).await?.lost;
    stage.end().await?;
    Ok(Goal::new(
        "L7",
        format!("a BEAM floods us for {seconds} s: the longest that a send of it waits"),
        "<= 1 s",
        format!("{longest:.1} ms in {count} updates, {lost} connections lost"),
        longest <= 1000.0 && lost == 0,
    ))
}

async fn heals(bench: &Bench, extent: Extent) -> Result<Goal> {
    const GROUPS: u32 = 50_000;
    let count = if extent.quick { 10 } else { 50 };
    let stage = bench.stage(Kind::Rust, GROUPS, 1).await?;
    let node = stage.target.atom();
    let mut millis = Vec::new();
    while millis.len() < count {
        bench.ask(&format!("dp_bench:lose(bench, {node})")).await?;
        let took: Term = bench.ask(&format!("dp_bench:reconnect(bench, {node})")).await?.parse()?;
        // A node in Rust dials again by itself, after a second or so; then we come too late.
        if took.is_atom("connected") {
            bench.ask(&format!("dp_bench:meet(bench, {node})")).await?;
            continue;
        }
        millis.push(took.integer()? as f64 / 1e6);
        stage.assert_view(GROUPS, 1).await?;
    }
    stage.end().await?;
    let (p50, p99) = (percentile(&millis, 50), percentile(&millis, 99));
    let (p50, p99) = p50.zip(p99).context("no heal")?;
    Ok(Goal::new(
        "R7",
        format!("{count} heals, {GROUPS} groups: from dialling until the views are equal"),
        "p99 <= 250 ms",
        format!("p50 {p50:.0} ms, p99 {p99:.0} ms"),
        p99 <= 250.0,
    ))
}

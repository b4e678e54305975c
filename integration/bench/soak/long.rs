//! L4: an hour of ordinary life, with sixteen peers, of which two are Rust nodes with a scope of their own, three
//! BEAM nodes of OTP 27 and 29 with `pg`, and the others simulated.
//!
//! Memory is judged by its slope after the first minutes, not by what it is in the end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Extent, Goal, Health, Times};
use crate::crowd::Role;
use crate::proc;
use crate::stage::{Bench, Crowd, Kind, Target};
use crate::support::{ErlNode, Otp, SOON, wait_eval, wait_until};

/// Joins and leaves a second, of the target itself and of the other Rust nodes.
const OWN_RATE: u32 = 2_000;
const RATE: u32 = 9_000;

/// Groups that a member of the target is in all the time, so that its peers have something to see.
const OWN_GROUPS: i64 = 5;

/// Groups of the driver's peer, and those of the two BEAM nodes.
const OTHERS: i64 = 100 + 2;

/// Simulated peers: sixteen without the driver's peer, two Rust nodes and two BEAM nodes.
const SIMULATED: u32 = 11;

pub(super) async fn soak(bench: &Bench, extent: Extent) -> Result<Vec<Goal>> {
    let Extent { quick, minutes } = extent;
    let settled = Duration::from_secs(if quick { 60 } else { 300 });
    let length = Duration::from_secs(minutes * 60);
    ensure!(length > settled * 2, "too short to see a slope: {minutes} minutes");
    let stage = bench.stage(Kind::Rust, 100, 5).await?;
    let crowd = Crowd::start(&stage, Role::Peers, SIMULATED).await?;
    let beam =
        [beam(bench, Otp::R27, &stage.target).await?, beam(bench, Otp::R29, &stage.target).await?];
    let rust = [
        Target::start(bench, Kind::Rust, Some(stage.target.name())).await?,
        Target::start(bench, Kind::Rust, Some(stage.target.name())).await?,
    ];
    stage.call("joins", &format!("[bench, 5000001, {}]", 5_000_000 + OWN_GROUPS)).await?;
    sees(&stage.target, bench, OTHERS + OWN_GROUPS).await?;
    stage.settle().await?;
    let (process, before) = (stage.target.process_id()?, Health::of(&stage).await?);

    let millis = length.as_millis();
    let own = format!("[bench, {OWN_RATE}, {millis}]");
    let own = stage.call("paced", &own);
    let call =
        |node: &Target| format!("dp_bench:call({}, paced, [bench, {RATE}, {millis}])", node.atom());
    let (one, other) = (call(&rust[0]), call(&rust[1]));
    let limit = length + Duration::from_secs(600);
    let (one, other) =
        (bench.driver.eval_within(&one, limit), bench.driver.eval_within(&other, limit));
    let watched = watch(process, settled, length);
    let (own, one, other, memory) = tokio::join!(own, one, other, watched);
    let (own, memory) = (Times::read(&own?)?, memory?);
    let mut count = own.count;
    for paced in [one?, other?] {
        count += Times::read(&paced.parse()?)?.count;
    }
    let rate = count as f64 / length.as_secs_f64();

    sees(&stage.target, bench, OTHERS + OWN_GROUPS).await.context("at rest")?;
    for node in &beam {
        // They are connected to the target alone, so they see what it publishes, and their own.
        let groups = format!("{}", OWN_GROUPS + 1);
        wait_eval(
            node,
            "length([G || G <- pg:which_groups(bench), pg:get_members(bench, G) =/= []])",
            &groups,
            SOON,
        )
        .await?;
    }
    let after = Health::of(&stage).await?;
    for node in rust {
        node.end().await?;
    }
    crowd.end().await?;
    for node in beam {
        node.finish().await?;
    }
    stage.end().await?;
    let Memory { settled: resident, slope } = memory;
    let (files, tasks) = (after.files - before.files, after.tasks - before.tasks);
    Ok(vec![
        Goal::new(
            "L4",
            format!("{minutes} minutes with 16 peers (11 simulated, 3 BEAM, 2 Rust): updates"),
            ">= 20,000/s",
            format!("{rate:.0}/s; own p99 {:.3} ms, longest {:.1} ms", own.p99, own.longest),
            rate >= 19_800.0,
        ),
        Goal::new(
            "L4",
            "growth of resident memory, by its slope",
            "<= 5 % an hour",
            format!("{slope:.2} % an hour of {resident:.1} MB"),
            slope <= 5.0,
        ),
        Goal::new(
            "L4",
            "connections lost; views equal in the end; bytes queued then; more file descriptors and tasks than before",
            "0; yes; 0; 0",
            format!("{}; yes; {}; {files} and {tasks}", after.lost - before.lost, after.queued),
            after.lost == before.lost && after.queued == 0 && files == 0 && tasks.abs() <= 2,
        ),
    ])
}

/// A BEAM node with `pg` and a member of a group of its own, connected to the target.
async fn beam(bench: &Bench, otp: Otp, target: &Target) -> Result<ErlNode> {
    let options = ErlNode::options(otp, &bench.fresh_name(), bench.epmd.port());
    let node = options.connect_all_false().allow_overlapping_partitions().start().await?;
    node.eval(&format!(
        "{{ok, _}} = pg:start(bench), M = spawn(fun() -> receive never -> ok end end), \
         ok = pg:join(bench, {}, M), true = net_kernel:connect_node({}), ok",
        name(&node),
        target.atom(),
    ))
    .await?;
    Ok(node)
}

fn name(node: &ErlNode) -> String {
    format!("'{}'", node.name())
}

/// Waits until the target sees so many groups.
async fn sees(target: &Target, bench: &Bench, groups: i64) -> Result<()> {
    wait_until(&format!("{groups} groups are seen"), SOON, async || {
        let call = format!("dp_bench:call({}, view, [bench])", target.atom());
        let view = bench.ask(&call).await.map_err(|error| format!("{error:#}"))?;
        if view.starts_with(&format!("{{{groups},")) { Ok(()) } else { Err(view) }
    })
    .await
}

struct Memory {
    /// Megabytes when the first minutes were over.
    settled: f64,
    /// Percent an hour, from then on.
    slope: f64,
}

/// Looks at the memory every second.
async fn watch(process: u32, settled: Duration, length: Duration) -> Result<Memory> {
    let (start, mut points) = (Instant::now(), Vec::new());
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while start.elapsed() < length {
        tick.tick().await;
        let (at, bytes) = (start.elapsed(), proc::resident(process)? as f64);
        if at.as_secs() % 60 == 0 {
            eprintln!("L4 after {} min: {:.1} MB", at.as_secs() / 60, bytes / 1e6);
        }
        if at >= settled {
            points.push((at.as_secs_f64() / 3600.0, bytes));
        }
    }
    let first = points.first().context("too short")?.1;
    Ok(Memory { settled: first / 1e6, slope: slope(&points) / first * 100.0 })
}

/// Of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    above / below
}

//! P11: what a connection takes that says nothing, and how long it takes to become a member.

use anyhow::{Context, Result};

use crate::clock;
use crate::crowd::Role;
use crate::proc;
use crate::stage::{Bench, Crowd, Kind, Target};
use crate::table::Line;

pub(super) async fn idle_and_new(bench: &Bench) -> Result<Vec<Line>> {
    let lines = vec![
        Line::new("P11", "resident for an idle connection, of a hundred", "KiB", "<= 64"),
        Line::new("P11", "start of the process until its scope greets a peer", "ms", "<= 50"),
    ];
    bench
        .in_turns(lines, async |kind| {
            Ok(vec![idle_connection(bench, kind).await?, start(bench, kind).await?])
        })
        .await
}

async fn idle_connection(bench: &Bench, kind: Kind) -> Result<f64> {
    const CONNECTIONS: u32 = 100;
    let stage = bench.stage(kind, 0, 0).await?;
    let process = stage.target.process_id()?;
    let before = proc::resident(process)?;
    let crowd = Crowd::start(&stage, Role::Idle, CONNECTIONS).await?;
    stage.settle().await?;
    let after = proc::resident(process)?;
    crowd.end().await?;
    stage.end().await?;
    Ok(after.saturating_sub(before) as f64 / 1024.0 / f64::from(CONNECTIONS))
}

async fn start(bench: &Bench, kind: Kind) -> Result<f64> {
    bench.start_peer(0, 0).await?;
    let start = clock::now();
    let target = Target::start(bench, kind, Some(bench.driver.name())).await?;
    bench.ask(&format!("dp_bench:meet(bench, {})", target.atom())).await?;
    let met: i64 = bench.ask("dp_bench:met_at(bench)").await?.parse().context("no time")?;
    target.end().await?;
    Ok((met - start) as f64 / 1e6)
}

//! P3 and P7: all that a peer has, in one message.

use anyhow::{Context, Result};

use super::micros_each;
use crate::proc;
use crate::stage::Bench;
use crate::table::{Line, median};

pub(super) async fn local_data(bench: &Bench) -> Result<Vec<Line>> {
    let groups = bench.count(200_000);
    let what = format!("one `local_data` of {groups} groups of one pid, a group");
    let lines = vec![
        Line::new("P3", what, "us CPU", "<= 0.4; aim 0.25"),
        Line::new("P3", "resident afterwards, the whole process", "MB", "<= 60"),
    ];
    bench
        .in_turns(lines, async |kind| {
            let stage = bench.stage(kind, 0, 0).await?;
            let what = format!("{{snapshot, {groups}, 1}}");
            let nanos = stage.cpu_of(stage.send(&what)).await?;
            let memory = proc::resident(stage.target.process_id()?)?;
            stage.assert_view(groups, 1).await?;
            stage.end().await?;
            Ok(vec![micros_each(nanos, groups), memory as f64 / 1e6])
        })
        .await
}

/// From the driver's dialling until the target has answered to a question that came after all data.
pub(super) async fn reconnect(bench: &Bench) -> Result<Vec<Line>> {
    const TIMES: usize = 5;
    let groups = bench.count(50_000);
    let what = format!("reconnect to views equal, {groups} groups");
    let lines = vec![Line::new("P7", what, "ms", "<= 30")];
    bench
        .in_turns(lines, async |kind| {
            let stage = bench.stage(kind, groups, 1).await?;
            let node = stage.target.atom();
            let mut times = Vec::new();
            while times.len() < TIMES {
                bench.ask(&format!("dp_bench:lose(bench, {node})")).await?;
                stage.settle().await?;
                let time = bench.ask(&format!("dp_bench:reconnect(bench, {node})")).await?;
                // A node in Rust dials again by itself, after a second or so; then we come too late.
                if time == "connected" {
                    bench.ask(&format!("dp_bench:meet(bench, {node})")).await?;
                    continue;
                }
                let nanos: f64 = time.parse().with_context(|| format!("it's {time}"))?;
                stage.assert_view(groups, 1).await?;
                times.push(nanos / 1e6);
            }
            stage.end().await?;
            Ok(median(&times).into_iter().collect())
        })
        .await
}

//! P1 and P2: updates of one BEAM peer, one join each.

use anyhow::Result;

use super::micros_each;
use crate::stage::Bench;
use crate::table::Line;

const GOAL: &str = "<= 0.7; aim 0.5";

pub(super) async fn own_groups(bench: &Bench) -> Result<Vec<Line>> {
    let groups = bench.count(200_000);
    let what = format!("{groups} updates, each its own group");
    joins(bench, Line::new("P1", what, "us CPU", GOAL), groups, 1).await
}

pub(super) async fn shared_groups(bench: &Bench) -> Result<Vec<Line>> {
    let (groups, members) = (bench.count(1_000), 200);
    let what = format!("the same into {groups} groups of {members} members");
    joins(bench, Line::new("P2", what, "us CPU", GOAL), groups, members).await
}

async fn joins(bench: &Bench, line: Line, groups: u32, members: u32) -> Result<Vec<Line>> {
    bench
        .in_turns(vec![line], async |kind| {
            let stage = bench.stage(kind, 0, 0).await?;
            let what = format!("{{joins, {groups}, {members}}}");
            let nanos = stage.cpu_of(stage.send(&what)).await?;
            stage.assert_view(groups, members).await?;
            stage.end().await?;
            Ok(vec![micros_each(nanos, groups * members)])
        })
        .await
}

//! P10: what an update costs in a view that already has many groups, or many members in each.

use anyhow::Result;

use super::micros_each;
use crate::plot::Plot;
use crate::stage::{Bench, Kind};
use crate::table::Line;

/// Each update puts another member in the place of one. (How P5 grows with peers is measured there.)
pub(super) async fn of_the_view(bench: &Bench) -> Result<Vec<Line>> {
    const FLAT: &str = "<= 1.5 times the least";
    let mut lines = Vec::new();
    let most = bench.count(1_000_000);
    for groups in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|n| *n <= most) {
        let what = format!("an update of one of {groups} groups");
        let line = Line::new("P10", what, "us CPU", FLAT).at(Plot::UpdatesByGroups, groups);
        lines.extend(swaps(bench, line, groups, 1).await?);
    }
    let all = bench.count(100_000);
    for members in [1, 10, 100, 1_000, 10_000, 100_000].into_iter().filter(|n| *n <= all) {
        let groups = all / members;
        let what = format!("an update of one of {groups} groups of {members} members");
        let line = Line::new("P10", what, "us CPU", FLAT).at(Plot::UpdatesByMembers, members);
        lines.extend(swaps(bench, line, groups, members).await?);
    }
    Ok(lines)
}

async fn swaps(bench: &Bench, line: Line, groups: u32, members: u32) -> Result<Vec<Line>> {
    bench
        .in_turns(vec![line], async |kind| {
            let count = bench.count(match kind {
                // Each takes it longer the more members there are, up to many milliseconds.
                Kind::Otp => (5_000_000 / members).clamp(200, 50_000),
                Kind::Rust => 50_000,
            });
            let stage = bench.stage(kind, groups, members).await?;
            let what = format!("{{swaps, {groups}, {members}, {count}}}");
            let nanos = stage.cpu_of(stage.send(&what)).await?;
            stage.assert_view(groups, members).await?;
            stage.end().await?;
            Ok(vec![micros_each(nanos, count)])
        })
        .await
}

//! P4: the members of a group leave one by one, over the group's size.

use anyhow::Result;

use super::micros_each;
use crate::plot::Plot;
use crate::stage::Bench;
use crate::table::Line;

pub(super) async fn one_by_one(bench: &Bench) -> Result<Vec<Line>> {
    let most = bench.count(20_000);
    let mut lines = Vec::new();
    for members in [10, 100, 1_000, 10_000, 20_000].into_iter().filter(|members| *members <= most) {
        let groups = (most / 2 / members).max(1);
        let what = match groups {
            1 => format!("{members} members of one group leave one by one"),
            _ => format!("those of {groups} groups of {members}"),
        };
        let goal = if members == most { "<= 0.6" } else { "" };
        let line = Line::new("P4", what, "us CPU", goal).at(Plot::Leaves, members);
        let measured = bench.in_turns(vec![line], async |kind| {
            let stage = bench.stage(kind, groups, members).await?;
            let what = format!("{{leaves, {groups}, {members}}}");
            let nanos = stage.cpu_of(stage.send(&what)).await?;
            stage.assert_view(0, 0).await?;
            stage.end().await?;
            Ok(vec![micros_each(nanos, groups * members)])
        });
        lines.extend(measured.await?);
    }
    Ok(lines)
}

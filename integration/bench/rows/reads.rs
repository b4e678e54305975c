//! P8: reading the members of a group while others write.

use anyhow::{Result, ensure};
use data_publisher::term::Term;

use crate::stage::{Bench, Stage};
use crate::table::{Line, percentile};
use crate::target::BATCH;

pub(super) async fn beside_a_writer(bench: &Bench) -> Result<Vec<Line>> {
    let line = |what: &str, goal| Line::new("P8", what, "ns", goal);
    let lines = vec![
        line("`get_members` of 10 members, nobody writes", "<= 40"),
        line("while others write to other groups", "<= 40"),
        line("99 of 100 batches within", ""),
        line("while others write to the same group", ""),
    ];
    bench
        .in_turns(lines, async |kind| {
            let stage = bench.stage(kind, 1_000, 10).await?;
            let idle = read(&stage, "none").await?;
            let others = read(&stage, "others").await?;
            let same = read(&stage, "same").await?;
            stage.end().await?;
            let values = [(&idle, 50), (&others, 50), (&others, 99), (&same, 50)];
            Ok(values.into_iter().filter_map(|(all, percent)| percentile(all, percent)).collect())
        })
        .await
}

/// Nanoseconds of a read, each the mean of a batch.
async fn read(stage: &Stage<'_>, writes: &str) -> Result<Vec<f64>> {
    let batches = stage.bench.count(4_000);
    let group = "<<\"group-0000000\">>";
    let result = stage.call("reads", &format!("[bench, {group}, {batches}, {writes}]")).await?;
    let [times, written] = result.tuple::<2>()?;
    ensure!(
        (written.integer()? > 0) == (writes != "none"),
        "{written} changes were made meanwhile to {writes}"
    );
    each(times)
}

/// Nanoseconds of one operation, of those of batches.
pub(super) fn each(batches: &Term) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for nanos in batches.list()?.iter() {
        times.push(nanos.integer()? as f64 / f64::from(BATCH));
    }
    Ok(times)
}

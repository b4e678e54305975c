//! P9: the 96 bytes of an update of P1, to a term and back.

use anyhow::{Context, Result};

use super::reads::each;
use crate::stage::Bench;
use crate::table::{Line, median};

pub(super) async fn of_an_update(bench: &Bench) -> Result<Vec<Line>> {
    let batches = bench.count(2_000);
    let lines = vec![
        Line::new("P9", "decode the 96 bytes of an update to a term", "ns", "<= 200"),
        Line::new("P9", "encode it", "ns", "<= 30"),
    ];
    bench
        .in_turns(lines, async |kind| {
            let stage = bench.stage(kind, 0, 0).await?;
            let arguments = format!("[dp_bench:update_bytes(), {batches}]");
            let times = stage.call("codec", &arguments).await?;
            stage.end().await?;
            let mut values = Vec::new();
            for times in times.tuple::<2>()? {
                values.push(median(&each(times)?).context("no batch")?);
            }
            Ok(values)
        })
        .await
}

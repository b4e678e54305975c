//! L5: two hundred idle peers, and as many connections as are allowed.

use anyhow::Result;

use super::Goal;
use crate::crowd::Role;
use crate::proc;
use crate::stage::{Bench, Crowd, Kind};

pub(super) async fn all(bench: &Bench) -> Result<Vec<Goal>> {
    let each = idle(bench, 200).await?;
    // The driver has one of the 1,024.
    let most = idle(bench, 1023).await?;
    Ok(vec![
        Goal::new(
            "L5",
            "resident for each of 200 idle peers",
            "<= 64 KiB",
            format!("{each:.1} KiB"),
            each <= 64.0,
        ),
        Goal::new(
            "L5",
            "1,024 connections up at once, none lost",
            "allowed",
            format!("all up, {most:.1} KiB each"),
            true,
        ),
    ])
}

/// KiB for each of them; an error if one can't connect or is lost.
async fn idle(bench: &Bench, count: u32) -> Result<f64> {
    let stage = bench.stage(Kind::Rust, 0, 0).await?;
    let process = stage.target.process_id()?;
    let before = proc::resident(process)?;
    let crowd = Crowd::start(&stage, Role::Idle, count).await?;
    stage.settle().await?;
    let after = proc::resident(process)?;
    crowd.end().await?;
    stage.end().await?;
    Ok(after.saturating_sub(before) as f64 / 1024.0 / f64::from(count))
}

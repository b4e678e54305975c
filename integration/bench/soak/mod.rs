//! Load, long and heavy: `scripts/soak`. What must be reached is in [`Goal`]s; one that isn't is a failure.
//!
//! The nodes are those of the table: a driver on OTP 29, targets in Rust, a crowd of simulated peers.

mod connections;
mod load;
mod long;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use data_publisher::term::Term;

use crate::stage::{Bench, Stage, TARGET};

const USAGE: &str =
    "usage: beam soak [--quick] [--minutes N] [--out FILE] [load|connections|long...]";

/// A number to be reached, and what was seen.
struct Goal {
    name: &'static str,
    what: String,
    asked: String,
    seen: String,
    reached: bool,
}

impl Goal {
    fn new(
        name: &'static str,
        what: impl Into<String>,
        asked: impl Into<String>,
        seen: impl Into<String>,
        reached: bool,
    ) -> Self {
        Self { name, what: what.into(), asked: asked.into(), seen: seen.into(), reached }
    }

    fn line(&self) -> String {
        let Self { name, what, asked, seen, reached } = self;
        let verdict = if *reached { "reached" } else { "NOT REACHED" };
        format!("| {name} | {what} | {asked} | {seen} | {verdict} |\n")
    }
}

/// How much is done.
#[derive(Clone, Copy)]
struct Extent {
    quick: bool,
    minutes: u64,
}

pub(crate) async fn run(arguments: &[&str]) -> Result<()> {
    let (mut extent, mut out, mut parts) = (Extent { quick: false, minutes: 60 }, None, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--quick" => extent = Extent { quick: true, minutes: 5 },
            "--minutes" => extent.minutes = rest.next().context(USAGE)?.parse().context(USAGE)?,
            "--out" => out = Some(PathBuf::from(rest.next().context(USAGE)?)),
            part @ ("load" | "connections" | "long") => parts.push(part),
            _ => bail!(USAGE),
        }
    }
    let bench = Bench::start(1, 1, TARGET).await?;
    let mut goals = Vec::new();
    for part in parts {
        match part {
            "load" => goals.extend(load::all(&bench, extent).await?),
            "connections" => goals.extend(connections::all(&bench).await?),
            _ => goals.extend(long::soak(&bench, extent).await?),
        }
    }
    bench.driver.finish().await?;
    let lines: String = goals.iter().map(Goal::line).collect();
    print!("{lines}");
    if let Some(out) = out {
        std::fs::write(out, lines)?;
    }
    ensure!(goals.iter().all(|goal| goal.reached), "not all was reached");
    Ok(())
}

/// `{Count, P50, P99, Longest}` in nanoseconds, as `paced` and `watched` give it.
struct Times {
    count: i64,
    p50: f64,
    p99: f64,
    longest: f64,
}

impl Times {
    fn read(term: &Term) -> Result<Self> {
        let [count, p50, p99, longest] = term.tuple::<4>()?;
        let millis = |nanos: &Term| anyhow::Ok(nanos.integer()? as f64 / 1e6);
        let (p50, p99, longest) = (millis(p50)?, millis(p99)?, millis(longest)?);
        Ok(Self { count: count.integer()?, p50, p99, longest })
    }
}

/// What a target says of itself.
struct Health {
    files: i64,
    tasks: i64,
    lost: i64,
    queued: i64,
}

impl Health {
    async fn of(stage: &Stage<'_>) -> Result<Self> {
        let health = stage.call("health", "[bench]").await?;
        let [files, tasks, lost, queued] = health.tuple::<4>()?;
        let (files, tasks) = (files.integer()?, tasks.integer()?);
        Ok(Self { files, tasks, lost: lost.integer()?, queued: queued.integer()? })
    }
}

//! The table of what a member costs, beside a node of OTP 29 that does the same work: `scripts/bench`.
//!
//! One run has a driver, an OTP 29 node whose peer says all there is to say (`erlang/bench`), and for
//! each round and row a fresh target, in turns one on OTP and one in Rust, so that whatever else the
//! machine does meets both. Figures are medians of the rounds, with the least and the most.
//!
//! `us CPU` is the time that the whole process of the target was on a CPU, per operation: on a busy
//! machine it's stable where wall time isn't, and it counts what is done in the background, too. What
//! a target has in the end is compared with what it must have; nothing fails because it's slow.
//!
//! The target in Rust, and other nodes in Rust, are this program again, in another role.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "it talks to its user")]
#![expect(clippy::cast_precision_loss, reason = "what is measured has fewer digits")]

mod clock;
mod crowd;
mod health;
mod pace;
mod plot;
mod proc;
mod rows;
mod soak;
mod stage;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests need more of it")]
mod support;
mod table;
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Builder;

use crate::crowd::Role;
use crate::stage::{Bench, ONE_THREAD_TARGET, TARGET};

const USAGE: &str =
    "usage: scripts/bench [--quick | --rounds N] [--one-thread] [--out DIR] [ROW...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = match arguments.first() {
        Some(&ONE_THREAD_TARGET) => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread().enable_all().build(),
    };
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["run", options @ ..] => table(options).await,
        ["soak", options @ ..] => soak::run(options).await,
        [TARGET | ONE_THREAD_TARGET, name, epmd, dial @ ..] => {
            target::run(name, epmd.parse()?, dial.first().copied()).await
        }
        ["idle", name, epmd, target, count] => {
            crowd::run(Role::Idle, count.parse()?, name, epmd.parse()?, target).await
        }
        ["peers", name, epmd, target, count] => {
            crowd::run(Role::Peers, count.parse()?, name, epmd.parse()?, target).await
        }
        // Cargo runs everything called a benchmark, whatever was asked for.
        _ => {
            println!("measured by scripts/bench, which takes some minutes");
            Ok(())
        }
    }
}

struct Options<'a> {
    rounds: u32,
    divisor: u32,
    target: &'static str,
    out: Option<PathBuf>,
    rows: Vec<&'a str>,
}

impl<'a> Options<'a> {
    fn read(arguments: &[&'a str]) -> Result<Self> {
        let mut options =
            Self { rounds: 5, divisor: 1, target: TARGET, out: None, rows: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().context(USAGE);
            match *argument {
                "--quick" => (options.rounds, options.divisor) = (1, 20),
                "--one-thread" => options.target = ONE_THREAD_TARGET,
                "--rounds" => options.rounds = value()?.parse().context(USAGE)?,
                "--out" => options.out = Some(value()?.into()),
                row if rows::ROWS.contains(&row) => options.rows.push(row),
                _ => bail!("{USAGE}; rows are {}", rows::ROWS.join(", ")),
            }
        }
        ensure!(options.rounds > 0, USAGE);
        if options.rows.is_empty() {
            options.rows = rows::ROWS.to_vec();
        }
        Ok(options)
    }
}

async fn table(arguments: &[&str]) -> Result<()> {
    let options = Options::read(arguments)?;
    let bench = Bench::start(options.rounds, options.divisor, options.target).await?;
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for row in options.rows {
        // A run is long: one row that fails shouldn't cost the others.
        let start = Instant::now();
        match rows::measure(row, &bench).await {
            Ok(more) => {
                eprintln!("{row} took {:.0?}", start.elapsed());
                lines.extend(more);
            }
            Err(error) => {
                eprintln!("{row} failed: {error:#}");
                failed.push(row);
            }
        }
    }
    let text = format!("{}\n\n{}", bench.machine(), table::print(&lines));
    println!("{text}");
    if let Some(out) = options.out {
        std::fs::create_dir_all(&out)?;
        std::fs::write(out.join("table.md"), text)?;
        plot::draw_all(&lines, &out)?;
    }
    bench.driver.finish().await?;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

//! The transcripts in `integration/trace` are what OTP 29 does: recorded again, they're the same.
//!
//! `TRACE_RECORD=1 cargo test --test integration trace_live` writes them anew.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use data_publisher::term::Term;

use crate::support::{Epmd, ErlNode, Otp};

#[tokio::test]
async fn what_is_recorded_now_is_what_is_kept() -> Result<()> {
    let epmd = Epmd::start_of(Otp::R29).await?;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let node = ErlNode::options(Otp::R29, name, epmd.port())
            .connect_all_false()
            .allow_overlapping_partitions()
            .arguments(&["-kernel", "dist_auto_connect", "never"])
            .start()
            .await?;
        node.load("erlang/test/recorder.erl").await?;
        nodes.push(node);
    }
    let [a, peers @ ..] = nodes.as_slice() else { unreachable!("there are four") };
    for module in ["dp_names", "recorder_cases", "recorder_walk"] {
        a.load(&format!("erlang/test/{module}.erl")).await?;
    }
    let peers: Vec<String> = peers.iter().map(|node| format!("'{}'", node.name())).collect();
    let peers = peers.join(", ");

    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/trace");
    let records = std::env::var_os("TRACE_RECORD").is_some();
    for case in a.eval("recorder_cases:cases()").await?.parse::<Term>()?.list()?.iter() {
        let value = a.peek(&format!("recorder:record({case}, [{peers}])")).await?;
        let value: Term = value.parse()?;
        let transcript = std::str::from_utf8(value.binary()?)?;
        let file = directory.join(format!("{case}.txt"));
        if records {
            std::fs::write(&file, transcript)?;
        }
        let kept = std::fs::read_to_string(&file)
            .with_context(|| format!("can't read {}", file.display()))?;
        same(&kept, transcript).with_context(|| file.display().to_string())?;
    }

    for node in nodes {
        node.finish().await?;
    }
    Ok(())
}

/// The two are the same but for the order of what goes to different processes because of one message:
/// that of the peers is that of their pids, which are others each time.
fn same(kept: &str, now: &str) -> Result<()> {
    let (kept, now) = (steps(kept), steps(now));
    for (kept, now) in kept.iter().zip(&now) {
        ensure!(kept == now, "kept is\n{}\nOTP 29 does now\n{}", kept.join("\n"), now.join("\n"));
    }
    ensure!(kept.len() == now.len(), "{} steps are kept, now there are {}", kept.len(), now.len());
    Ok(())
}

/// What happens because of one message, in order for each process.
fn steps(transcript: &str) -> Vec<Vec<&str>> {
    transcript
        .split("\n\n")
        .map(|step| {
            let mut lines: Vec<&str> = step.lines().collect();
            lines.sort_by_key(|line| match line.trim_start().split_once(' ') {
                Some(("out", rest)) => rest.split(' ').next(),
                Some(("monitor", rest)) => rest.split(' ').nth(1),
                _ => None,
            });
            lines
        })
        .collect()
}

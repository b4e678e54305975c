//! What Linux tells of another process: the time it has been on a CPU, and its memory.

use anyhow::{Context, Result};

/// Time on a CPU since its start, of all its threads, in nanoseconds.
///
/// From the scheduler's own figures. Where the kernel keeps none, from the ones in ticks, which are
/// ten milliseconds.
pub(crate) fn cpu_time(process: u32) -> Result<u64> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))
        .with_context(|| format!("process {process} has ended"))?;
    let mut sum = 0;
    for thread in threads {
        // One that has ended since the folder was read had nothing to say.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let first = text.split_ascii_whitespace().next().context("an empty schedstat")?;
        sum += first.parse::<u64>()?;
    }
    if sum > 0 { Ok(sum) } else { cpu_time_in_ticks(process) }
}

fn cpu_time_in_ticks(process: u32) -> Result<u64> {
    const TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    let mut times = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (times.next().context("no times")??, times.next().context("no times")??);
    Ok((user + system) * TICK)
}

/// Bytes of its memory that are resident now.
pub(crate) fn resident(process: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.with_context(|| format!("no VmRSS in the status of {process}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

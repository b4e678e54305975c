//! What happens in a random run, one operation after the other: drawn from a seed, made shorter when it
//! has found something, written and read as text.
//!
//! An operation means much the same when others are taken away: what is random about it comes from a
//! number of its own, and where it has nothing to do it does nothing.

use std::fmt::Write as _;
use std::time::Duration;

use super::random::Random;

/// Nodes by their numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    /// The user's own: mostly an update.
    Act(usize, u64),
    /// So many messages of one node arrive at another.
    Deliver(usize, usize, u64),
    Connect(usize, usize),
    Cut(usize, usize),
    Resync(usize, usize),
    Start(usize),
    Stop(usize),
    Restart(usize),
    Kill(usize),
    Upgrade(usize),
    /// So many seconds pass.
    Advance(u64),
}

/// The number each cluster is made from, and what happens in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Schedule {
    pub(super) cluster: u64,
    pub(super) ops: Vec<Op>,
}

impl Schedule {
    /// For so many nodes. Some runs have many faults and others few: with too many of them nothing
    /// grows for long enough to go wrong.
    pub(super) fn drawn(seed: u64, nodes: usize) -> Self {
        let mut random = Random::new(seed);
        let cluster = random.number();
        let faults = *random.pick(&[2, 8, 20]);
        let ops = (0..10 + random.below(111)).map(|_| draw(&mut random, nodes, faults)).collect();
        Self { cluster, ops }
    }

    /// Without what it doesn't need to fail.
    pub(super) fn shrunk(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut size = self.ops.len().div_ceil(2);
        while size > 0 {
            let (before, mut start) = (self.ops.len(), 0);
            while start < self.ops.len() {
                let mut shorter = self.clone();
                shorter.ops.drain(start..(start + size).min(self.ops.len()));
                if fails(&shorter) {
                    self = shorter;
                } else {
                    start += size;
                }
            }
            if self.ops.len() == before || size > 1 {
                size /= 2;
            }
        }
        self
    }

    /// The number a text begins with.
    pub(super) fn cluster_of(text: &str) -> Result<u64, String> {
        let first = lines(text).next().and_then(|line| line.strip_prefix("cluster "));
        hex(first.ok_or("the first line is `cluster NUMBER`")?)
    }

    /// One operation a line, after the number of the cluster. What stands behind a `#` isn't read.
    pub(super) fn read(text: &str, labels: &[String]) -> Result<Self, String> {
        let cluster = Self::cluster_of(text)?;
        let ops = lines(text).skip(1).map(|line| read(line, labels)).collect::<Result<_, _>>()?;
        Ok(Self { cluster, ops })
    }
}

fn draw(random: &mut Random, nodes: usize, faults: usize) -> Op {
    let (i, j) = (random.below(nodes), random.below(nodes));
    if random.chance(faults) {
        return match random.below(10) {
            0 | 1 => Op::Cut(i, j),
            2 | 3 => Op::Restart(i),
            4 => Op::Stop(i),
            5 => Op::Kill(i),
            6 => Op::Upgrade(i),
            7 => Op::Resync(i, j),
            _ => Op::Advance(1 + random.number() % 40),
        };
    }
    match random.below(100) {
        0..30 => Op::Act(i, random.number() >> 40),
        30..85 => Op::Deliver(i, j, 1 + random.number() % 3),
        85..95 => Op::Connect(i, j),
        95..97 => Op::Resync(i, j),
        _ => Op::Start(i),
    }
}

impl Op {
    pub(super) fn text(self, labels: &[String]) -> String {
        let mut text = String::new();
        let (word, nodes, number) = match self {
            Self::Act(i, roll) => ("act", vec![i], Some(format!("{roll:x}"))),
            Self::Deliver(i, j, count) => ("deliver", vec![i, j], Some(count.to_string())),
            Self::Connect(i, j) => ("connect", vec![i, j], None),
            Self::Cut(i, j) => ("cut", vec![i, j], None),
            Self::Resync(i, j) => ("resync", vec![i, j], None),
            Self::Start(i) => ("start", vec![i], None),
            Self::Stop(i) => ("stop", vec![i], None),
            Self::Restart(i) => ("restart", vec![i], None),
            Self::Kill(i) => ("kill", vec![i], None),
            Self::Upgrade(i) => ("upgrade", vec![i], None),
            Self::Advance(seconds) => ("advance", vec![], Some(seconds.to_string())),
        };
        text.push_str(word);
        for node in nodes {
            let _ = write!(text, " {}", labels[node]);
        }
        if let Some(number) = number {
            let _ = write!(text, " {number}");
        }
        text
    }

    pub(super) fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty())
}

fn read(line: &str, labels: &[String]) -> Result<Op, String> {
    let node = |text: &str| {
        labels
            .iter()
            .position(|label| label == text)
            .ok_or_else(|| format!("{line}: no node {text}"))
    };
    let count = |text: &str| text.parse().map_err(|error| format!("{line}: {error}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(match *words {
        ["act", i, roll] => Op::Act(node(i)?, hex(roll)?),
        ["deliver", i, j, number] => Op::Deliver(node(i)?, node(j)?, count(number)?),
        ["connect", i, j] => Op::Connect(node(i)?, node(j)?),
        ["cut", i, j] => Op::Cut(node(i)?, node(j)?),
        ["resync", i, j] => Op::Resync(node(i)?, node(j)?),
        ["start", i] => Op::Start(node(i)?),
        ["stop", i] => Op::Stop(node(i)?),
        ["restart", i] => Op::Restart(node(i)?),
        ["kill", i] => Op::Kill(node(i)?),
        ["upgrade", i] => Op::Upgrade(node(i)?),
        ["advance", number] => Op::Advance(count(number)?),
        _ => return Err(format!("nobody knows how to {line}")),
    })
}

fn hex(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        ["a", "b", "c"].map(String::from).to_vec()
    }

    #[test]
    fn a_schedule_reads_as_it_is_written() {
        let labels = labels();
        for seed in 0..50 {
            let schedule = Schedule::drawn(seed, 3);
            let lines: Vec<_> = schedule.ops.iter().map(|op| op.text(&labels)).collect();
            let text =
                format!("# seed\ncluster {:x}\n{} # so\n", schedule.cluster, lines.join("\n"));
            assert_eq!(Schedule::read(&text, &labels), Ok(schedule));
        }
        for bad in ["", "cluster x", "cluster 1\nfly a b", "cluster 1\ncut a d", "cluster 1\ncut a"]
        {
            assert!(Schedule::read(bad, &labels).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_of_a_schedule_is_what_it_takes_to_fail() {
        let schedule = Schedule::drawn(7, 3);
        let (a, b) = (schedule.ops[3], schedule.ops[9]);
        let shrunk = schedule.shrunk(|schedule| [a, b].iter().all(|op| schedule.ops.contains(op)));
        assert_eq!(shrunk.ops, [a, b]);
    }
}

//! What happens in a simulated cluster, one thing after the other: drawn from a seed, made shorter
//! when it has found something, written and read as text.
//!
//! An operation names its nodes by a number of which the world takes what is left over, and has a
//! number of its own from which its details are drawn. So it means much the same when others are
//! taken away.

use std::fmt;
use std::str::FromStr;

use crate::random::Random;

/// What can happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The node changes what it owns.
    Change,
    /// A process of the node ends.
    EndProcess,
    /// The two connect.
    Connect,
    /// A timer of the node's scope is due.
    Timer,
    /// Somebody subscribes to one key.
    Subscribe,
    /// Some signals arrive, over any connection.
    Deliver,
    /// The node's scope takes one thing out of its inbox.
    Step,
    /// The node closes its connection to the other.
    Cut,
    /// The node stops where it is, with all its connections, or goes on.
    Suspend,
    /// The node is gone at once.
    Crash,
    /// The node runs again.
    Start,
    StopScope,
    RestartScope,
    /// Something on its way comes twice.
    Duplicate,
    /// The node gets what is false or can't be read, over its connection to the other.
    Lie,
}

/// Each with its name as text and its weight.
const USUAL: [(Kind, &str, usize); 7] = [
    (Kind::Change, "change", 14),
    (Kind::EndProcess, "end-process", 2),
    (Kind::Connect, "connect", 8),
    (Kind::Timer, "timer", 2),
    (Kind::Subscribe, "subscribe", 1),
    (Kind::Deliver, "deliver", 33),
    (Kind::Step, "step", 40),
];

const FAULTS: [(Kind, &str, usize); 8] = [
    (Kind::Cut, "cut", 4),
    (Kind::Suspend, "suspend", 1),
    (Kind::Crash, "crash", 1),
    (Kind::Start, "start", 1),
    (Kind::StopScope, "stop-scope", 1),
    (Kind::RestartScope, "restart-scope", 1),
    (Kind::Duplicate, "duplicate", 1),
    (Kind::Lie, "lie", 1),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = USUAL.iter().chain(&FAULTS).find(|(kind, ..)| kind == self);
        f.write_str(name.map_or("?", |(_, name, _)| name))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) node: usize,
    pub(crate) other: usize,
    /// What its details are drawn from.
    pub(crate) roll: u64,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:x}", self.kind, self.node, self.other, self.roll)
    }
}

/// A cluster and what happens in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Schedule {
    /// What the nodes and what they run are drawn from.
    pub(crate) cast: u64,
    pub(crate) ops: Vec<Op>,
}

impl Schedule {
    /// 50 to 400 operations. How often faults are, and which operations are frequent, rare or not at
    /// all, differs from one seed to the next: some things are only found when others don't happen.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let cast = random.next();
        let faults = [1, 5, 15][random.below(3)];
        let mut mix: Vec<(Kind, usize)> = Vec::new();
        for (kinds, of) in [(&USUAL[..], 100 - faults), (&FAULTS[..], faults)] {
            let sum: usize = kinds.iter().map(|(.., weight)| weight).sum();
            for (kind, _, weight) in kinds {
                let factor = match kind {
                    Kind::Deliver | Kind::Step => 1,
                    _ => [0, 1, 1, 1, 2, 4][random.below(6)],
                };
                mix.push((*kind, weight * factor * of * 100 / sum));
            }
        }
        let sum: usize = mix.iter().map(|(_, weight)| weight).sum();
        let ops = (0..50 + random.below(351)).map(|_| {
            let mut place = random.below(sum);
            let kind = mix.iter().find(|(_, weight)| {
                let is_here = place < *weight;
                place = place.saturating_sub(*weight);
                is_here
            });
            let kind = kind.map_or(Kind::Step, |(kind, _)| *kind);
            let (node, other) = (random.below(8), random.below(8));
            Op { kind, node, other, roll: random.next() >> 40 }
        });
        Self { cast, ops: ops.collect() }
    }

    /// Without what it doesn't need to fail: parts, then single operations, then pairs of which one only
    /// undoes the other.
    pub(crate) fn shrunk(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut size = self.ops.len().div_ceil(2);
        while size > 0 {
            let (before, mut start) = (self.ops.len(), 0);
            while start < self.ops.len() {
                let end = (start + size).min(self.ops.len());
                match self.without(|place| (start..end).contains(&place)) {
                    shorter if fails(&shorter) => self = shorter,
                    _ => start += size,
                }
            }
            if size > 1 {
                size /= 2;
            } else if self.ops.len() == before {
                match self.without_a_pair(&fails) {
                    Some(shorter) => self = shorter,
                    None => size = 0,
                }
            }
        }
        self
    }

    fn without_a_pair(&self, fails: impl Fn(&Self) -> bool) -> Option<Self> {
        let all = 0..self.ops.len();
        let pairs = all.flat_map(|one| (0..one).map(move |other| [one, other]));
        pairs.map(|pair| self.without(|place| pair.contains(&place))).find(|shorter| fails(shorter))
    }

    fn without(&self, is_out: impl Fn(usize) -> bool) -> Self {
        let ops = self.ops.iter().enumerate().filter(|(place, _)| !is_out(*place));
        Self { cast: self.cast, ops: ops.map(|(_, op)| *op).collect() }
    }
}

/// One operation a line, after the number of the cast.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cast {:x}", self.cast)?;
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

/// What stands behind a `#` in a line isn't read.
impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let mut lines = lines.filter(|line| !line.is_empty());
        let number = |text: &str| u64::from_str_radix(text, 16).map_err(|e| format!("{text}: {e}"));
        let cast = lines.next().and_then(|line| line.strip_prefix("cast "));
        let cast = number(cast.ok_or("the first line is `cast NUMBER`")?)?;
        let op = |line: &str| {
            let [name, node, other, roll] = *line.split_whitespace().collect::<Vec<_>>() else {
                return Err(format!("not `OPERATION NODE NODE NUMBER`: {line}"));
            };
            let kind = USUAL.iter().chain(&FAULTS).find(|(_, known, _)| *known == name);
            let (kind, ..) = kind.ok_or(format!("nobody knows how to {name}"))?;
            let place = |text: &str| text.parse().map_err(|e| format!("{text}: {e}"));
            Ok(Op { kind: *kind, node: place(node)?, other: place(other)?, roll: number(roll)? })
        };
        Ok(Self { cast, ops: lines.map(op).collect::<Result<_, _>>()? })
    }
}

#[test]
fn a_schedule_reads_as_it_is_written() {
    let schedule = Schedule::drawn(7);
    assert_eq!(schedule.to_string().parse(), Ok(schedule));
    assert!(
        "cast x".parse::<Schedule>().is_err() && "cast 1\nfly 1 2 3".parse::<Schedule>().is_err()
    );
}

/// As with a connection that is cut and made again.
#[test]
fn two_operations_that_are_needed_only_for_each_other_go_together() {
    let schedule = Schedule::drawn(7);
    let (a, b, c) = (schedule.ops[3], schedule.ops[10], schedule.ops[40]);
    let shrunk = schedule.shrunk(|schedule| {
        let has = |op: Op| schedule.ops.contains(&op);
        has(c) && has(a) == has(b)
    });
    assert_eq!(shrunk.ops, [c]);
}

#[test]
fn what_is_left_of_a_schedule_is_what_it_takes_to_fail() {
    let schedule = Schedule::drawn(7);
    let (a, b) = (schedule.ops[3], schedule.ops[40]);
    let shrunk = schedule.shrunk(|schedule| [a, b].iter().all(|op| schedule.ops.contains(op)));
    assert_eq!(shrunk.ops, [a, b]);
}

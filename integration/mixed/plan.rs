//! What is done to a cluster: operations drawn from a seed, each one line of text.

use std::fmt;

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// Names of groups in Erlang syntax; two of them differ only for those who compare as `=:=` does.
pub(super) const GROUPS: [&str; 6] = ["g", "{g,1}", "1", "1.0", "<<\"g\">>", "\"g\""];

/// Processes a node has for its groups at most; each comes to be when it's first needed.
pub(super) const SLOTS: usize = 4;

/// One thing that happens. Nodes are places in the cluster, `Slot`s are processes of a node.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Processes join a group, each as often as it's named.
    Join { node: usize, group: usize, slots: Vec<usize> },
    /// Processes leave it, among them such as aren't in it.
    Leave { node: usize, group: usize, slots: Vec<usize> },
    /// A process ends; the next one in its slot is another.
    Kill { node: usize, slot: usize },
    /// The scope ends on a node: on the BEAM it's killed, in Rust it's stopped.
    StopScope { node: usize },
    /// It starts, unless it runs.
    StartScope { node: usize },
    /// It ends and starts at once.
    RestartScope { node: usize },
    /// A connection is closed by one of its ends.
    Disconnect { by: usize, from: usize },
    /// One end dials. Nobody waits for it.
    Connect { by: usize, to: usize },
    /// A node ends without a word and starts again with the same name; a Rust node may come back hidden.
    RestartNode { node: usize, hidden: bool },
    /// Messages get some time to arrive, but not enough to be sure.
    Pause { milliseconds: u64 },
}

/// The operations of a seed, so many or 10 to 40, for a cluster of so many BEAM nodes followed by so many
/// Rust nodes.
pub(super) fn operations(seed: u64, count: Option<u64>, beam: usize, rust: usize) -> Vec<Op> {
    let mut random = StdRng::seed_from_u64(seed);
    let length = random.random_range(10..=40);
    (0..count.unwrap_or(length)).map(|_| operation(&mut random, beam, rust)).collect()
}

fn operation(random: &mut impl Rng, beam: usize, rust: usize) -> Op {
    let nodes = beam + rust;
    let node = random.random_range(0..nodes);
    let group = random.random_range(0..GROUPS.len());
    match random.random_range(0..1000) {
        0..330 => Op::Join { node, group, slots: slots(random) },
        330..500 => Op::Leave { node, group, slots: slots(random) },
        500..590 => Op::Kill { node, slot: random.random_range(0..SLOTS) },
        590..640 => Op::RestartScope { node },
        640..670 => Op::StopScope { node },
        670..720 => Op::StartScope { node },
        720..800 => Op::Disconnect { by: node, from: another(random, node, nodes) },
        800..900 => Op::Connect { by: node, to: another(random, node, nodes) },
        900..930 => {
            Op::RestartNode { node: beam + random.random_range(0..rust), hidden: random.random() }
        }
        // It costs a second.
        930..933 => Op::RestartNode { node: random.random_range(0..beam), hidden: false },
        _ => Op::Pause { milliseconds: random.random_range(1..6) },
    }
}

/// Mostly one process, else several, now and then the same one more than once.
fn slots(random: &mut impl Rng) -> Vec<usize> {
    let count = if random.random_bool(0.6) { 1 } else { random.random_range(2..6) };
    (0..count).map(|_| random.random_range(0..SLOTS)).collect()
}

pub(super) fn another(random: &mut impl Rng, node: usize, nodes: usize) -> usize {
    (node + random.random_range(1..nodes)) % nodes
}

/// A line such as `join 3 {g,1} p0 p0 p2`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut members = |word, node: &usize, group: &usize, slots: &[usize]| {
            write!(f, "{word} {node} {}", GROUPS[*group])?;
            slots.iter().try_for_each(|slot| write!(f, " p{slot}"))
        };
        match self {
            Self::Join { node, group, slots } => members("join", node, group, slots),
            Self::Leave { node, group, slots } => members("leave", node, group, slots),
            Self::Kill { node, slot } => write!(f, "kill {node} p{slot}"),
            Self::StopScope { node } => write!(f, "stop_scope {node}"),
            Self::StartScope { node } => write!(f, "start_scope {node}"),
            Self::RestartScope { node } => write!(f, "restart_scope {node}"),
            Self::Disconnect { by, from } => write!(f, "disconnect {by} {from}"),
            Self::Connect { by, to } => write!(f, "connect {by} {to}"),
            Self::RestartNode { node, hidden: true } => write!(f, "restart_node {node} hidden"),
            Self::RestartNode { node, .. } => write!(f, "restart_node {node}"),
            Self::Pause { milliseconds } => write!(f, "pause {milliseconds} ms"),
        }
    }
}

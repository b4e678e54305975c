//! Random runs of a cluster, and the report of the first that fails.

use std::cell::Cell;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use super::cluster::Cluster;
use super::random::Random;
use super::schedule::{Op, Schedule};
use crate::engine::DataPublisher;

/// Longer than anything an engine does later without being asked.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs a cluster once for each seed, with whatever can happen to it: connections come and go, messages
/// are late, scopes stop and start, nodes are killed and upgraded, time passes. `act` is what the users of
/// the scope do on one of its nodes: mostly an [`update`](Cluster::update) that it draws.
///
/// `make` makes the cluster, with what is to be [compared](Cluster::compare) and
/// [followed](Cluster::follow). In the end everything starts, all connect, and all must agree.
///
/// The same seed is the same run, as long as this crate draws as it does now; a report doesn't depend on
/// that, for it holds the run itself. While runs are tried, a hook keeps the panics of this thread quiet.
///
/// # Panics
///
/// With the first run that breaks a [law](super) or panics otherwise: what is wrong, and of all that
/// happened only what it takes, as a text for [`replay`].
pub fn shake<P: DataPublisher>(
    seeds: Range<u64>,
    make: impl Fn(&mut Random) -> Cluster<P>,
    act: impl Fn(&mut Cluster<P>, &str, &mut Random),
) {
    for seed in seeds {
        let drawn = Schedule::drawn(seed, make(&mut Random::new(seed)).nodes.len());
        let fails =
            |schedule: &Schedule| failure(|| run(&mut make_of(schedule, &make), schedule, &act));
        if fails(&drawn).is_some() {
            let all = drawn.ops.len();
            let left = drawn.shrunk(|schedule| fails(schedule).is_some());
            let (text, why) = told(&left, &make, &act);
            let why =
                why.unwrap_or_else(|| "nothing when it's told: it isn't always the same".into());
            panic!(
                "{why}\n\nseed {seed}; of {all} operations these are enough, a text for \
                 `testing::replay`:\n\n{text}",
            );
        }
    }
}

/// Has happen once more what a report of [`shake`] holds. Keep it in a test of its own: it stays what it
/// is, whatever becomes of the seeds.
///
/// # Panics
///
/// As [`shake`]; and when the text can't be read.
pub fn replay<P: DataPublisher>(
    text: &str,
    make: impl Fn(&mut Random) -> Cluster<P>,
    act: impl Fn(&mut Cluster<P>, &str, &mut Random),
) {
    let read = Schedule::cluster_of(text).and_then(|number| {
        let cluster = make(&mut Random::new(number));
        Schedule::read(text, &labels(&cluster))
    });
    let schedule = read.unwrap_or_else(|error| panic!("{error}"));
    if let (text, Some(why)) = told(&schedule, &make, &act) {
        panic!("{why}\n\n{text}");
    }
}

fn make_of<P: DataPublisher>(
    schedule: &Schedule,
    make: impl Fn(&mut Random) -> Cluster<P>,
) -> Cluster<P> {
    make(&mut Random::new(schedule.cluster))
}

fn labels<P: DataPublisher>(cluster: &Cluster<P>) -> Vec<String> {
    cluster.nodes.iter().map(|node| node.label.clone()).collect()
}

fn run<P: DataPublisher>(
    cluster: &mut Cluster<P>,
    schedule: &Schedule,
    act: impl Fn(&mut Cluster<P>, &str, &mut Random),
) {
    let labels = labels(cluster);
    for op in &schedule.ops {
        cluster.line(|| op.text(&labels));
        step(cluster, &labels, *op, &act);
    }
    cluster.line(|| "# the end: all start and connect".into());
    for node in &labels {
        cluster.start(node);
    }
    cluster.connect_all();
    cluster.settle();
    cluster.advance(PATIENCE);
}

fn step<P: DataPublisher>(
    cluster: &mut Cluster<P>,
    labels: &[String],
    op: Op,
    act: impl Fn(&mut Cluster<P>, &str, &mut Random),
) {
    match op {
        Op::Act(i, roll) if cluster.nodes[i].scope.is_some() => {
            act(cluster, &labels[i], &mut Random::new(roll));
        }
        Op::Deliver(i, j, count) => {
            for _ in 0..count {
                cluster.deliver_at(i, j);
            }
        }
        Op::Connect(i, j) if [i, j].iter().all(|k| cluster.is_up(*k)) => {
            cluster.connect(&labels[i], &labels[j]);
        }
        Op::Cut(i, j) if i != j => cluster.cut(&labels[i], &labels[j]),
        Op::Resync(i, j) if i != j => cluster.resync(&labels[i], &labels[j]),
        Op::Start(i) => cluster.start(&labels[i]),
        Op::Stop(i) => cluster.stop(&labels[i]),
        Op::Restart(i) => cluster.restart(&labels[i]),
        Op::Kill(i) => cluster.kill(&labels[i]),
        Op::Upgrade(i) if cluster.can_upgrade(i) => cluster.upgrade(&labels[i]),
        Op::Advance(seconds) => cluster.advance(Op::seconds(seconds)),
        Op::Act(..) | Op::Connect(..) | Op::Cut(..) | Op::Resync(..) | Op::Upgrade(_) => {}
    }
}

/// The text of a run, with what each operation did, and what goes wrong in it.
fn told<P: DataPublisher>(
    schedule: &Schedule,
    make: impl Fn(&mut Random) -> Cluster<P>,
    act: impl Fn(&mut Cluster<P>, &str, &mut Random),
) -> (String, Option<String>) {
    let mut cluster = make_of(schedule, make);
    cluster.story = Some(Vec::new());
    let why = failure(|| run(&mut cluster, schedule, act));
    let mut text = format!("cluster {:x}\n", schedule.cluster);
    for line in cluster.story.take().unwrap_or_default() {
        let _ = writeln!(text, "{line}");
    }
    (text, why)
}

thread_local! {
    /// Whether a panic of this thread is what is looked for.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What it panics with, if it does. Reported is it once, in the end, and not each time a run is tried.
fn failure(run: impl FnOnce()) -> Option<String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                usual(info);
            }
        }));
    });
    EXPECTED.set(true);
    let end = catch_unwind(AssertUnwindSafe(run));
    EXPECTED.set(false);
    end.err().map(|panic| match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "panic".to_owned(),
    })
}

//! Seeded simulation: clusters of two to five nodes, engines among models of their peers on the
//! BEAM, under faults of every kind; checked against what must hold after each step and at rest.
//!
//! What they run is one of three publishers: `pg`, `kv`, and `names`, which has two formats.
//!
//! A failure prints what is left of its schedule when all is taken away that it doesn't need, one
//! operation a line with what it did. Kept in a file, `SIM_REPLAY=FILE cargo test --test sim replay`
//! has it happen again; `SIM_KIND=pg SIM_SEED=n` prints the schedule of a seed, `SIM_SCHEDULES=n` says
//! how many seeds are run, for each kind in proportion. What once failed is in `schedules/`.

#![expect(clippy::print_stdout, reason = "a replay is for a person to read")]

mod behaviour;
mod kv;
mod names;
mod pg;
#[path = "../publishers/mod.rs"]
mod publishers;
mod random;
mod schedule;
mod subject;
mod world;

use std::cell::Cell;
use std::hash::Hasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustc_hash::FxHasher;

use self::kv::Kv;
use self::names::TwoVersions;
use self::pg::Pg;
use self::schedule::Schedule;
use self::subject::Subject;
use self::world::{Met, Mutant, World};

/// How many schedules are run in all, and by how many at most a planted defect is found.
const SCHEDULES: u64 = 200_000;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What goes wrong in this schedule, if anything does.
fn failure<S: Subject>(schedule: &Schedule, mutant: Option<Mutant>) -> Option<String> {
    panic_of(|| World::<S>::new(schedule.cast, mutant).run(&schedule.ops))
}

/// Has a schedule happen and tells it, in a form that can be replayed.
fn story<S: Subject>(schedule: &Schedule, mutant: Option<Mutant>) -> String {
    let mut world = World::<S>::new(schedule.cast, mutant);
    world.log = Some(vec![format!("# {}: {}", S::NAME, world.cast())]);
    if let (Some(log), Some(mutant)) = (&mut world.log, mutant) {
        log.push(format!("# planted: {mutant:?}"));
    }
    if let Some(log) = &mut world.log {
        log.push(format!("cast {:x}", schedule.cast));
    }
    let end = panic_of(|| world.run(&schedule.ops)).unwrap_or("all is well".to_owned());
    let mut text = world.log.take().unwrap_or_default();
    text.push(format!("# {}", end.replace('\n', "\n# ")));
    text.join("\n")
}

/// The story of what is left of a schedule that fails.
fn short_story<S: Subject>(schedule: &Schedule, mutant: Option<Mutant>) -> (usize, String) {
    let shrunk = schedule.clone().shrunk(|schedule| failure::<S>(schedule, mutant).is_some());
    (shrunk.ops.len(), story::<S>(&shrunk, mutant))
}

/// The first failing seed below `count`, with both cores at work.
fn first_failure<S: Subject>(count: u64, mutant: Option<Mutant>) -> Option<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let run = || {
        while !found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            if let Some(text) = failure::<S>(&Schedule::drawn(seed), mutant) {
                found.store(true, Ordering::Relaxed);
                return Some((seed, text));
            }
        }
        None
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers.into_iter().filter_map(|worker| worker.join().expect("caught inside")).min()
    })
}

thread_local! {
    /// Whether a panic of this thread is what is looked for.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Failures are reported by the tests, once; not by each panic as well.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                usual(info);
            }
        }));
    });
}

/// What it panics with, if it does.
fn panic_of(run: impl FnOnce()) -> Option<String> {
    quiet_panics();
    EXPECTED.set(true);
    let end = catch_unwind(AssertUnwindSafe(run));
    EXPECTED.set(false);
    end.err().map(|panic| match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "panic".to_owned(),
    })
}

fn all_schedules_end_well<S: Subject>() {
    let kind = S::NAME;
    if let Some(seed) = from_environment("SIM_SEED") {
        if std::env::var("SIM_KIND").map_or(kind == Pg::NAME, |wanted| wanted == kind) {
            let story = story::<S>(&Schedule::drawn(seed), None);
            assert!(story.ends_with("all is well"), "{story}");
            println!("{story}");
        }
        return;
    }
    let all = from_environment("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let start = std::time::Instant::now();
    if let Some((seed, text)) = first_failure::<S>(all * S::PERCENT / 100, None) {
        let (_, story) = short_story::<S>(&Schedule::drawn(seed), None);
        panic!("{kind}, seed {seed}: {text}\n\n# kind {kind}\n{story}");
    }
    println!("{kind}: {} schedules in {:.1?}", all * S::PERCENT / 100, start.elapsed());
}

#[test]
fn all_schedules_of_pg_end_with_equal_views() {
    all_schedules_end_well::<Pg>();
}

#[test]
fn all_schedules_of_kv_end_with_equal_views() {
    all_schedules_end_well::<Kv>();
}

#[test]
fn all_schedules_of_two_versions_end_with_equal_views() {
    all_schedules_end_well::<TwoVersions>();
}

/// Has a schedule happen that stands in a text, with its kind in the first line.
fn replay(name: &str, text: &str) -> String {
    let kind = text.lines().next().and_then(|line| line.strip_prefix("# kind "));
    let kind = kind.unwrap_or_else(|| panic!("{name} begins with `# kind KIND`"));
    let schedule = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    match kind.trim() {
        kind if kind == Pg::NAME => story::<Pg>(&schedule, None),
        kind if kind == Kv::NAME => story::<Kv>(&schedule, None),
        kind if kind == TwoVersions::NAME => story::<TwoVersions>(&schedule, None),
        kind => panic!("{name}: nobody knows the kind {kind}"),
    }
}

#[test]
fn replays_of_what_once_failed_end_well() {
    let read = |path: &Path| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
    if let Some(path) = std::env::var_os("SIM_REPLAY") {
        let (name, text) = read(Path::new(&path));
        let story = replay(&name, &text);
        assert!(story.ends_with("all is well"), "{story}");
        println!("{story}");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/sim/schedules");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let (name, text) = read(&file.unwrap().path());
        let story = replay(&name, &text);
        assert!(story.ends_with("all is well"), "{name}\n{story}");
        count += 1;
    }
    assert!(count > 0, "nothing to replay");
}

fn is_repeatable<S: Subject>() {
    const SEEDS: u64 = 10_000;
    let hash = |seed| {
        let Schedule { cast, ops } = Schedule::drawn(seed);
        let mut world = World::<S>::new(cast, None);
        world.hash = Some(FxHasher::default());
        world.run(&ops);
        world.hash.map(|hash| hash.finish())
    };
    let mut different = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let first = hash(seed);
        assert_eq!(first, hash(seed), "{} {seed}", S::NAME);
        different.insert(first);
    }
    // A few clusters have hardly anything happen in them.
    assert!(different.len() as u64 > SEEDS / 100 * 99, "{} of {SEEDS}", different.len());
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    is_repeatable::<Pg>();
    is_repeatable::<Kv>();
    is_repeatable::<TwoVersions>();
}

fn leads_to_everything<S: Subject>() -> Vec<Met> {
    let mut missing = Met::ALL.to_vec();
    for seed in 0..2_000 {
        let Schedule { cast, ops } = Schedule::drawn(seed);
        let mut world = World::<S>::new(cast, None);
        world.run(&ops);
        missing.retain(|what| !world.has_met(*what));
    }
    missing
}

#[test]
fn schedules_lead_to_every_fault_there_is() {
    assert_eq!(leads_to_everything::<Pg>(), []);
    assert_eq!(leads_to_everything::<Kv>(), []);
    assert_eq!(leads_to_everything::<TwoVersions>(), []);
}

fn finds_planted_defects<S: Subject>() {
    for mutant in S::MUTANTS {
        let found = first_failure::<S>(SCHEDULES, Some(*mutant));
        let kind = S::NAME;
        let (seed, text) = found.unwrap_or_else(|| panic!("{kind}: {mutant:?} isn't found"));
        let (ops, story) = short_story::<S>(&Schedule::drawn(seed), Some(*mutant));
        println!(
            "{kind}: {mutant:?}: seed {seed}, {ops} operations: {}",
            text.lines().next().unwrap_or_default()
        );
        assert!(ops <= 30, "{kind}: {mutant:?} is still {ops} operations long\n{story}");
    }
}

#[test]
fn defects_planted_in_pg_are_found_and_told_in_few_words() {
    finds_planted_defects::<Pg>();
}

#[test]
fn defects_planted_in_kv_are_found_and_told_in_few_words() {
    finds_planted_defects::<Kv>();
}

#[test]
fn defects_planted_in_two_versions_are_found_and_told_in_few_words() {
    finds_planted_defects::<TwoVersions>();
}

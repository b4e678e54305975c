//! Seeded simulation: clusters of two to five nodes, engines among models of their peers on the
//! BEAM, under faults of every kind; checked against what must hold after each step and at rest.
//!
//! What they run is one of three publishers: `pg`, `kv`, and `names`, which has two formats.
//!
//! A failure prints its kind and seed. `SIM_KIND=pg SIM_SEED=n cargo test --test sim` runs that one
//! and prints what happened, `SIM_SCHEDULES=n` says how many seeds of each kind are run.

#![expect(clippy::print_stdout, reason = "a replay is for a person to read")]

mod behaviour;
mod kv;
mod names;
mod pg;
#[path = "../publishers/mod.rs"]
mod publishers;
mod random;
mod subject;
mod world;

use std::hash::Hasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustc_hash::FxHasher;

use self::kv::Kv;
use self::names::TwoVersions;
use self::pg::Pg;
use self::subject::Subject;
use self::world::{Mutant, World};

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What went wrong with this seed, if anything.
fn failure<S: Subject>(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let run = || World::<S>::new(seed, mutant).run();
    catch_unwind(AssertUnwindSafe(run)).err().map(|panic| message_of(&*panic))
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "panic".to_owned(),
    }
}

/// Runs one seed and tells what happens.
fn replay<S: Subject>(seed: u64) -> String {
    let mut world = World::<S>::new(seed, None);
    world.log = Some(Vec::new());
    let cast = world.cast();
    let end = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut text = vec![format!("{} {seed}: {cast}", S::NAME)];
    text.extend(world.log.take().unwrap_or_default());
    text.push(end.err().map_or("all is well".to_owned(), |panic| message_of(&*panic)));
    text.join("\n")
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
            if let Some(text) = failure::<S>(seed, mutant) {
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

/// Failures are reported by the tests, with their seed; not by each thread as well.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some() {
                usual(info);
            }
        }));
    });
}

fn all_schedules_end_well<S: Subject>() {
    let kind = S::NAME;
    if let Some(seed) = from_environment("SIM_SEED") {
        if std::env::var("SIM_KIND").map_or(kind == Pg::NAME, |wanted| wanted == kind) {
            let story = replay::<S>(seed);
            assert!(story.ends_with("all is well"), "{story}");
            println!("{story}");
        }
        return;
    }
    quiet_panics();
    let count = from_environment("SIM_SCHEDULES").unwrap_or(S::SCHEDULES);
    if let Some((seed, text)) = first_failure::<S>(count, None) {
        panic!(
            "{kind} {seed}: {text}\nreplay: SIM_KIND={kind} SIM_SEED={seed} cargo test --test sim"
        );
    }
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

fn is_repeatable<S: Subject>() {
    let hash = |seed| {
        let mut world = World::<S>::new(seed, None);
        world.hash = Some(FxHasher::default());
        world.run();
        world.hash.map(|hash| hash.finish())
    };
    let mut different = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let first = hash(seed);
        assert_eq!(first, hash(seed), "{} {seed}", S::NAME);
        different.insert(first);
    }
    assert_eq!(different.len(), 300);
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    is_repeatable::<Pg>();
    is_repeatable::<Kv>();
    is_repeatable::<TwoVersions>();
}

fn finds_planted_defects<S: Subject>() {
    quiet_panics();
    for mutant in S::MUTANTS {
        let found = first_failure::<S>(S::SCHEDULES, Some(*mutant));
        let kind = S::NAME;
        let (seed, text) = found.unwrap_or_else(|| panic!("{kind}: {mutant:?} isn't found"));
        println!("{kind}: {mutant:?}: seed {seed}: {}", text.lines().next().unwrap_or_default());
    }
}

#[test]
fn defects_planted_in_pg_are_found() {
    finds_planted_defects::<Pg>();
}

#[test]
fn defects_planted_in_kv_are_found() {
    finds_planted_defects::<Kv>();
}

#[test]
fn defects_planted_in_two_versions_are_found() {
    finds_planted_defects::<TwoVersions>();
}

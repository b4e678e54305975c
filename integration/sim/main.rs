//! Seeded simulation: clusters of two to five nodes, engines among models of OTP's `pg`, under
//! faults of every kind; checked against what must hold after each step and at rest.
//!
//! A failure prints its seed. `SIM_SEED=n cargo test --test sim` runs that one and prints what
//! happened, `SIM_SCHEDULES=n` says how many seeds are run (default 100,000).

#![expect(clippy::print_stdout, reason = "a replay is for a person to read")]

mod beam;
mod random;
mod world;

use std::hash::Hasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustc_hash::FxHasher;
use world::{Mutant, World};

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What went wrong with this seed, if anything.
fn failure(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let run = || World::new(seed, mutant).run();
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
fn replay(seed: u64) -> String {
    let mut world = World::new(seed, None);
    world.log = Some(Vec::new());
    let cast = world.cast();
    let end = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut text = vec![format!("seed {seed}: {cast}")];
    text.extend(world.log.take().unwrap_or_default());
    text.push(end.err().map_or("all is well".to_owned(), |panic| message_of(&*panic)));
    text.join("\n")
}

/// The first failing seed below `count`, with both cores at work.
fn first_failure(count: u64, mutant: Option<Mutant>) -> Option<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let run = || {
        while !found.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            if let Some(text) = failure(seed, mutant) {
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

#[test]
fn all_schedules_end_with_equal_views() {
    if let Some(seed) = from_environment("SIM_SEED") {
        let story = replay(seed);
        assert!(story.ends_with("all is well"), "{story}");
        println!("{story}");
        return;
    }
    quiet_panics();
    let count = from_environment("SIM_SCHEDULES").unwrap_or(100_000);
    if let Some((seed, text)) = first_failure(count, None) {
        panic!("seed {seed}: {text}\nreplay: SIM_SEED={seed} cargo test --test sim");
    }
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    let hash = |seed| {
        let mut world = World::new(seed, None);
        world.hash = Some(FxHasher::default());
        world.run();
        world.hash.map(|hash| hash.finish())
    };
    let mut different = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let first = hash(seed);
        assert_eq!(first, hash(seed), "seed {seed}");
        different.insert(first);
    }
    assert_eq!(different.len(), 300);
}

#[test]
fn planted_defects_are_found() {
    quiet_panics();
    for mutant in Mutant::ALL {
        let found = first_failure(200_000, Some(mutant));
        let (seed, text) = found.unwrap_or_else(|| panic!("{mutant:?} isn't found"));
        println!("{mutant:?}: seed {seed}: {}", text.lines().next().unwrap_or_default());
    }
}

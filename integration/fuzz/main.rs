//! The fuzz targets of `fuzz/targets` on any toolchain: each is given its corpus, then inputs made out
//! of it for a few seconds, and must neither panic nor take more memory or time than a stranger may.
//!
//! Input number n of a target is the same everywhere, given the same corpus. What fails is printed with
//! the command that runs it again:
//!
//! ```text
//! FUZZ_TARGET=term FUZZ_NUMBER=4711 cargo test --test fuzz
//! FUZZ_TARGET=term FUZZ_INPUT=8344 cargo test --test fuzz          an input in hexadecimal
//! FUZZ_TARGET=term FUZZ_INPUT=@path cargo test --test fuzz         or in a file
//! FUZZ_TARGET=term FUZZ_FROM=1000000 FUZZ_SECONDS=600 cargo test --test fuzz
//! ```
//!
//! An input that kills the process (a stack overflow, say) can't be printed; with `FUZZ_KEEP=path` each
//! one is written there before it runs. Long runs that look for new ways through the code are the matter
//! of `scripts/fuzz`.

mod corpus;
mod mutate;
#[path = "../sim/random.rs"]
mod random;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

use crate::corpus::Corpus;
use crate::mutate::Mutator;
use crate::targets::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory and time are those of one target, so only one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// For each target, besides its corpus.
const SECONDS: u64 = 4;

#[expect(clippy::print_stderr, reason = "how much was run is worth knowing")]
fn fuzz(name: &str) {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("FUZZ_TARGET").is_some_and(|only| only != name) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = targets::by_name(name).expect("one of the targets");
    let number = |name: &str| {
        variable(name).map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text}")))
    };
    if let Some(input) = variable("FUZZ_INPUT") {
        return run(target, &corpus::given(&input), "the input given");
    }

    let corpus = Corpus::read(name);
    let mutator = Mutator::new(&corpus);
    if let Some(number) = number("FUZZ_NUMBER") {
        return run(target, &mutator.input(number), &format!("FUZZ_NUMBER={number}"));
    }
    for (file, input) in &corpus.files {
        run(target, input, &format!("FUZZ_INPUT=@{}", file.display()));
    }
    let time = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let (start, first) = (Instant::now(), number("FUZZ_FROM").unwrap_or(0));
    let mut next = first;
    while start.elapsed() < time {
        run(target, &mutator.input(next), &format!("FUZZ_NUMBER={next}"));
        next += 1;
    }
    let (files, made) = (corpus.files.len(), next - first);
    let rate = u128::from(made) * 1000 / start.elapsed().as_millis().max(1);
    eprintln!("{name}: {files} files of its corpus, {made} inputs made of it, {rate} a second");
}

#[track_caller]
fn run(target: &Target, input: &[u8], which: &str) {
    if let Ok(path) = std::env::var("FUZZ_KEEP") {
        std::fs::write(path, input).expect("a file to keep the input in");
    }
    if let Err(wrong) = target.check(input, MEMORY) {
        let name = target.name;
        let mut hex = String::new();
        for byte in input {
            let _ = write!(hex, "{byte:02x}");
        }
        panic!(
            "{name}: {wrong}\n{} bytes: {hex}\nagain: FUZZ_TARGET={name} {which} \
             cargo test --test fuzz\nor:    FUZZ_TARGET={name} FUZZ_INPUT={hex} \
             cargo test --test fuzz",
            input.len()
        );
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn no_target_is_left_out() {
            let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! {
    term round_trip deframer signal fragments handshake_server handshake_client
    epmd_server epmd_client engine text
}

#[test]
fn what_is_wrong_is_found() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = |run| targets::target("", run);
    assert_eq!(target(|_| ()).check(b"", MEMORY), Ok(()));
    assert!(target(|_| panic!("so")).check(b"", MEMORY).is_err_and(|wrong| wrong == "so"));
    let greedy = target(|_| drop(Vec::<u8>::with_capacity(2 << 20)));
    assert!(greedy.check(b"", MEMORY).is_err_and(|wrong| wrong.contains("memory")));
}

#[test]
fn the_same_number_is_the_same_input() {
    let corpus = Corpus::read("term");
    let inputs = || (0..500).map(|number| Mutator::new(&corpus).input(number)).collect::<Vec<_>>();
    assert_eq!(inputs(), inputs());
}

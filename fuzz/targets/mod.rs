//! The fuzz targets: plain functions that take bytes a stranger could send and panic if a law breaks.
//!
//! Shared by the test `integration/fuzz`, which runs them on any toolchain, and by `fuzz/main.rs`,
//! which hands them to libFuzzer. Every byte sequence is an input of every target; what reads as a
//! script (messages, splits) goes on with zeros or ends when its bytes do.

mod deframer;
mod engine;
mod epmd_client;
mod epmd_server;
mod fragments;
mod handshake_client;
mod handshake_server;
mod peer;
mod round_trip;
mod script;
mod signal;
mod term;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

/// One target.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Bytes of memory it may hold for each byte of input, above [`SLACK`].
    per_byte: usize,
}

pub(crate) const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, per_byte: 64 }
}

pub(crate) const ALL: [Target; 11] = [
    target("term", term::run),
    // Holds a term four times, and once as `eetf` has it, 56 bytes for the smallest.
    Target { per_byte: 400, ..target("round_trip", round_trip::run) },
    target("deframer", deframer::run),
    target("signal", signal::run),
    target("fragments", fragments::run),
    target("handshake_server", handshake_server::run),
    target("handshake_client", handshake_client::run),
    target("epmd_server", epmd_server::run),
    target("epmd_client", epmd_client::run),
    target("engine", engine::run),
    target("text", text::run),
];

pub(crate) fn by_name(name: &str) -> Option<&'static Target> {
    static TARGETS: [Target; 11] = ALL;
    TARGETS.iter().find(|target| target.name == name)
}

/// Memory that is no question of the input's size.
const SLACK: usize = 1 << 20;

/// Longest time for an input; it's microseconds for most.
const LONGEST: Duration = Duration::from_secs(1);

impl Target {
    /// Runs one input and says what is wrong: a panic, too much memory, too much time. `memory` must
    /// be the global allocator, and nothing else may run meanwhile.
    pub(crate) fn check(&self, input: &[u8], memory: PeakAlloc) -> Result<(), String> {
        // On a busy machine a pause can come at any place, but hardly thrice at the same one.
        let mut fastest = Duration::MAX;
        for _ in 0..3 {
            memory.reset_peak_usage();
            let before = memory.current_usage();
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(input)));
            fastest = fastest.min(start.elapsed());
            outcome.map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
            })?;
            let peak = memory.peak_usage().saturating_sub(before);
            let most = self.per_byte * (input.len() + inflated(input) / 8 * 9) + SLACK;
            if peak > most {
                return Err(format!("{peak} bytes of memory, where {most} are allowed"));
            }
            if fastest <= LONGEST {
                return Ok(());
            }
        }
        Err(format!("it took {fastest:?}"))
    }
}

/// Most bytes that compressed terms in it can inflate to, by what they claim and what zlib can do.
fn inflated(input: &[u8]) -> usize {
    let starts = input.windows(6).enumerate().filter(|(_, bytes)| bytes[..2] == [131, 80]);
    let claims = starts.map(|(at, bytes)| {
        let claim = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
        claim.min(1032 * (input.len() - at))
    });
    claims.sum()
}

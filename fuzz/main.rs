//! The targets of `targets/` for libFuzzer; `FUZZ_TARGET` says which. Started by `scripts/fuzz`.

#![no_main]

mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

use crate::targets::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    targets::by_name(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is no target"))
});

fuzz_target!(|input: &[u8]| {
    if let Err(wrong) = TARGET.check(input, MEMORY) {
        panic!("{}: {wrong}", TARGET.name);
    }
});

//! The machine's clock, which processes compare moments by.

use std::time::SystemTime;

/// Nanoseconds since 1970, as `dp_bench:clock/0`.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as i64)
}

//! Log lines that a peer can cause: one a minute for each source and cause, and how many there were.
//!
//! Logs are memory too, and whoever can open a socket could fill them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

/// Sources remembered; with more of them at once the oldest counts as new again.
const MOST_SOURCES: usize = 1024;

/// Remembers what was said lately.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<BTreeMap<String, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

impl Quiet {
    /// Logs a warning, unless the same source has caused one of the same kind less than a minute
    /// ago. What a stranger may choose belongs into the text, not into the kind.
    pub(crate) fn warn(&self, source: &str, kind: &str, text: &str) {
        if let Some(more) = self.allows(source, kind) {
            log::warn!("{source}: {text}{more}");
        }
    }

    /// Whether a line may be logged, as by [`warn`](Self::warn); with what is to stand at its end.
    pub(crate) fn allows(&self, source: &str, kind: &str) -> Option<String> {
        self.count(source, kind, Instant::now()).map(|suppressed| match suppressed {
            0 => String::new(),
            n => format!(" ({n} more of this kind since the last line)"),
        })
    }

    /// How many lines were suppressed before this one; `None` to suppress it as well.
    fn count(&self, source: &str, kind: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().expect("no panic under this lock");
        let key = format!("{source}: {kind}");
        if let Some(before) = said.get_mut(&key) {
            if now < before.at + PAUSE {
                before.suppressed += 1;
                return None;
            }
            before.at = now;
            return Some(std::mem::take(&mut before.suppressed));
        }
        if said.len() >= MOST_SOURCES {
            let oldest = said.iter().min_by_key(|(_, said)| said.at).map(|(key, _)| key.clone());
            oldest.and_then(|key| said.remove(&key));
        }
        said.insert(key, Said { at: now, suppressed: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_heard_once_a_minute_for_each_cause() {
        let quiet = Quiet::default();
        let start = Instant::now();
        assert_eq!(quiet.count("10.0.0.1", "wrong cookie", start), Some(0));
        assert_eq!(quiet.count("10.0.0.1", "wrong cookie", start), None);
        assert_eq!(quiet.count("10.0.0.1", "no name", start), Some(0));
        assert_eq!(quiet.count("10.0.0.2", "wrong cookie", start), Some(0));
        assert_eq!(quiet.count("10.0.0.1", "wrong cookie", start + PAUSE), Some(1));
    }

    #[test]
    fn many_sources_cost_bounded_memory() {
        let quiet = Quiet::default();
        let start = Instant::now();
        for i in 0..5000 {
            quiet.count(&i.to_string(), "x", start + Duration::from_millis(i));
        }
        assert_eq!(quiet.0.lock().unwrap().len(), MOST_SOURCES);
    }
}

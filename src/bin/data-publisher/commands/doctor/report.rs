//! Steps, as they are told: for people a line each with the cure below it, with `--json` an object each.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::output::{self, Format};

/// What a step came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Ok,
    Failed,
    Skipped,
}

/// Tells each step when it's done.
pub(super) struct Report {
    format: Format,
    has_failed: bool,
}

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) seen: String,
    pub(super) cure: String,
}

impl Trouble {
    pub(super) fn new(seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { seen: seen.into(), cure: cure.into() }
    }
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Self { format, has_failed: false }
    }

    /// Whether any step has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// A step that began then; what it found, if it didn't fail.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        began: Instant,
        result: Result<(T, String), Trouble>,
    ) -> std::io::Result<Option<T>> {
        let took = Some(began.elapsed());
        match result {
            Ok((found, seen)) => {
                self.tell(name, Outcome::Ok, took, &seen, "")?;
                Ok(Some(found))
            }
            Err(Trouble { seen, cure }) => {
                self.tell(name, Outcome::Failed, took, &seen, &cure)?;
                Ok(None)
            }
        }
    }

    /// A step that can't be taken, or needn't.
    pub(super) fn skipped(&mut self, name: &str, why: &str) -> std::io::Result<()> {
        self.tell(name, Outcome::Skipped, None, why, "")
    }

    fn tell(
        &mut self,
        name: &str,
        outcome: Outcome,
        took: Option<Duration>,
        seen: &str,
        cure: &str,
    ) -> std::io::Result<()> {
        self.has_failed |= outcome == Outcome::Failed;
        let millis = took.map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0);
        let word = match outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        };
        if self.format == Format::Json {
            let mut line = json!({"step": name, "result": word, "ms": millis, "seen": seen});
            if !cure.is_empty() {
                line["cure"] = cure.into();
            }
            return output::say(&line.to_string());
        }
        let took = millis.map_or(String::new(), |millis| format!(" ({millis} ms)"));
        let word = if outcome == Outcome::Failed { "FAILED" } else { word };
        output::say(&format!("{word:<8} {name:<10} {seen}{took}"))?;
        if !cure.is_empty() {
            output::say(&format!("{:<19} -> {cure}", ""))?;
        }
        Ok(())
    }
}

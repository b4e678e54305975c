//! What a node writes to its standard output and error, and the crash reports in it.

use std::{
    io::{PipeReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::secret::search;

/// All that a node ever wrote, over all its starts.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Shared>);

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Pipes not yet at their end.
    open: usize,
}

/// How waiting for output ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waited {
    Seen,
    /// All pipes ended: no more will come.
    Ended,
    Late,
}

impl Output {
    /// Adds all that comes out of the pipe; the thread that does it ends with the pipe.
    pub(super) fn collect(&self, who: &str, mut pipe: PipeReader) {
        self.lock().open += 1;
        let (output, who) = (self.clone(), who.to_owned());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // An error can't be told from the end: whoever had the other side is gone.
            while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                let mut buffer = output.lock();
                buffer.bytes.extend_from_slice(&chunk[..count]);
                search(&who, &buffer.bytes, count);
                drop(buffer);
                output.0.changed.notify_all();
            }
            output.lock().open -= 1;
            output.0.changed.notify_all();
        });
    }

    /// Adds a line that isn't the node's.
    pub(super) fn note(&self, line: &str) {
        self.lock().bytes.extend_from_slice(format!("\n{line}\n").as_bytes());
    }

    /// Blocks until a line is there, or no more will come.
    pub(super) fn wait_for_line(&self, line: &str, deadline: Duration) -> Waited {
        self.wait_for(deadline, |text| text.lines().any(|seen| seen.trim_end() == line))
    }

    /// Blocks until no more will come.
    pub(super) fn wait_for_end(&self, deadline: Duration) -> Waited {
        self.wait_for(deadline, |_| false)
    }

    fn wait_for(&self, deadline: Duration, is_there: impl Fn(&str) -> bool) -> Waited {
        let end = Instant::now() + deadline;
        let mut buffer = self.lock();
        loop {
            if is_there(&String::from_utf8_lossy(&buffer.bytes)) {
                return Waited::Seen;
            }
            if buffer.open == 0 {
                return Waited::Ended;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Waited::Late;
            }
            let waited = self.0.changed.wait_timeout(buffer, left);
            buffer = waited.expect("nothing panics while it holds the lock").0;
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.0.buffer.lock().expect("nothing panics while it holds the lock")
    }
}

/// What is in a report of a process that crashed, of one that made it crash, or of a node that did.
///
/// Not among them: refused connections, lost nodes, overlapping partitions. They're what tests are about.
const SIGNS: [&str; 15] = [
    "CRASH REPORT",
    "SUPERVISOR REPORT",
    "Generic server ",
    "State machine ",
    "gen_event handler ",
    "Error in process ",
    "error in process ",
    "Kernel pid terminated",
    "Runtime terminating",
    "init terminating",
    "Crash dump ",
    "got an invalid distribution message",
    "got a corrupted external term",
    "Segmentation fault",
    ENDED_BY_ITSELF,
];

/// Noted of a node that ended although nobody killed it, whatever it said.
pub(super) const ENDED_BY_ITSELF: &str = "the node ended by itself";

/// The crashes in a node's output, each with all that was reported of it.
pub(super) fn crashes(output: &str) -> Vec<String> {
    let mut reports = vec![String::new()];
    for line in output.lines() {
        // `=ERROR REPORT==== 1-Apr-2026::12:00:00.000000 ===`
        if line.starts_with('=') && line.contains(" REPORT==== ") {
            reports.push(String::new());
        }
        let report = reports.last_mut().expect("there was one from the start");
        report.push_str(line);
        report.push('\n');
    }
    reports.retain(|report| SIGNS.iter().any(|sign| report.contains(sign)));

    let mut crashes = Vec::<String>::new();
    for report in reports {
        let same = crashed_server(&report)
            .and_then(|head| crashes.iter_mut().rfind(|crash| crash.contains(&head)));
        match same {
            Some(crash) => crash.push_str(&report),
            None => crashes.push(report),
        }
    }
    crashes
}

/// For the report of a process that was a server: what the server's own report, just before, says of it.
///
/// Only the two together say all: one has the state and the last message, the other one the ancestors.
fn crashed_server(report: &str) -> Option<String> {
    let field = |name| report.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let server = match field("registered_name: ")? {
        "[]" => field("pid: ")?,
        name => name,
    };
    Some(format!("Generic server {server} terminating"))
}

#[cfg(test)]
mod tests {
    use super::crashes;

    #[test]
    fn a_report_ends_where_the_next_one_starts() {
        let output = "\
hello
=ERROR REPORT==== 1-Apr-2026::12:00:00.000000 ===
** Generic server s terminating

=NOTICE REPORT==== 1-Apr-2026::12:00:00.000001 ===
fine
=CRASH REPORT==== 1-Apr-2026::12:00:00.000002 ===
  crasher:
";
        let found = crashes(output);
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("** Generic server s terminating\n\n"), "{}", found[0]);
        assert!(found[1].ends_with("  crasher:\n"), "{}", found[1]);
    }

    #[test]
    fn the_two_reports_of_a_server_are_one_crash() {
        let output = "\
=ERROR REPORT==== 1-Apr-2026::12:00:00.000000 ===
** Generic server s terminating
** Last message in was boom
=ERROR REPORT==== 1-Apr-2026::12:00:00.000000 ===
** Generic server <0.9.0> terminating
=CRASH REPORT==== 1-Apr-2026::12:00:00.000000 ===
  crasher:
    pid: <0.8.0>
    registered_name: s
=CRASH REPORT==== 1-Apr-2026::12:00:00.000000 ===
  crasher:
    pid: <0.9.0>
    registered_name: []
=CRASH REPORT==== 1-Apr-2026::12:00:00.000000 ===
  crasher:
    pid: <0.7.0>
    registered_name: []
";
        let found = crashes(output);
        assert_eq!(found.len(), 3);
        assert!(found[0].contains("boom") && found[0].contains("<0.8.0>"), "{}", found[0]);
        assert!(found[1].contains("    pid: <0.9.0>"), "{}", found[1]);
    }

    #[test]
    fn a_lost_node_is_no_crash() {
        let output = "\
=ERROR REPORT==== 1-Apr-2026::12:00:00.000000 ===
** Node b@127.0.0.1 not responding **
** Removing (timedout) connection **
";
        assert!(crashes(output).is_empty());
    }
}

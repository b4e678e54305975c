//! The cookie of this run: a secret that nothing and nobody may say.
//!
//! All that a node, a program or the library's log says while the tests run is searched for it, and where it's
//! found the run ends at once: an error of one test could be lost, as one in a task is. What the tests themselves
//! print is searched by `scripts/integration`, which chooses the cookie for that.

use std::io::Write;
use std::sync::{LazyLock, Mutex, Once};

/// What the cookie is called in the environment.
pub(crate) const VARIABLE: &str = "DATA_PUBLISHER_TEST_COOKIE";

/// The cookie of all nodes that aren't said to have another. It begins with a letter: an atom without quotes.
pub(crate) fn cookie() -> &'static str {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Log).expect("nobody else wants to hear");
        log::set_max_level(log::LevelFilter::Trace);
    });
    unheard_cookie()
}

/// The same without a look at the library's log, which takes time: for what is measured.
pub(crate) fn unheard_cookie() -> &'static str {
    static COOKIE: LazyLock<String> = LazyLock::new(|| {
        let random = || format!("c{:032x}", rand::random::<u128>());
        std::env::var(VARIABLE).unwrap_or_else(|_| random())
    });
    &COOKIE
}

/// Ends the run if somebody said the cookie. `new` bytes of what is said are here for the first time.
pub(crate) fn search(who: &str, said: &[u8], new: usize) {
    let cookie = unheard_cookie().as_bytes();
    let from = said.len().saturating_sub(new + cookie.len());
    if said[from..].windows(cookie.len()).any(|part| part == cookie) {
        // Not by a macro: libtest would keep it for the end of the test.
        let _ = writeln!(std::io::stderr(), "\nthe cookie was said by {who}");
        std::process::exit(1);
    }
}

/// The warnings and errors so far that have this text.
pub(crate) fn warnings(text: &str) -> Vec<String> {
    let all = WARNINGS.lock().expect("nothing panics while it holds the lock");
    all.iter().filter(|line| line.contains(text)).cloned().collect()
}

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the library says, at every level.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let said = record.args().to_string();
        search(&format!("the log, {}", record.target()), said.as_bytes(), said.len());
        if record.level() <= log::Level::Warn {
            WARNINGS.lock().expect("nothing panics while it holds the lock").push(said);
        }
    }

    fn flush(&self) {}
}

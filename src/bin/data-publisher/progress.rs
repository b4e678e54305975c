//! The line at the bottom of a terminal that shows how far a large message is. Whatever else is written takes it away
//! first; it comes back by itself.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use data_publisher::node::{Direction, Transfer};

/// How much of it can be seen at least, whatever the terminal is.
const WIDTH: usize = 79;

/// Whether the line stands there.
static SHOWN: Mutex<bool> = Mutex::new(false);

/// Whether there's somebody to see it.
pub(crate) fn is_possible() -> bool {
    std::io::stderr().is_terminal() && !crate::logging::is_json()
}

/// Shows how far these are; nothing when there are none.
pub(crate) fn show(transfers: &[Transfer]) {
    match text(transfers) {
        Some(text) => {
            let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
            let mut out = std::io::stderr().lock();
            *shown = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()).is_ok();
        }
        None => erase(),
    }
}

/// Takes the line away, for something else to be written.
pub(crate) fn erase() {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::take(&mut *shown) {
        let mut out = std::io::stderr().lock();
        let _ = out.write_all(b"\r\x1b[K").and_then(|()| out.flush());
    }
}

fn text(transfers: &[Transfer]) -> Option<String> {
    let first =
        transfers.iter().max_by_key(|transfer| transfer.all - transfer.done.min(transfer.all))?;
    let verb = match first.direction {
        Direction::Sending => "sending to",
        Direction::Receiving => "receiving from",
    };
    let percent = first.done.min(first.all) * 100 / first.all.max(1);
    let (done, all) = (mib(first.done), mib(first.all));
    let others = match transfers.len() - 1 {
        0 => String::new(),
        others => format!(", and {others} more"),
    };
    let text =
        format!("{percent:3} % of {all:.1} MiB, {done:.1} so far, {verb} {}{others}", first.node);
    Some(text.chars().take(WIDTH).collect())
}

#[expect(clippy::cast_precision_loss, reason = "to be read by people")]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

//! How far a large message is, in either direction: for who asks, and for the log.
//!
//! Small messages come and go by the thousand and aren't followed. A large one is mostly a snapshot, the first that
//! two peers say to each other, and somebody may be waiting for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Connection;
use crate::term::NodeName;

/// The pause between the first two lines about one transfer; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A large message, or several at once, on its way over a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Transfer {
    /// The node at the other end.
    pub node: NodeName,
    /// Which way it goes.
    pub direction: Direction,
    /// Bytes that have come, or that the socket has taken.
    pub done: usize,
    /// All its bytes. Of a message in fragments that comes an estimate by the first one, up to a fragment too
    /// high.
    pub all: usize,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a connection has no third")]
pub enum Direction {
    /// To the other node.
    Sending,
    /// To us.
    Receiving,
}

/// What is on its way in one direction; all zero when nothing large is.
#[derive(Debug, Default)]
pub(super) struct Underway {
    done: AtomicUsize,
    all: AtomicUsize,
}

impl Underway {
    pub(super) fn get(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed))
    }

    fn set(&self, (done, all): (usize, usize)) {
        self.done.store(done, Ordering::Relaxed);
        self.all.store(all, Ordering::Relaxed);
    }
}

/// Tells, for one direction of a connection, what is on its way: at `info` once a second, ever more rarely, and
/// when it's done.
#[derive(Debug)]
pub(super) struct Report {
    direction: Direction,
    /// From how many bytes on a message is followed.
    large: usize,
    running: Option<Running>,
    /// When something was said last, so that many large messages aren't many lines.
    said: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    next: Instant,
    pause: Duration,
    /// The most there was at once.
    all: usize,
}

impl Report {
    pub(super) fn new(direction: Direction, large: usize) -> Self {
        Self { direction, large, running: None, said: None }
    }

    /// So many bytes are done, of so many.
    pub(super) fn note(&mut self, connection: &Connection, (done, all): (usize, usize)) {
        let goes_on = all > self.large;
        if !goes_on && self.running.is_none() {
            return;
        }
        connection.underway(self.direction).set(if goes_on { (done, all) } else { (0, 0) });
        // At its end nothing is left that could be measured, and all there was is done.
        let most = self.running.as_ref().map_or(all, |running| running.all.max(all));
        let shown = if goes_on { done } else { most };
        if let Some(text) = self.text(Instant::now(), done, all) {
            let peer = connection.peer();
            log::info!(node:% = peer, done = shown, all = most; "{peer}: {text}");
        }
    }

    fn text(&mut self, now: Instant, done: usize, all: usize) -> Option<String> {
        if all > self.large {
            let new = || Running { since: now, next: now + PAUSE, pause: PAUSE, all };
            let running = self.running.get_or_insert_with(new);
            running.all = running.all.max(all);
            if now < running.next {
                return None;
            }
            running.pause = (running.pause * 2).min(LONGEST_PAUSE);
            running.next = now + running.pause;
            self.said = Some(now);
            let verb = match self.direction {
                Direction::Sending => "sending",
                Direction::Receiving => "receiving",
            };
            return Some(format!("{verb}, {} of {} MiB so far", mib(done), mib(all)));
        }
        let running = self.running.take()?;
        if self.said.is_some_and(|said| now < said + PAUSE) && now < running.since + PAUSE {
            return None;
        }
        self.said = Some(now);
        let verb = match self.direction {
            Direction::Sending => "sent",
            Direction::Receiving => "received",
        };
        let took = (now - running.since).as_secs_f64();
        Some(format!("{verb} {} MiB in {took:.1} s", mib(running.all)))
    }
}

/// In MiB, with one digit after the point.
fn mib(bytes: usize) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_long_transfer_is_told_each_second_ever_more_rarely_and_at_its_end() {
        let start = Instant::now();
        let mut report = Report::new(Direction::Receiving, MIB);
        let mut told = Vec::new();
        for tenth in 0..200_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            let (done, all) = (tenth as usize * MIB / 10, 20 * MIB);
            told.extend(report.text(now, done, all).map(|text| (tenth, text)));
        }
        let tenths: Vec<u32> = told.iter().map(|(tenth, _)| *tenth).collect();
        assert_eq!(tenths, [10, 30, 70, 150]);
        assert_eq!(told[0].1, "receiving, 1.0 of 20.0 MiB so far");
        let end = report.text(start + Duration::from_secs(20), 0, 0);
        assert_eq!(end.as_deref(), Some("received 20.0 MiB in 20.0 s"));
        assert!(report.running.is_none());
    }

    #[test]
    fn small_messages_are_not_told_and_of_many_large_ones_a_line_a_second() {
        let start = Instant::now();
        let mut report = Report::new(Direction::Sending, MIB);
        assert_eq!(report.text(start, 10, MIB), None);
        assert!(report.running.is_none());
        let mut lines = 0;
        for hundredth in 0..300_u32 {
            let now = start + Duration::from_millis(10) * hundredth;
            lines += usize::from(report.text(now, 0, 2 * MIB).is_some());
            lines += usize::from(report.text(now, 0, 0).is_some());
        }
        assert_eq!(lines, 3);
    }
}

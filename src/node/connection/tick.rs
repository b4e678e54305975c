//! When to say "I'm alive" on a connection, and when to believe that the peer isn't.
//!
//! Any byte counts as a sign of life, so a connection that writes anyway needs no ticks. But what we
//! write tells us nothing about the peer, and the peer never learns our [`TickTimes`]: each side
//! ticks on its own clock and judges by what it reads. "Answer each tick with a tick" isn't enough,
//! since a BEAM that writes all the time sends none.
//!
//! Sans-IO: the owner of the socket tells what happened and asks [`Ticker::check`] at
//! [`Ticker::next_check`].
//!
//! Source: `dist_util:con_loop/2` and `net_kernel`'s ticker, OTP 25 to 29.

use std::time::{Duration, Instant};

/// The spans of time by which a connection is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_field_names, reason = "each is a time after which something is due")]
pub(crate) struct TickTimes {
    /// Nothing written for so long: a tick is due. Default 15 s.
    pub(crate) tick_after: Duration,
    /// Nothing read for so long: the peer is dead. Default 75 s, the longest a BEAM waits.
    pub(crate) dead_after: Duration,
    /// Bytes are waiting and the socket took none for so long: the peer is stalled. Default 15 s;
    /// that is before a BEAM would give us up, and to start over is cheap.
    pub(crate) stalled_after: Duration,
}

impl TickTimes {
    /// What `net_ticktime` of this length means in OTP: a tick every quarter of it, death after
    /// five quarters.
    pub(crate) fn of_tick_time(tick_time: Duration) -> Self {
        Self {
            tick_after: tick_time / 4,
            dead_after: tick_time * 5 / 4,
            stalled_after: Duration::from_secs(15),
        }
    }
}

/// As for `net_ticktime`'s default, 60 s.
impl Default for TickTimes {
    fn default() -> Self {
        Self::of_tick_time(Duration::from_secs(60))
    }
}

/// What is to be done about a connection now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing until [`Ticker::next_check`].
    Fine,
    /// Write a tick, a length of 0: four zero bytes.
    Tick,
    /// Close: the peer has been silent for [`TickTimes::dead_after`].
    Dead,
    /// Close: the peer's socket has taken no byte for [`TickTimes::stalled_after`].
    Stalled,
}

/// The clock of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    times: TickTimes,
    last_read: Instant,
    last_written: Instant,
    /// With bytes in the queue: since when the socket has taken none of them.
    blocked_since: Option<Instant>,
}

impl Ticker {
    /// The clock of a connection that is up since `now`, with nothing to send yet.
    pub(crate) fn new(times: TickTimes, now: Instant) -> Self {
        Self { times, last_read: now, last_written: now, blocked_since: None }
    }

    /// At least one byte came from the peer: part of a frame will do.
    pub(crate) fn read(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// Bytes wait to be written. To say so again while they wait changes nothing.
    pub(crate) fn queued(&mut self, now: Instant) {
        self.blocked_since.get_or_insert(now);
    }

    /// The socket took at least one byte, and more are waiting.
    pub(crate) fn wrote_some(&mut self, now: Instant) {
        self.last_written = now;
        self.blocked_since = Some(now);
    }

    /// The socket took all bytes; none is waiting.
    pub(crate) fn wrote_all(&mut self, now: Instant) {
        self.last_written = now;
        self.blocked_since = None;
    }

    /// When [`check`](Self::check) may say something other than [`Verdict::Fine`], if nothing
    /// happens until then. Reads and writes only move it later; [`queued`](Self::queued) may move
    /// it either way.
    pub(crate) fn next_check(&self) -> Instant {
        let write_check = match self.blocked_since {
            Some(since) => since + self.times.stalled_after,
            None => self.last_written + self.times.tick_after,
        };
        write_check.min(self.last_read + self.times.dead_after)
    }

    /// What is to be done now. A tick it asks for counts as written.
    pub(crate) fn check(&mut self, now: Instant) -> Verdict {
        if now >= self.last_read + self.times.dead_after {
            return Verdict::Dead;
        }
        if let Some(since) = self.blocked_since {
            // A tick would only join the queue; the bytes in it are signs of life themselves.
            let stalled = now >= since + self.times.stalled_after;
            return if stalled { Verdict::Stalled } else { Verdict::Fine };
        }
        if now >= self.last_written + self.times.tick_after {
            self.last_written = now;
            return Verdict::Tick;
        }
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ticker of the default times and a function from seconds of its life to instants.
    fn ticker() -> (Ticker, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Ticker::new(TickTimes::default(), start), move |s| start + Duration::from_secs(s))
    }

    #[test]
    fn a_tick_time_of_60_s_means_15_and_75() {
        let times = TickTimes::default();
        assert_eq!((times.tick_after.as_secs(), times.dead_after.as_secs()), (15, 75));
        let times = TickTimes::of_tick_time(Duration::from_secs(4));
        assert_eq!((times.tick_after.as_secs(), times.dead_after.as_secs()), (1, 5));
    }

    #[test]
    fn a_tick_is_due_each_quarter_in_which_nothing_was_written() {
        let (mut ticker, at) = ticker();
        assert_eq!(ticker.next_check(), at(15));
        assert_eq!(ticker.check(at(14)), Verdict::Fine);
        assert_eq!(ticker.check(at(15)), Verdict::Tick);
        assert_eq!(ticker.check(at(16)), Verdict::Fine);
        ticker.wrote_all(at(20));
        assert_eq!(ticker.next_check(), at(35));
        assert_eq!(ticker.check(at(34)), Verdict::Fine);
        assert_eq!(ticker.check(at(36)), Verdict::Tick);
    }

    #[test]
    fn reading_does_not_stand_in_for_our_own_tick() {
        let (mut ticker, at) = ticker();
        for second in 0..15 {
            ticker.read(at(second));
        }
        assert_eq!(ticker.check(at(15)), Verdict::Tick);
    }

    #[test]
    fn a_silent_peer_is_dead_after_five_quarters_however_much_we_write() {
        let (mut ticker, at) = ticker();
        ticker.read(at(1));
        for second in 1..76 {
            ticker.wrote_all(at(second));
            assert_eq!(ticker.check(at(second)), Verdict::Fine);
        }
        assert_eq!(ticker.next_check(), at(76));
        assert_eq!(ticker.check(at(76)), Verdict::Dead);
    }

    #[test]
    fn a_peer_that_takes_no_byte_is_stalled_after_15_s_though_it_sends() {
        let (mut ticker, at) = ticker();
        ticker.queued(at(14));
        ticker.read(at(28));
        // 15 s without a write, but only one of them with something to write.
        assert_eq!(ticker.check(at(15)), Verdict::Fine);
        ticker.queued(at(20));
        assert_eq!(ticker.next_check(), at(29));
        assert_eq!(ticker.check(at(28)), Verdict::Fine);
        assert_eq!(ticker.check(at(29)), Verdict::Stalled);
    }

    #[test]
    fn a_slow_peer_that_takes_a_byte_now_and_then_is_not_stalled() {
        let (mut ticker, at) = ticker();
        ticker.queued(at(0));
        for second in (10..100).step_by(10) {
            ticker.wrote_some(at(second));
            ticker.read(at(second));
            assert_eq!(ticker.check(at(second + 9)), Verdict::Fine);
        }
        ticker.wrote_all(at(100));
        assert_eq!(ticker.check(at(114)), Verdict::Fine);
        assert_eq!(ticker.check(at(115)), Verdict::Tick);
    }

    #[test]
    fn death_is_told_before_anything_else() {
        let (mut ticker, at) = ticker();
        ticker.queued(at(0));
        assert_eq!(ticker.check(at(75)), Verdict::Dead);
    }
}

//! The receive half of a connection: socket to router.
//!
//! It waits for nothing but the socket, and in a stream of small frames a moment on purpose: on the BEAM's
//! side a socket nobody reads freezes the whole scope there. What can't be taken closes the connection instead.
//!
//! A peer that sends small frames faster than single reads are worth it is read a thousand times a
//! second, all that has come at once (as a network card under load interrupts less often): most of
//! what an update costs in such a stream would be system calls and the waking of threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::socket::ReadHalf;
use super::transfer::{Direction, Report};
use super::{Connection, DownReason};
use crate::node::router::Router;
use crate::wire::{Deframer, FragmentLimits, Inbound, Incoming};

/// So many signals a millisecond are a stream. One or two a millisecond, with somebody waiting for each, aren't.
const STREAM: u128 = 50;

/// How long the reader of a stream lets it gather: what a BEAM can send in it is a small part of what it may have
/// queued before it waits.
const PAUSE: Duration = Duration::from_millis(1);

/// How fast signals come.
struct Pace {
    since: Instant,
    signals: u64,
    is_stream: bool,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { since: now, signals: 0, is_stream: false }
    }

    /// Whether it's a stream, judged anew about each millisecond.
    fn is_stream(&mut self, signals: u64, now: Instant) -> bool {
        self.signals += signals;
        let passed = now.duration_since(self.since);
        if passed >= PAUSE {
            let due = passed.as_micros() * STREAM / PAUSE.as_micros();
            let is_stream = u128::from(self.signals) >= due;
            *self = Self { is_stream, ..Self::new(now) };
        }
        self.is_stream
    }
}

/// Reads until the connection is closed, by either end.
pub(super) async fn run(router: Arc<Router>, connection: Arc<Connection>, mut socket: ReadHalf) {
    let _both_end = connection.cancel.clone().drop_guard();
    let reason = tokio::select! {
        () = connection.cancel.cancelled() => DownReason::ConnectionClosed,
        reason = read(&router, &connection, &mut socket) => reason,
    };
    router.close(&connection, &reason);
}

async fn read(
    router: &Arc<Router>,
    connection: &Arc<Connection>,
    socket: &mut ReadHalf,
) -> DownReason {
    let limits = router.limits();
    let mut deframer = Deframer::new(limits.message);
    let mut inbound = Inbound::new(
        connection.flags(),
        FragmentLimits {
            sequences: limits.fragmented,
            bytes: limits.fragment_bytes,
            message: limits.message,
        },
    );
    let mut filling = None;
    let mut report = Report::new(Direction::Receiving, limits.soft_mark);
    let mut pace = Pace::new(Instant::now());
    loop {
        let read = match socket.read_buf(deframer.buffer()).await {
            Ok(0) if connection.queue().is_finishing() => return DownReason::Stopped,
            Ok(0) => return DownReason::ConnectionClosed,
            Ok(read) => read,
            Err(error) => {
                log::debug!("{}: reading failed: {error}", connection.peer());
                return DownReason::ConnectionClosed;
            }
        };
        connection.hear();
        let mut signals = 0;
        loop {
            let frame = match deframer.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return bad_frame(&error),
            };
            if frame.is_empty() {
                continue;
            }
            let incoming = inbound.incoming(frame);
            signals += u64::from(matches!(incoming, Ok(Some(_))));
            let handled = match incoming {
                Ok(Some(Incoming::Message(message))) => {
                    router.receive_message(connection, &message, &mut filling)
                }
                Ok(Some(Incoming::Signal(signal, bytes))) => router
                    .deliver_batch(connection, filling.take())
                    .and_then(|()| router.receive(connection, signal, bytes)),
                Ok(None) => Ok(()),
                Err(error) => Err(bad_frame(&error)),
            };
            if let Err(reason) = handled {
                return reason;
            }
            inbound.forget_whole();
            // Closed meanwhile: what is left in the buffer belongs to a connection that is gone.
            if connection.is_closed() {
                return DownReason::ConnectionClosed;
            }
        }
        connection.received.add(read, signals);
        if let Err(reason) = router.deliver_batch(connection, filling.take()) {
            return reason;
        }
        // Of the two one is all there is: fragments are short frames.
        report.note(connection, inbound.unfinished().max(deframer.unfinished()));
        // A full buffer is as much as one read can bring; what TLS has brought may be less than what has come.
        let is_stream = pace.is_stream(signals, Instant::now());
        if is_stream && socket.takes_all() && !deframer.was_filled() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What is wrong, with its cause, in one line.
pub(crate) fn bad_frame(error: &dyn std::error::Error) -> DownReason {
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    DownReason::BadFrame(format!("{error}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it's a stream after so many reads, one each so many microseconds, that bring so many signals each.
    fn is_stream(reads: u32, micros: u64, signals: u64) -> bool {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (1..=reads).fold(false, |_, read| {
            pace.is_stream(signals, start + Duration::from_micros(micros) * read)
        })
    }

    #[test]
    fn fifty_signals_a_millisecond_are_a_stream_in_whatever_pieces_they_come() {
        assert!(is_stream(200, 10, 1));
        assert!(is_stream(4, 2_000, 100));
        assert!(!is_stream(4, 2_000, 99));
        assert!(!is_stream(200, 50, 1));
    }

    #[test]
    fn a_burst_is_no_stream_and_a_stream_that_ends_is_none_any_more() {
        assert!(!is_stream(1, 10, 10_000));
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.is_stream(200, start + 2 * PAUSE));
        assert!(!pace.is_stream(1, start + 4 * PAUSE));
    }
}

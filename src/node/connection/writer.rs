//! Queue to socket, in batches; ticks when there is nothing else to write; the watch over a peer
//! that is silent or takes nothing.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep_until, timeout, timeout_at};

use super::queue::Work;
use super::socket::WriteHalf;
use super::tick::{TickTimes, Ticker, Verdict};
use super::transfer::{Direction, Report};
use super::{Connection, DownReason};
use crate::node::router::Router;

/// A frame of length 0.
const TICK: &[u8] = &[0; 4];

/// How long closing the socket may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Pieces handed to the system in one write.
const PIECES: usize = 64;

/// After so many small writes, each with the next one waiting already, frames are gathered: they come
/// faster than single writes carry them. Who asks and waits for an answer never gets there.
const STREAM: u32 = 16;

/// What a small write takes.
const SMALL: usize = 2048;

/// Writes until the connection is closed. The socket's write side closes when this returns.
pub(super) async fn run(router: Arc<Router>, connection: Arc<Connection>, mut socket: WriteHalf) {
    let limits = router.limits();
    let times = TickTimes {
        tick_after: limits.tick_interval,
        dead_after: limits.tick_time * 5 / 4,
        stalled_after: limits.stall_time,
    };
    let ticker = Ticker::new(times, Instant::now());
    let report = Report::new(Direction::Sending, limits.soft_mark);
    let mut writer =
        Writer { connection: &connection, socket: &mut socket, ticker, stream: 0, report };
    let _both_end = connection.cancel.clone().drop_guard();
    let reason = tokio::select! {
        () = connection.cancel.cancelled() => DownReason::ConnectionClosed,
        reason = writer.run() => reason,
    };
    router.close(&connection, &reason);
    let _ = timeout(LAST_WORDS, socket.shutdown()).await;
}

struct Writer<'a> {
    connection: &'a Connection,
    socket: &'a mut WriteHalf,
    ticker: Ticker,
    /// Small writes in a row that had the next one waiting.
    stream: u32,
    report: Report,
}

impl Writer<'_> {
    async fn run(&mut self) -> DownReason {
        loop {
            // A socket that always takes more must not keep us from seeing that the peer is dead.
            if Instant::now() >= self.ticker.next_check()
                && let Err(reason) = self.check().await
            {
                return reason;
            }
            if self.stream >= STREAM && !self.connection.queue().gather().await {
                self.stream = 0;
            }
            let next_check = self.ticker.next_check().into();
            let result = tokio::select! {
                biased;
                work = self.connection.queue().work() => match work {
                    Work::Write(batch) => self.write_work(batch).await,
                    Work::Failed(reason) => return reason,
                    Work::Finished => return self.part().await,
                },
                () = sleep_until(next_check) => Ok(()),
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }

    async fn write_work(&mut self, batch: Vec<Bytes>) -> Result<(), DownReason> {
        let bytes: usize = batch.iter().map(Bytes::len).sum();
        self.write(batch, true).await?;
        if self.stream < STREAM {
            let next_waits = bytes <= SMALL && self.connection.queue().bytes() > 0;
            self.stream = if next_waits { self.stream + 1 } else { 0 };
        }
        Ok(())
    }

    /// Writes all of it. The queue hears of every step, so that senders who wait for room go on
    /// before a large message is through.
    async fn write(&mut self, batch: Vec<Bytes>, queued: bool) -> Result<(), DownReason> {
        self.ticker.queued(Instant::now());
        let mut left: VecDeque<Bytes> = batch.into();
        while !left.is_empty() {
            let pieces: Vec<_> =
                left.iter().take(PIECES).map(|piece| IoSlice::new(piece)).collect();
            let next_check = self.ticker.next_check().into();
            let written = tokio::select! {
                biased;
                written = timeout_at(next_check, self.socket.write_vectored(&pieces)) => written,
                // Looked at only while the socket takes nothing.
                reason = self.connection.queue().failure() => return Err(reason),
            };
            let written = match written {
                Ok(Ok(written)) if written > 0 => written,
                Ok(_) => return Err(DownReason::ConnectionClosed),
                // Given up, the write has written nothing; it's tried again unless time is up.
                Err(_) => {
                    self.judge()?;
                    continue;
                }
            };
            if queued {
                let sending = self.connection.queue().written(written);
                self.report.note(self.connection, sending);
            }
            self.connection.sent.add(written, 0);
            self.ticker.wrote_some(Instant::now());
            advance(&mut left, written);
        }
        self.flush().await?;
        self.ticker.wrote_all(Instant::now());
        Ok(())
    }

    /// Has TLS write what is left in its buffer, at most 64 KiB, by the rules of a write. Plain TCP
    /// has none.
    async fn flush(&mut self) -> Result<(), DownReason> {
        loop {
            let next_check = self.ticker.next_check().into();
            let flushed = tokio::select! {
                biased;
                flushed = timeout_at(next_check, self.socket.flush()) => flushed,
                reason = self.connection.queue().failure() => return Err(reason),
            };
            match flushed {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(DownReason::ConnectionClosed),
                Err(_) => {
                    self.judge()?;
                }
            }
        }
    }

    async fn check(&mut self) -> Result<(), DownReason> {
        if self.judge()? == Verdict::Tick {
            self.write(vec![Bytes::from_static(TICK)], false).await?;
        }
        Ok(())
    }

    /// Closes our side and waits until the peer has closed its own. A socket that is closed at once
    /// resets the connection when the peer writes meanwhile, and the peer then never reads what it
    /// hasn't read yet.
    async fn part(&mut self) -> DownReason {
        let parted = async {
            let _ = self.socket.shutdown().await;
            self.connection.cancel.cancelled().await;
        };
        let _ = timeout(LAST_WORDS, parted).await;
        DownReason::Stopped
    }

    fn judge(&mut self) -> Result<Verdict, DownReason> {
        self.ticker.read(self.connection.last_heard());
        match self.ticker.check(Instant::now()) {
            Verdict::Dead => Err(DownReason::TickTimeout),
            Verdict::Stalled => Err(DownReason::Slow),
            verdict => Ok(verdict),
        }
    }
}

fn advance(left: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = left.front_mut() {
        if written < piece.len() {
            piece.advance(written);
            return;
        }
        written -= piece.len();
        left.pop_front();
    }
}

//! The send half of a connection: frames waiting for the socket.
//!
//! Frames leave in the order they were queued, and none is ever left out: when a peer reads too
//! slowly the queue passes its hard mark and *fails*. Nothing enters a failed queue; the writer sees
//! it and closes the connection, so that both sides start over from `discover` instead of living
//! with a gap nobody sees. Pushing never waits and never closes anything itself, so it may be done
//! under any lock.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use super::DownReason;
use crate::wire::EncodeError;

/// From this size on a payload is queued as it is, shared by all peers it goes to; a smaller one is
/// copied behind its head, so that many of them leave in one piece.
const SHARED_FROM: usize = 4096;

/// What one write takes at most, unless a lone payload is larger.
const BATCH: usize = 64 * 1024;

/// The frames one connection has still to write.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something to write, or the queue failed, or it was asked to finish.
    work: Notify,
    /// Bytes fell under the soft mark, or the queue failed.
    room: Notify,
    marks: Marks,
    /// Bytes in all queues of the node.
    all: Arc<AtomicUsize>,
}

/// See [`Limits`](crate::node::Limits).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) soft: usize,
    pub(crate) hard: usize,
    pub(crate) all: usize,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// Bytes not yet accepted by the socket, those the writer holds included.
    bytes: usize,
    /// Bytes the socket has accepted since the connection is up.
    written: u64,
    /// Where in the stream the messages above the soft mark begin and end, those that aren't
    /// written. They don't count against the hard mark: a snapshot is one message, and a scope
    /// whose snapshot sheds its peer never syncs.
    large: VecDeque<Range<u64>>,
    failed: Option<DownReason>,
    finishing: bool,
}

/// Whether a frame was queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Push {
    Queued,
    /// All queues together are too long: the longest of them must go.
    NodeFull,
    /// The queue has failed, just now or before.
    Failed,
    /// The frame can't be sent at all; the queue is as it was.
    Refused,
}

/// What the writer does next.
pub(crate) enum Work {
    Write(Vec<Bytes>),
    /// Asked to finish, and everything is written.
    Finished,
    Failed(DownReason),
}

impl Queue {
    pub(crate) fn new(marks: Marks, all: Arc<AtomicUsize>) -> Self {
        Self { state: Mutex::default(), work: Notify::new(), room: Notify::new(), marks, all }
    }

    /// Queues one frame: what `write_head` appends, then the payload. An error of `write_head` must
    /// leave nothing behind.
    pub(crate) fn push(
        &self,
        payload: &Bytes,
        write_head: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Push {
        let mut state = self.state();
        if state.failed.is_some() || state.finishing {
            return Push::Failed;
        }
        let before = state.tail.len();
        if let Err(error) = write_head(&mut state.tail) {
            log::error!("not sent: {error}");
            return Push::Refused;
        }
        let added = state.tail.len() - before + payload.len();
        if payload.len() < SHARED_FROM {
            state.tail.extend_from_slice(payload);
        } else {
            let tail = std::mem::take(&mut state.tail);
            state.chunks.push_back(tail.into());
            state.chunks.push_back(payload.clone());
        }
        state.bytes += added;
        let all = self.all.fetch_add(added, Ordering::Relaxed) + added;
        if added > self.marks.soft {
            let end = state.written + state.bytes as u64;
            state.large.push_back(end - added as u64..end);
        } else if state.counted() > self.marks.hard {
            self.fail_locked(&mut state, DownReason::Slow);
            return Push::Failed;
        }
        drop(state);
        self.work.notify_one();
        if all > self.marks.all { Push::NodeFull } else { Push::Queued }
    }

    /// Drops what is queued and takes nothing more. Only the first reason counts.
    pub(crate) fn fail(&self, reason: DownReason) {
        self.fail_locked(&mut self.state(), reason);
    }

    /// Takes nothing more; the writer ends when all is written.
    pub(crate) fn finish(&self) {
        self.state().finishing = true;
        self.work.notify_one();
    }

    /// Bytes the socket hasn't accepted yet.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Waits until the queue is under its soft mark. `false` when it has failed.
    pub(crate) async fn room(&self) -> bool {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Before the look at the state, or a wake-up in between would be missed.
            room.as_mut().enable();
            {
                let state = self.state();
                if state.failed.is_some() || state.finishing {
                    return false;
                }
                if state.bytes <= self.marks.soft {
                    return true;
                }
            }
            room.await;
        }
    }

    /// Resolves once the queue has failed, with the reason. For the writer while the socket takes
    /// nothing: it mustn't hold on to a peer that is shed until that takes bytes again.
    pub(crate) async fn failure(&self) -> DownReason {
        loop {
            let changed = self.room.notified();
            tokio::pin!(changed);
            // Before the look at the state, or a wake-up in between would be missed.
            changed.as_mut().enable();
            if let Some(reason) = &self.state().failed {
                return reason.clone();
            }
            changed.await;
        }
    }

    /// The next batch, for the writer. Cancel safe: nothing is taken before it returns.
    pub(crate) async fn work(&self) -> Work {
        loop {
            if let Some(work) = self.take() {
                return work;
            }
            // A permit is kept when nobody waits, so nothing is missed in between.
            self.work.notified().await;
        }
    }

    /// The writer's batch has been accepted by the socket.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.state();
        if state.failed.is_some() {
            return;
        }
        state.bytes -= bytes;
        state.written += bytes as u64;
        while state.large.front().is_some_and(|large| large.end <= state.written) {
            state.large.pop_front();
        }
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        if state.bytes <= self.marks.soft {
            drop(state);
            self.room.notify_waiters();
        }
    }

    fn take(&self) -> Option<Work> {
        let mut state = self.state();
        if let Some(reason) = &state.failed {
            return Some(Work::Failed(reason.clone()));
        }
        if !state.tail.is_empty() {
            let tail = std::mem::take(&mut state.tail);
            state.chunks.push_back(tail.into());
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(chunk) = state.chunks.front() {
            if bytes > 0 && bytes + chunk.len() > BATCH {
                break;
            }
            bytes += chunk.len();
            batch.extend(state.chunks.pop_front());
        }
        match (bytes, state.finishing) {
            (0, false) => None,
            (0, true) => Some(Work::Finished),
            _ => Some(Work::Write(batch)),
        }
    }

    fn fail_locked(&self, state: &mut State, reason: DownReason) {
        if state.failed.is_some() {
            return;
        }
        self.all.fetch_sub(state.bytes, Ordering::Relaxed);
        *state = State { failed: Some(reason), ..State::default() };
        self.work.notify_one();
        self.room.notify_waiters();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl State {
    /// The bytes that count against the hard mark.
    fn counted(&self) -> usize {
        let large: u64 =
            self.large.iter().map(|large| large.end - large.start.max(self.written)).sum();
        self.bytes - large as usize
    }
}

/// What a queue still held no longer counts for the node.
impl Drop for Queue {
    fn drop(&mut self) {
        self.fail(DownReason::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(all: &Arc<AtomicUsize>) -> Queue {
        Queue::new(Marks { soft: 100, hard: 1000, all: 10_000 }, all.clone())
    }

    fn push(queue: &Queue, bytes: usize) -> Push {
        queue.push(&Bytes::from(vec![7; bytes]), |_| Ok(()))
    }

    #[tokio::test]
    async fn frames_leave_in_the_order_they_were_queued() {
        let all = Arc::default();
        let queue = Queue::new(Marks { soft: 1 << 20, hard: 1 << 24, all: 1 << 28 }, all);
        let mut expected = Vec::new();
        for (i, len) in [10, SHARED_FROM, 3, SHARED_FROM + 1, 5].into_iter().enumerate() {
            let payload = Bytes::from(vec![i as u8; len]);
            let head = |out: &mut Vec<u8>| {
                out.push(99);
                Ok(())
            };
            assert_eq!(queue.push(&payload, head), Push::Queued);
            expected.push(99);
            expected.extend_from_slice(&payload);
        }
        queue.finish();
        let mut written = Vec::new();
        while let Work::Write(batch) = queue.work().await {
            let bytes = batch.iter().map(Bytes::len).sum();
            written.extend(batch.concat());
            queue.written(bytes);
        }
        assert_eq!(written, expected);
    }

    #[tokio::test]
    async fn a_queue_over_its_hard_mark_fails_and_holds_nothing() {
        let all = Arc::default();
        let queue = queue(&all);
        while push(&queue, 90) == Push::Queued {}
        assert!(matches!(queue.work().await, Work::Failed(DownReason::Slow)));
        assert_eq!((queue.bytes(), all.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(push(&queue, 1), Push::Failed);
        assert!(!queue.room().await);
    }

    #[tokio::test]
    async fn who_waits_for_a_failure_hears_of_it_and_why() {
        let all = Arc::default();
        let queue = queue(&all);
        let mut failure = std::pin::pin!(queue.failure());
        assert!(futures::poll!(&mut failure).is_pending());

        while push(&queue, 90) == Push::Queued {}

        assert_eq!(failure.await, DownReason::Slow);
        assert_eq!(queue.failure().await, DownReason::Slow);
    }

    #[tokio::test]
    async fn messages_above_the_soft_mark_do_not_shed_the_peer() {
        let all = Arc::default();
        let queue = queue(&all);
        for _ in 0..3 {
            assert_eq!(push(&queue, 2000), Push::Queued);
            assert_eq!(push(&queue, 90), Push::Queued);
        }
        // Nor does the rest of one that is being written.
        let Work::Write(_) = queue.work().await else { panic!("nothing to write") };
        queue.written(500);
        assert_eq!(push(&queue, 90), Push::Queued);
        queue.written(1500 + 90 + 2000);
        for _ in 0..8 {
            assert_eq!(push(&queue, 90), Push::Queued);
        }
        assert_eq!(push(&queue, 90), Push::Failed);
    }

    #[test]
    fn all_queues_together_have_a_bound() {
        let all = Arc::default();
        let queues: Vec<_> = (0..3).map(|_| queue(&all)).collect();
        assert_eq!(push(&queues[0], 5000), Push::Queued);
        assert_eq!(push(&queues[1], 4000), Push::Queued);
        assert_eq!(push(&queues[2], 2000), Push::NodeFull);
        drop(queues);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_sender_waits_above_the_soft_mark_until_bytes_are_written() {
        let all = Arc::default();
        let queue = queue(&all);
        push(&queue, 90);
        push(&queue, 90);
        assert!(futures::poll!(std::pin::pin!(queue.room())).is_pending());
        let Work::Write(batch) = queue.work().await else { panic!("nothing to write") };
        queue.written(batch.iter().map(Bytes::len).sum());
        assert!(queue.room().await);
    }
}

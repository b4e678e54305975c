//! The send half of a connection: frames waiting for the socket.
//!
//! Frames leave in the order they were queued, but for large messages, which are cut into fragments
//! and let others pass: those of the same process wait for it. None is ever left out: when a peer reads too
//! slowly the queue passes its hard mark and *fails*. Nothing enters a failed queue; the writer sees
//! it and closes the connection, so that both sides start over from `discover` instead of living
//! with a gap nobody sees. Pushing never waits and never closes anything itself, so it may be done
//! under any lock.
//!
//! Above the hard mark a peer that takes bytes isn't yet too slow: the volume may be ours, as with
//! forty callers that ask for a megabyte each. Who makes volume waits for the peer, each in its way:
//! [`Queue::room`], [`Queue::follow`], [`Queue::pace`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{Mutex as TurnLock, MutexGuard as TurnGuard, Notify};
use tokio::time::{Instant, timeout_at};

use super::{DownReason, encode_payload};
use crate::term::Pid;
use crate::wire::outbound::{Cut, FRAGMENT_HEAD, FRAGMENT_SIZE, Order, Outbound, fragment_head};
use crate::wire::signal::{Signal, Target};
use crate::wire::{EncodeError, Flags};

/// From this size on a payload is queued as it is, shared by all peers it goes to; a smaller one is
/// copied behind its head, so that many of them leave in one piece.
const SHARED_FROM: usize = 4096;

/// What one write takes at most, unless a lone payload is larger.
const BATCH: usize = 64 * 1024;

/// A stream of small frames is written when there are so many bytes of it, or after a moment.
const GATHERED: usize = 16 * 1024;

/// That moment.
const GATHER_FOR: Duration = Duration::from_millis(1);

/// A peer that doesn't get under the soft mark in this time isn't waited for by updates until it has.
const PACE: Duration = Duration::from_millis(50);

/// A peer over the hard mark that takes no byte for so long is too slow. Less than this a healthy one
/// needs for a garbage collection, or because other programs have its processors.
const GRACE: Duration = Duration::from_secs(1);

/// So many hard marks are too much even for a peer that takes bytes.
const STEADY: usize = 4;

/// The frames one connection has still to write.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Held by who waits for room or has got it, so that all the others don't fill the same room.
    turn: TurnLock<()>,
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

#[derive(Debug)]
struct State {
    outbound: Outbound,
    /// What leaves next, then `tail`.
    chunks: VecDeque<Chunk>,
    tail: Vec<u8>,
    /// Messages in fragments whose turn has come; they take turns with each other and with `chunks`.
    active: VecDeque<Stream>,
    /// What was sent by those whose message in fragments hasn't left: it leaves after that, for the
    /// signals of one process stay in order.
    behind: FxHashMap<Pid, VecDeque<Chunk>>,
    /// Bytes not yet accepted by the socket, those the writer holds included.
    bytes: usize,
    /// Those of messages above the soft mark which the writer doesn't hold yet. They don't count
    /// against the hard mark: a snapshot is one message, and a scope whose snapshot sheds its peer
    /// never syncs.
    large: usize,
    /// Bytes of all such messages since there were none.
    large_all: usize,
    /// Above the soft mark for too long to be waited for, see [`Queue::pace`].
    stalled: bool,
    /// Signals queued so far.
    signals: u64,
    /// When the socket took bytes, or was offered the first; `None` while it owes nothing.
    moved: Option<Instant>,
    /// The writer is told of pushes that make it so many bytes.
    told_from: usize,
    failed: Option<DownReason>,
    finishing: bool,
}

#[derive(Debug)]
enum Chunk {
    Bytes {
        bytes: Bytes,
        /// Whether a frame ends with it; no other frame may come between a frame's chunks.
        ends: bool,
        /// Counted in `large`.
        large: bool,
    },
    Stream(Stream),
}

/// A message that leaves in fragments.
#[derive(Debug)]
struct Stream {
    from: Pid,
    sequence: u64,
    /// The number of the next fragment; the last has 1.
    fragment: u64,
    /// What stands before the payload in the next one.
    head: Bytes,
    /// What is left of the payload.
    payload: Bytes,
    /// Counted in `large`.
    large: bool,
}

/// What follows a head: the encoded term from where it is to begin.
#[derive(Clone, Copy)]
struct Payload<'a> {
    encoded: &'a Bytes,
    start: usize,
}

impl<'a> Payload<'a> {
    fn of(encoded: &'a Bytes, outbound: &Outbound) -> Self {
        Self { encoded, start: outbound.payload_start().min(encoded.len()) }
    }

    fn len(self) -> usize {
        self.encoded.len() - self.start
    }

    fn bytes(self) -> &'a [u8] {
        self.encoded.get(self.start..).unwrap_or_default()
    }

    /// The bytes for who keeps them: a count of references, which a small copy is cheaper than.
    fn share(self) -> Bytes {
        self.encoded.slice(self.start..)
    }
}

/// Whether a frame was queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Push {
    Queued,
    /// Queued, and now the queue is above its soft mark: who goes on should [wait](Queue::pace).
    Crowded,
    /// All queues together are too long: the longest of them must go.
    NodeFull,
    /// The queue has failed, just now or before.
    Failed,
    /// The frame can't be sent at all; the queue is as it was.
    Refused,
}

/// Room in a queue, for one message: the next who waits gets some when this is dropped.
#[derive(Debug)]
#[must_use = "what it's for must be queued before it's dropped"]
pub(crate) struct Room<'a>(#[expect(dead_code, reason = "held for its drop")] TurnGuard<'a, ()>);

/// What the writer does next.
pub(crate) enum Work {
    Write(Vec<Bytes>),
    /// Asked to finish, and everything is written.
    Finished,
    Failed(DownReason),
}

impl Queue {
    pub(crate) fn new(marks: Marks, all: Arc<AtomicUsize>, flags: Flags) -> Self {
        let state = Mutex::new(State::new(Outbound::new(flags)));
        let (turn, work, room) = (TurnLock::default(), Notify::new(), Notify::new());
        Self { state, turn, work, room, marks, all }
    }

    /// Queues a message. The payload is `131` and a term.
    pub(crate) fn push_message(&self, from: &Pid, to: &Target, payload: &Bytes) -> Push {
        let state = &mut *self.state();
        let payload = Payload::of(payload, &state.outbound);
        if state.outbound.cuts(payload.len()) {
            let cut = state.outbound.cut_message(from, to, payload.len());
            return self.push_cut(state, from, cut, payload.share());
        }
        self.push(state, Some(from), payload, |outbound, order, out| {
            outbound.send_head(from, to, payload.len(), order, out)
        })
    }

    /// Queues any other signal of a process; of none that has sent anything if `from` is `None`.
    pub(crate) fn push_signal(&self, from: Option<&Pid>, signal: &Signal) -> Push {
        let flags = self.state().outbound.flags();
        let Some(term) = signal.payload(flags) else {
            let nothing = Payload { encoded: &Bytes::new(), start: 0 };
            return self.push(&mut self.state(), from, nothing, |outbound, order, out| {
                outbound.signal(signal, order, out)
            });
        };
        // Not under the lock: it may be large, as the result of an `rpc` is.
        let payload = match encode_payload(term) {
            Ok(payload) => payload,
            Err(error) => {
                log::error!("not sent: {error}");
                return Push::Refused;
            }
        };
        let state = &mut *self.state();
        let payload = Payload::of(&payload, &state.outbound);
        if let Some(from) = from
            && state.outbound.cuts(payload.len())
        {
            let cut = state.outbound.cut_signal(signal, payload.len());
            return self.push_cut(state, from, cut, payload.share());
        }
        self.push(state, from, payload, |outbound, order, out| {
            outbound.signal_head(signal, payload.len(), order, out)
        })
    }

    /// Queues one frame: what `write` appends, then the payload. An error of `write` must leave nothing
    /// behind.
    fn push(
        &self,
        state: &mut State,
        from: Option<&Pid>,
        payload: Payload<'_>,
        write: impl FnOnce(&mut Outbound, Order, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Push {
        if state.failed.is_some() || state.finishing {
            return Push::Failed;
        }
        if let Some(behind) = from.and_then(|from| state.behind.get_mut(from)) {
            let mut frame = Vec::new();
            if let Err(error) = write(&mut state.outbound, Order::Late, &mut frame) {
                log::error!("not sent: {error}");
                return Push::Refused;
            }
            frame.extend_from_slice(payload.bytes());
            let added = frame.len();
            let large = added > self.marks.soft;
            behind.push_back(Chunk::Bytes { bytes: frame.into(), ends: true, large });
            state.hold(if large { added } else { 0 });
            return self.pushed(state, added, large);
        }
        let before = state.tail.len();
        if let Err(error) = write(&mut state.outbound, Order::Kept, &mut state.tail) {
            log::error!("not sent: {error}");
            return Push::Refused;
        }
        let added = state.tail.len() - before + payload.len();
        let large = added > self.marks.soft;
        let mut rest = if payload.len() >= SHARED_FROM {
            state.flush_tail(false);
            payload.share()
        } else {
            state.tail.extend_from_slice(payload.bytes());
            // A signal may be large by itself: an exit reason is the result of an `rpc`.
            let own = if large { state.tail.split_off(before) } else { Vec::new() };
            if large {
                state.flush_tail(true);
            }
            own.into()
        };
        // In pieces, or the writer would hold all of it at once.
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(BATCH));
            state.hold(if large { bytes.len() } else { 0 });
            let ends = rest.is_empty();
            state.chunks.push_back(Chunk::Bytes { bytes, ends, large });
        }
        self.pushed(state, added, large)
    }

    fn push_cut(
        &self,
        state: &mut State,
        from: &Pid,
        cut: Result<Cut, EncodeError>,
        payload: Bytes,
    ) -> Push {
        if state.failed.is_some() || state.finishing {
            return Push::Failed;
        }
        let cut = match cut {
            Ok(cut) => cut,
            Err(error) => {
                log::error!("not sent: {error}");
                return Push::Refused;
            }
        };
        let added = cut.head.len() + payload.len() + (cut.fragments as usize - 1) * FRAGMENT_HEAD;
        let large = added > self.marks.soft;
        state.hold(if large { added } else { 0 });
        let stream = Chunk::Stream(Stream {
            from: from.clone(),
            sequence: cut.sequence,
            fragment: cut.fragments,
            head: cut.head.into(),
            payload,
            large,
        });
        if let Some(behind) = state.behind.get_mut(from) {
            behind.push_back(stream);
        } else {
            state.flush_tail(true);
            state.behind.insert(from.clone(), VecDeque::new());
            state.chunks.push_back(stream);
        }
        self.pushed(state, added, large)
    }

    /// So many bytes have been queued.
    fn pushed(&self, state: &mut State, added: usize, large: bool) -> Push {
        state.bytes += added;
        state.signals += 1;
        let all = self.all.fetch_add(added, Ordering::Relaxed) + added;
        if !large && self.is_too_slow(state) {
            self.fail_locked(state, DownReason::Slow);
            return Push::Failed;
        }
        if state.bytes >= state.told_from {
            self.work.notify_one();
        }
        if all > self.marks.all {
            Push::NodeFull
        } else if state.small() > self.marks.soft && !state.stalled {
            Push::Crowded
        } else {
            Push::Queued
        }
    }

    fn is_too_slow(&self, state: &State) -> bool {
        let small = state.small();
        small > self.marks.hard
            && (small > self.marks.hard.saturating_mul(STEADY) || state.still_for() >= GRACE)
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

    pub(crate) fn is_finishing(&self) -> bool {
        self.state().finishing
    }

    /// Bytes the socket hasn't accepted yet.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// How many signals have been queued so far.
    pub(crate) fn signals(&self) -> u64 {
        self.state().signals
    }

    /// Waits until the queue is under its soft mark, behind those who have waited for longer. `None`
    /// when it has failed. For tasks that keep nobody else waiting.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        let room = Room(self.turn.lock().await);
        self.until(|state| state.bytes <= self.marks.soft).await.then_some(room)
    }

    /// As [`room`](Self::room), and gives room to who waits for a peer that takes no byte for a
    /// second: what waits with them is held for all peers. `None` when the queue has failed, too.
    pub(crate) async fn room_soon(&self) -> Option<Room<'_>> {
        let room = Room(self.turn.lock().await);
        self.while_it_moves(GRACE, |state| state.bytes <= self.marks.soft).await.then_some(room)
    }

    /// Waits until the queue is under its soft mark, snapshots aside, as long as the peer takes bytes,
    /// and a second at most. For who replies to a peer that asks for more than it can take, and
    /// has others to serve: the BEAM suspends a server in this place until the peer is given up.
    pub(crate) async fn follow(&self) {
        let room = self.while_it_moves(PACE, |state| state.small() <= self.marks.soft);
        let _ = tokio::time::timeout(GRACE, room).await;
    }

    /// Resolves when the queue is under its soft mark, snapshots aside, or has failed.
    pub(crate) async fn drained(&self) {
        self.until(|state| state.small() <= self.marks.soft).await;
    }

    /// Whether the queue is above its soft mark, snapshots aside.
    pub(crate) fn is_crowded(&self) -> bool {
        self.state().small() > self.marks.soft
    }

    /// Waits until the queue is under its soft mark, snapshots aside, for who makes updates faster than
    /// the peer reads them; without this a healthy peer would be shed. One that stands still is waited
    /// for once, and not for long.
    pub(crate) async fn pace(&self) {
        let room = self.until(|state| state.small() <= self.marks.soft || state.stalled);
        if tokio::time::timeout(PACE, room).await.is_err() {
            let mut state = self.state();
            state.stalled = state.small() > self.marks.soft;
            drop(state);
            self.room.notify_waiters();
        }
    }

    /// Waits until it is so, or the peer hasn't taken a byte for `patience`. `false` when the queue has
    /// failed.
    async fn while_it_moves(&self, patience: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        loop {
            let left = patience.saturating_sub(self.state().still_for());
            let enough = |state: &State| is_so(state) || state.still_for() >= patience;
            // Too late for what it was by then, it may have moved meanwhile.
            if let Ok(is_open) = tokio::time::timeout(left, self.until(&enough)).await {
                return is_open;
            }
        }
    }

    /// Waits until it is so. `false` when the queue has failed.
    async fn until(&self, is_so: impl Fn(&State) -> bool) -> bool {
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
                if is_so(&state) {
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

    /// Waits until there are more frames to write at once, though not for long. `false` if few have come.
    /// Cancel safe, if the queue is used no more.
    pub(crate) async fn gather(&self) -> bool {
        let end = Instant::now() + GATHER_FOR;
        loop {
            {
                let mut state = self.state();
                if state.failed.is_some() || state.finishing || state.bytes >= GATHERED {
                    state.told_from = 0;
                    return true;
                }
                state.told_from = GATHERED;
            }
            if timeout_at(end, self.work.notified()).await.is_err() {
                let mut state = self.state();
                state.told_from = 0;
                return state.bytes >= GATHERED / 8;
            }
        }
    }

    /// The writer's batch has been accepted by the socket. Gives what has left of large messages, and how much
    /// they are in all.
    pub(crate) fn written(&self, bytes: usize) -> (usize, usize) {
        let mut state = self.state();
        if state.failed.is_some() {
            return (0, 0);
        }
        state.bytes -= bytes;
        state.moved = (state.bytes > 0).then(Instant::now);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        if state.large == 0 {
            state.large_all = 0;
        }
        let sending = (state.large_all - state.large, state.large_all);
        if state.small() <= self.marks.soft {
            state.stalled = false;
            drop(state);
            self.room.notify_waiters();
        }
        sending
    }

    fn take(&self) -> Option<Work> {
        let mut state = self.state();
        if let Some(reason) = &state.failed {
            return Some(Work::Failed(reason.clone()));
        }
        let (batch, bytes) = state.next_batch();
        match (bytes, state.finishing) {
            (0, false) => None,
            (0, true) => Some(Work::Finished),
            _ => {
                state.moved.get_or_insert_with(Instant::now);
                Some(Work::Write(batch))
            }
        }
    }

    fn fail_locked(&self, state: &mut State, reason: DownReason) {
        if state.failed.is_some() {
            return;
        }
        self.all.fetch_sub(state.bytes, Ordering::Relaxed);
        let signals = state.signals;
        let empty = State::new(Outbound::new(Flags::default()));
        *state = State { failed: Some(reason), signals, ..empty };
        self.work.notify_one();
        self.room.notify_waiters();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl State {
    fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            chunks: VecDeque::new(),
            tail: Vec::new(),
            active: VecDeque::new(),
            behind: FxHashMap::default(),
            bytes: 0,
            large: 0,
            large_all: 0,
            stalled: false,
            signals: 0,
            moved: None,
            told_from: 0,
            failed: None,
            finishing: false,
        }
    }

    /// So many bytes of a large message have been queued.
    fn hold(&mut self, bytes: usize) {
        self.large += bytes;
        self.large_all += bytes;
    }

    /// The bytes that count against the marks for updates: those of no snapshot.
    fn small(&self) -> usize {
        self.bytes - self.large
    }

    /// For how long the socket has taken no byte of those it was offered.
    fn still_for(&self) -> Duration {
        self.moved.map_or(Duration::ZERO, |moved| moved.elapsed())
    }

    /// `ends`: whether the tail's last frame is complete.
    fn flush_tail(&mut self, ends: bool) {
        if !self.tail.is_empty() {
            let bytes = std::mem::take(&mut self.tail).into();
            self.chunks.push_back(Chunk::Bytes { bytes, ends, large: false });
        }
    }

    /// What to write next, and how many bytes that is: whole frames up to a batch, then one fragment.
    fn next_batch(&mut self) -> (Vec<Bytes>, usize) {
        self.flush_tail(true);
        let (mut batch, mut sum, mut between) = (Vec::new(), 0, true);
        // A fragment goes between frames only.
        while let Some(chunk) = self.chunks.pop_front() {
            match chunk {
                Chunk::Bytes { ref bytes, .. }
                    if sum > 0
                        && sum + bytes.len() > BATCH
                        && (between || self.active.is_empty()) =>
                {
                    self.chunks.push_front(chunk);
                    break;
                }
                Chunk::Bytes { bytes, ends, large } => {
                    sum += bytes.len();
                    self.large -= if large { bytes.len() } else { 0 };
                    between = ends;
                    batch.push(bytes);
                }
                Chunk::Stream(stream) => self.active.push_back(stream),
            }
        }
        if let Some(mut stream) = self.active.pop_front() {
            let fragment = stream.next_fragment();
            let bytes: usize = fragment.iter().map(Bytes::len).sum();
            sum += bytes;
            self.large -= if stream.large { bytes } else { 0 };
            batch.extend(fragment);
            if stream.fragment > 0 {
                self.active.push_back(stream);
            } else {
                self.release(&stream.from);
            }
        }
        (batch, sum)
    }

    /// A message in fragments has left, all of it: what its sender sent since then may go.
    fn release(&mut self, from: &Pid) {
        let Some(behind) = self.behind.get_mut(from) else { return };
        while let Some(chunk) = behind.pop_front() {
            let cut = matches!(chunk, Chunk::Stream(_));
            self.chunks.push_back(chunk);
            if cut {
                return;
            }
        }
        self.behind.remove(from);
    }
}

impl Stream {
    /// The bytes of the next fragment; with `fragment` 0 it was the last.
    fn next_fragment(&mut self) -> [Bytes; 2] {
        let payload = self.payload.split_to(self.payload.len().min(FRAGMENT_SIZE));
        self.fragment -= 1;
        let next = self.payload.len().min(FRAGMENT_SIZE);
        let next = Bytes::copy_from_slice(&fragment_head(self.sequence, self.fragment, next));
        [std::mem::replace(&mut self.head, next), payload]
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

    use crate::atom;
    use crate::term::{Creation, NodeName, Reference, Term};
    use crate::wire::{Deframer, FragmentLimits, Inbound};

    const CUTS: Flags = Flags::OFFERED;

    fn queue(all: &Arc<AtomicUsize>) -> Queue {
        Queue::new(Marks { soft: 100, hard: 1000, all: 10_000 }, all.clone(), Flags::REQUIRED)
    }

    fn wide_queue() -> Queue {
        let marks = Marks { soft: 1 << 20, hard: 1 << 24, all: 1 << 28 };
        Queue::new(marks, Arc::default(), CUTS)
    }

    fn pid(id: u32) -> Pid {
        Pid { node: NodeName::new("a@b").unwrap(), id, serial: 0, creation: Creation(4) }
    }

    /// Queues `bytes` bytes.
    fn push(queue: &Queue, bytes: usize) -> Push {
        let payload = Bytes::from(vec![7; bytes]);
        let mut state = queue.state();
        queue.push(&mut state, None, Payload { encoded: &payload, start: 0 }, |_, _, _| Ok(()))
    }

    fn send(queue: &Queue, from: u32, message: &Term) {
        let mut payload = Vec::new();
        crate::wire::encode(message, &mut payload).unwrap();
        let push = queue.push_message(&pid(from), &pid(9).into(), &payload.into());
        assert!(matches!(push, Push::Queued | Push::Crowded), "{push:?}");
    }

    /// The messages of [`signals_sent`].
    fn sent(queue: &Queue) -> Vec<(u32, Term)> {
        let message = |signal| match signal {
            Signal::Send { from: Some(from), message, .. } => (from.id, message),
            other => panic!("{other:?}"),
        };
        signals_sent(queue).into_iter().map(message).collect()
    }

    /// Writes all there is, batch by batch; gives the signals as the peer reads them.
    fn signals_sent(queue: &Queue) -> Vec<Signal> {
        let mut deframer = Deframer::new(1 << 28);
        let limits = FragmentLimits { sequences: 64, bytes: 1 << 28, message: 1 << 28 };
        let mut inbound = Inbound::new(CUTS, limits);
        let mut signals = Vec::new();
        while let Some(Work::Write(batch)) = queue.take() {
            for bytes in batch {
                deframer.buffer().extend_from_slice(&bytes);
                queue.written(bytes.len());
            }
            while let Some(frame) = deframer.next_frame().unwrap() {
                if let Some((signal, _)) = inbound.frame(frame).unwrap() {
                    signals.push(signal);
                }
            }
        }
        assert_eq!(queue.bytes(), 0);
        let state = queue.state();
        assert_eq!((state.large, state.behind.len(), state.active.len()), (0, 0, 0));
        drop(state);
        signals
    }

    fn binary(bytes: usize) -> Term {
        Term::binary_of(vec![5; bytes])
    }

    #[test]
    fn frames_leave_in_the_order_they_were_queued() {
        let queue = wide_queue();
        let mut expected = Vec::new();
        for bytes in [10, SHARED_FROM, 3, SHARED_FROM + 1, 5, FRAGMENT_SIZE - 8] {
            send(&queue, 1, &binary(bytes));
            expected.push((1, binary(bytes)));
        }
        assert_eq!(sent(&queue), expected);
    }

    #[test]
    fn a_large_message_lets_those_of_others_pass_and_none_of_its_sender() {
        let queue = wide_queue();
        let large = binary(20 * FRAGMENT_SIZE + 1);
        send(&queue, 1, &atom!("before").into());
        send(&queue, 1, &large);
        send(&queue, 1, &atom!("behind").into());
        send(&queue, 2, &atom!("passes").into());
        send(&queue, 1, &large);
        send(&queue, 1, &atom!("last").into());
        let expected = [
            (1, atom!("before").into()),
            (2, atom!("passes").into()),
            (1, large.clone()),
            (1, atom!("behind").into()),
            (1, large),
            (1, atom!("last").into()),
        ];
        assert_eq!(sent(&queue), expected);
    }

    #[test]
    fn large_signals_leave_in_fragments_and_let_others_pass() {
        let queue = wide_queue();
        let (from, to, reason) = (pid(1), pid(9), binary(20 * FRAGMENT_SIZE));
        let reference = Reference::new(pid(1).node, Creation(4), &[1, 2, 3]).unwrap();
        let mfa = (atom!("m"), atom!("f"), 1);
        let large = [
            Signal::Exit { from: from.clone(), to: to.clone(), reason: reason.clone() },
            Signal::Exit2 { from: from.clone(), to: to.clone().into(), reason: reason.clone() },
            Signal::MonitorExit {
                from: from.clone().into(),
                to: to.clone(),
                reference: reference.clone(),
                reason: reason.clone(),
            },
            Signal::SpawnRequest {
                reference,
                from: from.clone(),
                group_leader: to,
                mfa,
                options: Term::NIL,
                args: crate::list![reason],
            },
        ];
        for signal in &large {
            assert_eq!(queue.push_signal(Some(&from), signal), Push::Queued);
        }
        send(&queue, 2, &atom!("passes").into());
        let signals = signals_sent(&queue);
        assert!(matches!(signals[0], Signal::Send { .. }), "{:?}", signals[0]);
        assert!(signals[1..] == large, "they differ");
    }

    #[test]
    fn large_messages_take_turns() {
        let queue = wide_queue();
        send(&queue, 1, &binary(9 * FRAGMENT_SIZE));
        send(&queue, 2, &binary(2 * FRAGMENT_SIZE));
        let order: Vec<_> = sent(&queue).into_iter().map(|(from, _)| from).collect();
        assert_eq!(order, [2, 1]);
    }

    #[test]
    fn a_batch_is_small_whatever_waits() {
        for flags in [CUTS, Flags::REQUIRED] {
            let marks = Marks { soft: 1 << 20, hard: 1 << 24, all: 1 << 30 };
            let queue = Queue::new(marks, Arc::default(), flags);
            for from in 0..3 {
                send(&queue, from, &binary(8 << 20));
                send(&queue, from, &binary(10));
            }
            while let Some(Work::Write(batch)) = queue.take() {
                let bytes = batch.iter().map(Bytes::len).sum();
                assert!(bytes <= 3 * BATCH + 1024, "{bytes}");
                queue.written(bytes);
            }
            assert_eq!(queue.bytes(), 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_one_process_sends_arrives_in_order(
            sends in proptest::collection::vec((0..4_u32, 0..40_usize), 1..60),
            written_between in 0..3_usize,
        ) {
            let queue = wide_queue();
            let mut all = Vec::new();
            let mut expected: FxHashMap<u32, Vec<Term>> = FxHashMap::default();
            let mut pending = Vec::new();
            for (number, (from, size)) in sends.into_iter().enumerate() {
                let bytes = size * size * 200;
                let message = crate::tuple![u32::try_from(number).unwrap(), binary(bytes)];
                send(&queue, from, &message);
                expected.entry(from).or_default().push(message);
                for _ in 0..written_between {
                    if let Some(Work::Write(batch)) = queue.take() {
                        pending.extend(batch);
                    }
                }
            }
            while let Some(Work::Write(batch)) = queue.take() {
                pending.extend(batch);
            }
            let mut deframer = Deframer::new(1 << 28);
            let limits = FragmentLimits { sequences: 64, bytes: 1 << 28, message: 1 << 28 };
            let mut inbound = Inbound::new(CUTS, limits);
            for bytes in pending {
                queue.written(bytes.len());
                deframer.buffer().extend_from_slice(&bytes);
            }
            while let Some(frame) = deframer.next_frame().unwrap() {
                if let Some((signal, _)) = inbound.frame(frame).unwrap() {
                    all.push(signal);
                }
            }
            let mut arrived: FxHashMap<u32, Vec<Term>> = FxHashMap::default();
            for signal in all {
                let Signal::Send { from: Some(from), message, .. } = signal else {
                    panic!("{signal:?}")
                };
                arrived.entry(from.id).or_default().push(message);
            }
            proptest::prop_assert_eq!(arrived, expected);
            proptest::prop_assert_eq!(queue.bytes(), 0);
        }
    }

    #[tokio::test]
    async fn a_queue_over_its_hard_mark_fails_and_holds_nothing() {
        let all = Arc::default();
        let queue = queue(&all);
        let mut most = 0;
        while push(&queue, 90) != Push::Failed {
            most = queue.bytes();
        }
        // Nobody has looked whether the socket stands still, so it's four times the mark.
        assert_eq!(most, STEADY * 1000 / 90 * 90);
        assert!(matches!(queue.work().await, Work::Failed(DownReason::Slow)));
        assert_eq!((queue.bytes(), all.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(push(&queue, 1), Push::Failed);
        assert!(queue.room().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn over_its_hard_mark_a_queue_fails_once_the_socket_stands_still() {
        let queue = queue(&Arc::default());
        let over = || (0..12).map(|_| push(&queue, 90)).all(|push| push != Push::Failed);
        assert!(over(), "before the writer has looked");
        for _ in 0..10 {
            let Work::Write(batch) = queue.work().await else { panic!("nothing to write") };
            tokio::time::advance(Duration::from_millis(999)).await;
            assert_ne!(push(&queue, 1), Push::Failed, "it takes bytes");
            queue.written(batch.iter().map(Bytes::len).sum());
            assert!(over());
        }
        let Work::Write(_) = queue.work().await else { panic!("nothing to write") };
        tokio::time::advance(GRACE).await;
        assert_eq!(push(&queue, 1), Push::Failed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_steadily_but_too_slowly_is_shed_in_the_end() {
        let queue = queue(&Arc::default());
        let mut most = 0;
        while push(&queue, 90) != Push::Failed {
            most = most.max(queue.bytes());
            let Work::Write(_) = queue.work().await else { panic!("nothing to write") };
            tokio::time::advance(Duration::from_millis(10)).await;
            queue.written(1);
        }
        assert!((4 * 1000 - 90..=4 * 1000).contains(&most), "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_gets_it_in_turn_and_for_one_message() {
        let queue = queue(&Arc::default());
        push(&queue, 90);
        push(&queue, 90);
        let mut first = Box::pin(queue.room());
        let mut second = Box::pin(queue.room());
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        write_all(&queue).await;
        let room = first.await;
        assert!(futures::poll!(&mut second).is_pending(), "both fill the same room");
        push(&queue, 90);
        push(&queue, 90);
        drop(room);
        assert!(futures::poll!(&mut second).is_pending(), "there is none any more");
        write_all(&queue).await;
        assert!(second.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_a_peer_waits_while_it_takes_bytes_and_not_for_one_that_stands_still() {
        let queue = queue(&Arc::default());
        push(&queue, 90);
        push(&queue, 90);
        let Work::Write(_) = queue.work().await else { panic!("nothing to write") };
        let start = Instant::now();
        let mut follow = Box::pin(queue.follow());
        for _ in 0..5 {
            assert!(futures::poll!(&mut follow).is_pending());
            tokio::time::sleep(Duration::from_millis(49)).await;
            queue.written(1);
        }
        follow.await;
        assert_eq!(start.elapsed(), Duration::from_millis(5 * 49) + PACE);
        queue.follow().await;
        assert!(queue.room_soon().await.is_some());
        assert_eq!(start.elapsed(), Duration::from_millis(5 * 49) + GRACE);
        queue.written(90);
        assert!(!queue.is_crowded());
    }

    #[tokio::test]
    async fn who_waits_for_a_failure_hears_of_it_and_why() {
        let all = Arc::default();
        let queue = queue(&all);
        let mut failure = std::pin::pin!(queue.failure());
        assert!(futures::poll!(&mut failure).is_pending());

        while push(&queue, 90) != Push::Failed {}

        assert_eq!(failure.await, DownReason::Slow);
        assert_eq!(queue.failure().await, DownReason::Slow);
    }

    #[test]
    fn messages_above_the_soft_mark_do_not_shed_the_peer() {
        let marks = Marks { soft: 1000, hard: 200_000, all: 1 << 30 };
        for flags in [CUTS, Flags::REQUIRED] {
            let queue = Queue::new(marks, Arc::default(), flags);
            for from in 0..3 {
                send(&queue, from, &binary(500_000));
                assert_ne!(push(&queue, 900), Push::Failed);
            }
            // Nor does the rest of one that is being written.
            for _ in 0..3 {
                let Some(Work::Write(batch)) = queue.take() else { panic!("nothing to write") };
                queue.written(10);
                assert_ne!(push(&queue, 900), Push::Failed);
                queue.written(batch.iter().map(Bytes::len).sum::<usize>() - 10);
            }
            for _ in 0..880 {
                assert_ne!(push(&queue, 900), Push::Failed);
            }
            assert!((0..20).any(|_| push(&queue, 900) == Push::Failed));
        }
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

    #[tokio::test(start_paused = true)]
    async fn what_is_gathered_leaves_when_there_is_enough_or_after_a_moment() {
        let queue = wide_queue();
        let (start, mut gathering) = (Instant::now(), Box::pin(queue.gather()));
        assert!(futures::poll!(&mut gathering).is_pending());
        for _ in 0..GATHERED / 100 {
            push(&queue, 100);
            assert!(futures::poll!(&mut gathering).is_pending(), "woken too early");
        }
        push(&queue, 100);
        assert!(gathering.await);
        assert_eq!(start.elapsed(), Duration::ZERO);

        write_all(&queue).await;
        push(&queue, 100);
        assert!(!queue.gather().await, "few have come");
        assert_eq!(start.elapsed(), GATHER_FOR);
        // From here on each push is told again.
        write_all(&queue).await;
        let mut work = Box::pin(queue.work());
        assert!(futures::poll!(&mut work).is_pending());
        push(&queue, 1);
        assert!(futures::poll!(&mut work).is_ready());

        drop(work);
        let mut gathering = Box::pin(queue.gather());
        assert!(futures::poll!(&mut gathering).is_pending());
        queue.finish();
        assert!(futures::poll!(&mut gathering).is_ready(), "the end isn't kept waiting");
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
        assert!(queue.room().await.is_some());
    }

    async fn write_all(queue: &Queue) {
        while queue.bytes() > 0 {
            let Work::Write(batch) = queue.work().await else { panic!("nothing to write") };
            queue.written(batch.iter().map(Bytes::len).sum());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_faster_than_the_peer_waits_for_it_but_only_once_if_it_stands_still() {
        let all = Arc::default();
        let queue = queue(&all);
        assert_eq!(push(&queue, 90), Push::Queued);
        assert_eq!(push(&queue, 90), Push::Crowded);
        let mut pace = std::pin::pin!(queue.pace());
        assert!(futures::poll!(&mut pace).is_pending());
        write_all(&queue).await;
        assert!(futures::poll!(&mut pace).is_ready());

        push(&queue, 90);
        assert_eq!(push(&queue, 90), Push::Crowded);
        let start = Instant::now();
        queue.pace().await;
        assert_eq!(start.elapsed(), PACE);
        assert_eq!(push(&queue, 90), Push::Queued);
        queue.pace().await;
        assert_eq!(start.elapsed(), PACE);

        write_all(&queue).await;
        push(&queue, 90);
        assert_eq!(push(&queue, 90), Push::Crowded);
    }
}

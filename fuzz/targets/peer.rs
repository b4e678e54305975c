//! A peer that is a script, on a stream in memory.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::script::Splits;

/// What a peer says next, given all it was told so far; `None`: it closes.
pub(super) type Says<'a> = dyn FnMut(&[u8]) -> Option<Vec<u8>> + 'a;

/// The stream to such a peer.
pub(super) struct Peer<'a> {
    says: Box<Says<'a>>,
    splits: Splits,
    /// What it said last, and how much of it was read.
    said: Vec<u8>,
    taken: usize,
    /// All it was told.
    pub(super) told: Vec<u8>,
    /// All of what it said that was read.
    pub(super) read: Vec<u8>,
    is_closed: bool,
    waits: bool,
}

impl<'a> Peer<'a> {
    pub(super) fn new(splits: Splits, says: impl FnMut(&[u8]) -> Option<Vec<u8>> + 'a) -> Self {
        Self {
            says: Box::new(says),
            splits,
            said: Vec::new(),
            taken: 0,
            told: Vec::new(),
            read: Vec::new(),
            is_closed: false,
            waits: false,
        }
    }
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let peer = self.get_mut();
        peer.waits = !peer.waits;
        if peer.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while peer.taken == peer.said.len() && !peer.is_closed {
            peer.taken = 0;
            peer.said = (peer.says)(&peer.told).unwrap_or_else(|| {
                peer.is_closed = true;
                Vec::new()
            });
        }
        let now = &peer.said[peer.taken..];
        let now = &now[..peer.splits.next().min(buffer.remaining()).min(now.len())];
        buffer.put_slice(now);
        peer.read.extend_from_slice(now);
        peer.taken += now.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let peer = self.get_mut();
        if peer.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        peer.told.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs to the end what only waits for a [`Peer`].
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// The messages of a handshake that are whole in these bytes, and whether nothing is left over.
pub(super) fn messages(mut bytes: &[u8], tls: bool) -> (Vec<&[u8]>, bool) {
    let width = if tls { 4 } else { 2 };
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(width) {
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        messages.push(message);
        bytes = rest;
    }
    (messages, bytes.is_empty())
}

/// A message of a handshake with its length.
pub(super) fn framed(message: &[u8], tls: bool) -> Vec<u8> {
    let length = message.len() as u16;
    if tls {
        [&u32::from(length).to_be_bytes(), message].concat()
    } else {
        [&length.to_be_bytes(), message].concat()
    }
}

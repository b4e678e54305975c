//! What only the targets in `fuzz/` drive: handshakes and EPMD with a peer that is a stream in memory.
//!
//! Public so that they can, and for nobody else: this may change with any release.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use crate::epmd::fuzzing as epmd;
use crate::node::handshake::{self, Admission, Carrier, Lengths, Refusal, Us};
use crate::node::{Cookie, HandshakeError, missing_flags};
use crate::term::{Creation, NodeName};
use crate::wire::Flags;

/// Who we are in a handshake, and over what.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by the targets only")]
pub struct Party {
    /// Our name.
    pub name: NodeName,
    /// Our cookie.
    pub cookie: Cookie,
    /// Whether the stream stands for TLS.
    pub tls: bool,
}

/// What the table of connections says to a peer that dials.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "made by the targets only")]
pub enum Verdict {
    /// `ok`.
    Ok,
    /// `ok_simultaneous`.
    OkSimultaneous,
    /// `alive`.
    Alive,
    /// `nok`.
    Nok,
    /// `not_allowed`.
    NotAllowed,
}

/// The whole handshake of the side that was connected to; the peer's name and flags. `None` after a
/// refusal.
///
/// # Errors
///
/// [`HandshakeError`].
pub async fn accept<S>(
    stream: S,
    us: &Party,
    verdict: Verdict,
) -> Result<Option<(NodeName, Flags)>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said = said_of(us);
    let offer = handshake::receive_name(Over { stream, tls: us.tls }, &said).await?;
    let admission = match verdict {
        Verdict::Ok => Admission::Ok,
        Verdict::OkSimultaneous => Admission::OkSimultaneous,
        Verdict::Alive => Admission::Alive,
        Verdict::Nok => return offer.refuse(Refusal::Nok).await.map(|()| None),
        Verdict::NotAllowed => return offer.refuse(Refusal::NotAllowed).await.map(|()| None),
    };
    let peer = offer.admit(admission).await?.challenge(&us.cookie).await?.ack().await?;
    Ok(Some((peer.name, Flags(peer.flags))))
}

/// The whole handshake of the side that connected; the peer's flags.
///
/// # Errors
///
/// [`HandshakeError`].
pub async fn dial<S>(stream: S, us: &Party, peer: &NodeName) -> Result<Flags, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Over { stream, tls: us.tls };
    Ok(Flags(handshake::dial(stream, &said_of(us), &us.cookie, peer).await?.flags))
}

fn said_of(us: &Party) -> Us {
    Us::new(us.name.clone(), Flags::OFFERED.0, Creation(1), missing_flags)
}

/// A stream as a handshake wants it.
struct Over<S> {
    stream: S,
    tls: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier for Over<S> {
    fn lengths(&self) -> Lengths {
        if self.tls { Lengths::Four } else { Lengths::Two }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Over<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Over<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! The socket below a connection: plain TCP, or TLS above it. What goes over it is the same, but
//! for the lengths in the handshake.
//!
//! Plain TCP has halves that know nothing of each other. Those of TLS share its state, so that
//! reading and writing take turns, never for longer than one record takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(feature = "tls")]
use tokio_rustls::TlsStream;

use super::handshake::{Carrier, Lengths};
use crate::node::tls::TlsError;

/// How connections of a node are made; fixed for its life.
#[derive(Clone, Debug, Default)]
pub(crate) enum Transport {
    /// Plain TCP, `-proto_dist inet_tcp`.
    #[default]
    Tcp,
    /// `-proto_dist inet_tls`.
    #[cfg(feature = "tls")]
    Tls(crate::node::tls::Tls),
}

impl Transport {
    /// The socket we have opened to a node at this host. Has no deadline.
    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, clippy::unused_async, reason = "there is only TCP")
    )]
    pub(super) async fn connect(&self, tcp: TcpStream, host: &str) -> Result<Socket, TlsError> {
        match self {
            Self::Tcp => Ok(Socket::Tcp(tcp)),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Ok(Socket::Tls(Box::new(tls.connect(tcp, host).await?))),
        }
    }

    /// The socket that was opened to us. Has no deadline.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_async, reason = "there is only TCP"))]
    pub(super) async fn accept(&self, tcp: TcpStream) -> Result<Socket, TlsError> {
        match self {
            Self::Tcp => Ok(Socket::Tcp(tcp)),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Ok(Socket::Tls(Box::new(tls.accept(tcp).await?))),
        }
    }
}

/// Both directions, for the handshake.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the reader has.
#[derive(Debug)]
pub(super) enum ReadHalf {
    Tcp(OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// What the writer has. In TLS a write that was taken may lie in its buffer, of 64 KiB, until
/// [`flush`](tokio::io::AsyncWriteExt::flush) returns.
#[derive(Debug)]
pub(super) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(tokio::io::WriteHalf<Box<TlsStream<TcpStream>>>),
}

impl Socket {
    /// One half for each of a connection's tasks.
    pub(super) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(socket) => {
                let (read, write) = socket.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            #[cfg(feature = "tls")]
            Self::Tls(socket) => {
                let (read, write) = tokio::io::split(socket);
                (ReadHalf::Tls(read), WriteHalf::Tls(write))
            }
        }
    }
}

impl ReadHalf {
    /// Whether a read takes all that has come, if there's room. Of TLS it takes one record at most.
    pub(super) fn takes_all(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(_) => false,
        }
    }
}

impl Carrier for Socket {
    fn lengths(&self) -> Lengths {
        match self {
            Self::Tcp(_) => Lengths::Two,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Lengths::Four,
        }
    }
}

macro_rules! reads {
    ($type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => Pin::new(socket).poll_read(context, buffer),
                }
            }
        }
    };
}
reads!(Socket);
reads!(ReadHalf);

macro_rules! writes {
    ($type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_flush(context),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => Pin::new(socket).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
                    #[cfg(feature = "tls")]
                    Self::Tls(socket) => Pin::new(socket).poll_shutdown(context),
                }
            }
        }
    };
}
writes!(Socket);
writes!(WriteHalf);

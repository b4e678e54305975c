//! Asking an EPMD: register a node, look one up, list them.
//!
//! The questions and answers are `erl_dist`'s [`EpmdClient`](erl_dist::epmd::EpmdClient), used in
//! this file only. It writes a request in many pieces, waits for ever and reads without a bound;
//! so it speaks through [`Bounded`], which sends a request in one write and stops an answer at
//! [`MAX_REPLY`], and every question has [`DEADLINE`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use erl_dist::epmd::{EpmdClient, EpmdError as AskError, NodeEntry};
use log::warn;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufStream, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::protocol::{NodeInfo, NodeKind};
use crate::term::Creation;

/// For a whole question: finding the host, connecting, asking, the answer's last byte.
const DEADLINE: Duration = Duration::from_secs(5);

/// Bytes at which an answer is given up; a host's list of 1,500 nodes is shorter.
const MAX_REPLY: usize = 64 * 1024;

/// Silence on a registration's connection before the system asks whether EPMD is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The EPMDs of a cluster: one on each host, all on the same port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epmd {
    port: u16,
}

impl Epmd {
    /// The port of EPMD where nobody chose another.
    pub const PORT: u16 = 4369;

    /// EPMDs that listen on this port.
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// The port in the environment variable `ERL_EPMD_PORT`, or else [`PORT`](Self::PORT): what
    /// nodes of OTP use. Nothing else in this crate reads that variable.
    pub fn default_port() -> u16 {
        let Ok(text) = std::env::var("ERL_EPMD_PORT") else {
            return Self::PORT;
        };
        port_of(&text).unwrap_or_else(|| {
            warn!("ERL_EPMD_PORT={text:?} is no port; taking {}", Self::PORT);
            Self::PORT
        })
    }

    /// The port all of them listen on.
    pub fn port(self) -> u16 {
        self.port
    }

    /// Registers a node of this host, for as long as the [`Registration`] is held.
    ///
    /// `name` is the part before the `@`; `port` is where the node takes connections. EPMD takes
    /// registrations from its own host only, so it's asked at 127.0.0.1, or else at `::1`.
    ///
    /// # Errors
    ///
    /// [`EpmdError::NotRunning`] and [`EpmdError::NameTaken`] may pass: try again after 2 s, as
    /// nodes of OTP do. EPMD forgets a name only when it has seen its connection end.
    pub async fn register(
        &self,
        name: &str,
        port: u16,
        kind: NodeKind,
    ) -> Result<Registration, EpmdError> {
        let at = format!("127.0.0.1:{}", self.port);
        let loopbacks = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .map(|ip| SocketAddr::new(ip, self.port));
        let entry = NodeEntry::from(NodeInfo::new(name, port, kind));
        within(&at, async {
            let stream = connect(&loopbacks, &at).await?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
            SockRef::from(&stream)
                .set_tcp_keepalive(&keepalive)
                .map_err(|source| EpmdError::Io { at: at.clone(), source })?;
            let (stream, creation) =
                client(stream).register(entry).await.map_err(|error| match error {
                    AskError::RegisterNodeError { code: 1 } => {
                        EpmdError::NameTaken { name: name.to_owned(), at: at.clone() }
                    }
                    other => EpmdError::of(other, &at),
                })?;
            let creation = Creation(creation.get());
            Ok(Registration { stream: stream.into_inner().stream.into_inner(), creation })
        })
        .await
    }

    /// Asks the EPMD of `host` for the node called `name` there; `None` when it knows none.
    ///
    /// `host` is a node name's part after the `@`: a name or an address of either family. `name`
    /// is the part before it.
    ///
    /// # Errors
    ///
    /// [`EpmdError`].
    pub async fn lookup(&self, host: &str, name: &str) -> Result<Option<NodeInfo>, EpmdError> {
        let at = self.at(host);
        within(&at, async {
            let stream = connect(&self.resolve(host).await?, &at).await?;
            let found = client(stream).get_node(name).await;
            Ok(found.map_err(|error| EpmdError::of(error, &at))?.map(NodeInfo::from))
        })
        .await
    }

    /// The names and ports of the nodes that are registered on `host`, in EPMD's order.
    ///
    /// # Errors
    ///
    /// [`EpmdError`].
    pub async fn names(&self, host: &str) -> Result<Vec<(String, u16)>, EpmdError> {
        let at = self.at(host);
        within(&at, async {
            let stream = connect(&self.resolve(host).await?, &at).await?;
            client(stream).get_names().await.map_err(|error| EpmdError::of(error, &at))
        })
        .await
    }

    /// How errors name the EPMD of a host.
    fn at(self, host: &str) -> String {
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }

    async fn resolve(self, host: &str) -> Result<Vec<SocketAddr>, EpmdError> {
        let unknown = |source| EpmdError::UnknownHost { host: host.to_owned(), source };
        let mut addresses: Vec<_> =
            lookup_host((host, self.port)).await.map_err(unknown)?.collect();
        // Nodes of OTP use IPv4 unless told otherwise, and an IPv6 address that leads nowhere would
        // use up the deadline.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        Ok(addresses)
    }
}

/// By default, the port is that of [`Epmd::default_port`].
impl Default for Epmd {
    fn default() -> Self {
        Self::new(Self::default_port())
    }
}

fn port_of(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|&port| port != 0)
}

/// A name held in EPMD; dropping it frees the name.
///
/// Nothing is ever written to its connection: EPMD takes any byte for the end.
#[derive(Debug)]
pub struct Registration {
    stream: TcpStream,
    creation: Creation,
}

impl Registration {
    /// The creation EPMD gave this start of the node. A node that registers again, since EPMD was
    /// started anew, keeps its first one.
    pub fn creation(&self) -> Creation {
        self.creation
    }

    /// Waits until EPMD closes the connection or the system finds it dead. Cancel-safe; once it has
    /// returned, it returns at once.
    pub async fn lost(&mut self) {
        // EPMD says nothing here. If another program does, it says it in pieces of this size.
        let mut ignored = [0; 256];
        while matches!(self.stream.read(&mut ignored).await, Ok(1..)) {}
    }
}

/// Why EPMD gave no answer, or not the wanted one. `at` is always `host:port`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpmdError {
    /// Nothing listens there.
    #[error("no EPMD at {at}; start one with `epmd -daemon` or `data-publisher epmd`")]
    NotRunning {
        /// Where none was.
        at: String,
    },
    /// The host's name leads to no address.
    #[error("host {host} is unknown; check the part of the node's name after the @")]
    UnknownHost {
        /// The host.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// No complete answer within 5 s.
    #[error("EPMD at {at} didn't answer within {} s", DEADLINE.as_secs())]
    Timeout {
        /// Who didn't answer.
        at: String,
    },
    /// Another node holds the name, or one that just died still does.
    #[error("the name {name} is taken in EPMD at {at}; end the node that has it or choose another")]
    NameTaken {
        /// The name, without host.
        name: String,
        /// Where it's taken.
        at: String,
    },
    /// EPMD refused for a reason of its own.
    #[error("EPMD at {at} refused with code {code}")]
    Refused {
        /// Its result code; not 0, and for a registration not 1.
        code: u8,
        /// Who refused.
        at: String,
    },
    /// The answer is no answer of an EPMD; most likely it's another program's port.
    #[error("what answers at {at} doesn't talk like an EPMD: {what}")]
    BadReply {
        /// Who answered.
        at: String,
        /// What was wrong, cut to 200 characters.
        what: String,
    },
    /// The connection failed.
    #[error("the connection to EPMD at {at} failed")]
    Io {
        /// Where it led.
        at: String,
        /// What the system said.
        source: io::Error,
    },
}

impl EpmdError {
    pub(super) fn of(error: AskError, at: &str) -> Self {
        let at = at.to_owned();
        match error {
            AskError::RegisterNodeError { code } | AskError::GetNodeEntryError { code } => {
                Self::Refused { code, at }
            }
            AskError::Io(source) => match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Self::BadReply { at, what: "it closed before the answer's end".to_owned() }
                }
                io::ErrorKind::InvalidData => Self::BadReply { at, what: source.to_string() },
                _ => Self::Io { at, source },
            },
            other => Self::BadReply { at, what: other.to_string().chars().take(200).collect() },
        }
    }
}

async fn within<T>(
    at: &str,
    question: impl Future<Output = Result<T, EpmdError>>,
) -> Result<T, EpmdError> {
    timeout(DEADLINE, question)
        .await
        .unwrap_or_else(|_| Err(EpmdError::Timeout { at: at.to_owned() }))
}

/// Connects to the first address that answers; the error is that of the first one.
async fn connect(addresses: &[SocketAddr], at: &str) -> Result<TcpStream, EpmdError> {
    let mut first_error = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let at = at.to_owned();
    Err(match first_error {
        Some(source) if source.kind() != io::ErrorKind::ConnectionRefused => {
            EpmdError::Io { at, source }
        }
        _ => EpmdError::NotRunning { at },
    })
}

pub(super) fn client<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
) -> EpmdClient<Compat<Bounded<S>>> {
    EpmdClient::new(Bounded::new(stream).compat())
}

impl From<NodeEntry> for NodeInfo {
    fn from(entry: NodeEntry) -> Self {
        Self {
            name: entry.name,
            port: entry.port,
            kind: NodeKind::from(u8::from(entry.node_type)),
            protocol: entry.protocol.into(),
            highest_version: entry.highest_version,
            lowest_version: entry.lowest_version,
            extra: entry.extra,
        }
    }
}

impl From<NodeInfo> for NodeEntry {
    fn from(node: NodeInfo) -> Self {
        Self {
            name: node.name,
            port: node.port,
            node_type: u8::from(node.kind).into(),
            protocol: node.protocol.into(),
            highest_version: node.highest_version,
            lowest_version: node.lowest_version,
            extra: node.extra,
        }
    }
}

/// A stream that keeps what is written until it's flushed, and fails when more than [`MAX_REPLY`]
/// bytes are read.
pub(super) struct Bounded<S> {
    stream: BufStream<S>,
    left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Bounded<S> {
    fn new(stream: S) -> Self {
        // A registration with the longest name has 1,035 bytes.
        Self { stream: BufStream::with_capacity(1024, 2048, stream), left: MAX_REPLY }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, left } = self.get_mut();
        if *left == 0 {
            let message = format!("its answer has more than {MAX_REPLY} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        let mut stream = Pin::new(stream);
        let mut bytes = ready!(stream.as_mut().poll_fill_buf(context))?;
        bytes = &bytes[..bytes.len().min(buffer.remaining()).min(*left)];
        buffer.put_slice(bytes);
        let count = bytes.len();
        *left -= count;
        stream.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::net::TcpListener;

    use super::super::EpmdServer;
    use super::*;

    async fn server() -> (EpmdServer, Epmd) {
        let server = EpmdServer::bind_loopback(0).await.unwrap();
        let epmd = Epmd::new(server.port());
        (server, epmd)
    }

    /// Something that isn't EPMD, listening on 127.0.0.1.
    async fn listener() -> (TcpListener, Epmd) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let epmd = Epmd::new(listener.local_addr().unwrap().port());
        (listener, epmd)
    }

    #[tokio::test]
    async fn a_registered_node_is_found_and_listed_until_it_leaves() {
        let (server, epmd) = server().await;
        let a = epmd.register("a", 1111, NodeKind::Visible).await.unwrap();
        let b = epmd.register("b", 2222, NodeKind::Hidden).await.unwrap();
        assert_ne!(a.creation(), b.creation());
        assert_eq!(
            epmd.lookup("127.0.0.1", "b").await.unwrap(),
            Some(NodeInfo::new("b", 2222, NodeKind::Hidden))
        );
        assert_eq!(epmd.lookup("localhost", "c").await.unwrap(), None);
        assert_eq!(
            epmd.names("localhost").await.unwrap(),
            [("a".to_owned(), 1111), ("b".to_owned(), 2222)]
        );

        drop(a);
        while server.nodes().len() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(epmd.names("127.0.0.1").await.unwrap(), [("b".to_owned(), 2222)]);
    }

    #[tokio::test]
    async fn a_taken_name_is_told_from_other_refusals() {
        let (_server, epmd) = server().await;
        let _first = epmd.register("a", 1, NodeKind::Visible).await.unwrap();
        let error = epmd.register("a", 2, NodeKind::Visible).await.unwrap_err();
        assert!(matches!(&error, EpmdError::NameTaken { name, .. } if name == "a"), "{error}");
    }

    #[tokio::test]
    async fn a_registration_notices_the_end_of_epmd() {
        let (server, epmd) = server().await;
        let mut registration = epmd.register("a", 1, NodeKind::Visible).await.unwrap();
        tokio::select! {
            biased;
            () = registration.lost() => panic!("EPMD is still there"),
            () = tokio::task::yield_now() => {}
        }
        drop(server);
        registration.lost().await;
        registration.lost().await;
    }

    #[tokio::test]
    async fn nobody_listening_is_its_own_error() {
        let (listener, epmd) = listener().await;
        drop(listener);
        let at = format!("127.0.0.1:{}", epmd.port());
        for error in [
            epmd.register("a", 1, NodeKind::Visible).await.unwrap_err(),
            epmd.lookup("127.0.0.1", "a").await.unwrap_err(),
            epmd.names("127.0.0.1").await.unwrap_err(),
        ] {
            assert!(matches!(&error, EpmdError::NotRunning { at: a } if *a == at), "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_nobody_knows_is_its_own_error() {
        // No resolver asks the network for a name with a blank.
        let error = Epmd::new(1).lookup("no host", "a").await.unwrap_err();
        assert!(matches!(&error, EpmdError::UnknownHost { host, .. } if host == "no host"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_epmd_is_given_up_after_five_seconds() {
        let (listener, epmd) = listener().await;
        let start = tokio::time::Instant::now();
        let error = epmd.names("127.0.0.1").await.unwrap_err();
        assert!(matches!(error, EpmdError::Timeout { .. }), "{error}");
        assert_eq!(start.elapsed().as_secs(), 5);
        drop(listener);
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_cut_off() {
        let (listener, epmd) = listener().await;
        let flood = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sent = 0;
            while stream.write_all(b"name a at port 1\n").await.is_ok() {
                sent += 17;
            }
            sent
        });
        let error = epmd.names("127.0.0.1").await.unwrap_err();
        assert!(matches!(&error, EpmdError::BadReply { what, .. } if what.contains("65536")));
        // What the sockets' buffers took, and no more.
        assert!(flood.await.unwrap() < 64 * 1024 * 1024);
    }

    #[tokio::test]
    async fn another_program_on_the_port_is_told_so() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", &[119], &[118, 0, 0]] {
            let (listener, epmd) = listener().await;
            let other = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            let error = epmd.lookup("127.0.0.1", "a").await.unwrap_err();
            assert!(matches!(error, EpmdError::BadReply { .. }), "{answer:?}: {error}");
            other.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_request_is_one_write() {
        let request = [
            0, 15,  // length
            120, // ALIVE2_REQ
            0x12, 0x34, // port
            77,   // normal node
            0,    // TCP
            0, 6, // highest version
            0, 5, // lowest version
            0, 2, b'a', b'b', // name
            0, 0, // extra
        ];
        let node = NodeInfo::new("ab", 0x1234, NodeKind::Visible);
        let (ours, mut theirs) = duplex(1024);
        let asked = tokio::spawn(client(ours).register(node.into()));
        let mut received = [0; 1024];
        let count = theirs.read(&mut received).await.unwrap();
        assert_eq!(received[..count], request);
        theirs.write_all(&[118, 0, 0, 0, 1, 0]).await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap().1.get(), 256);
    }

    #[test]
    fn only_a_port_counts_as_a_port() {
        assert_eq!(port_of(" 4370\n"), Some(4370));
        for bad in ["", "0", "x", "65536", "-1"] {
            assert_eq!(port_of(bad), None, "{bad}");
        }
    }
}

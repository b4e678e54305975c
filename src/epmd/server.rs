//! An EPMD of our own, for a host where none runs.
//!
//! Nodes of OTP use it as they use `epmd`. It is stricter where that costs nobody anything: only
//! processes of this host register, nobody can end it or unregister another node, junk gets no
//! answer, and a crowd of silent clients can't keep it from answering the next one.
//!
//! One task accepts per address, one task serves per connection; all of them end when the
//! [`EpmdServer`] is dropped, and with them every registration. What they share is in [`state`].

mod state;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::state::{Place, Registered, Shared};
use super::protocol::{self, NodeInfo, Request};

/// From accept until the request is complete, and again until its answer is written.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// Connections the kernel holds for us until we accept them.
const LISTEN_BACKLOG: i32 = 1024;

/// A running EPMD; dropping it ends it and closes all its connections.
#[derive(Debug)]
pub struct EpmdServer {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

/// Why an EPMD couldn't listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody listens there already, most likely an EPMD; its port is never taken from it.
    #[error("{address} is taken, most likely by a running EPMD; use that one or another port")]
    InUse {
        /// The address that is taken.
        address: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Io {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl EpmdServer {
    /// Listens on all of these addresses. Port 0 picks a free one, see
    /// [`addresses`](Self::addresses).
    ///
    /// # Errors
    ///
    /// [`BindError`] for the first address that can't be listened on; then none is.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for &address in addresses {
            if is_answered(address).await {
                return Err(BindError::InUse { address });
            }
            listeners.push(listen(address).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse { address },
                _ => BindError::Io { address, source },
            })?);
        }
        let shared = Arc::new(Shared::default());
        let mut accepting = JoinSet::new();
        let mut bound = Vec::with_capacity(listeners.len());
        for (listener, address) in listeners {
            bound.push(address);
            accepting.spawn(accept_all(listener, Arc::clone(&shared)));
        }
        Ok(Self { addresses: bound, shared, _accepting: accepting })
    }

    /// Listens on 127.0.0.1 and, where the host has it, `::1`; with port 0 on a free port of
    /// 127.0.0.1 only.
    ///
    /// # Errors
    ///
    /// [`BindError`], except for an `::1` that doesn't exist.
    pub async fn bind_loopback(port: u16) -> Result<Self, BindError> {
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        if port == 0 {
            return Self::bind(&[v4]).await;
        }
        match Self::bind(&[v4, v6]).await {
            Err(BindError::Io { address, .. }) if address == v6 => Self::bind(&[v4]).await,
            bound => bound,
        }
    }

    /// Where it listens, in the order given to [`bind`](Self::bind).
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The port of the first address.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// The nodes registered now, by name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.shared.lock().nodes().cloned().collect()
    }
}

/// Whether somebody takes connections at the address.
///
/// Binding alone doesn't tell on every system: BSDs, macOS and Windows let 127.0.0.1 be bound
/// while another process listens on 0.0.0.0, and its clients would then come to us.
async fn is_answered(mut address: SocketAddr) -> bool {
    if address.port() == 0 {
        return false;
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    matches!(timeout(Duration::from_secs(1), TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can both be given, whatever the system's default is.
        socket.set_only_v6(true)?;
    }
    // On Unix this only skips the wait after an earlier listener; on Windows it would take the
    // port from a running one.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Accepts until aborted by the drop of its owner, the [`EpmdServer`]; its connections end with it.
async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = Place::take(&shared) {
                        connections.spawn(serve_socket(stream, peer, place));
                    }
                }
                Err(error) => {
                    // Most likely no file descriptor is left: those open must close first.
                    debug!("epmd: can't accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_socket(stream: TcpStream, peer: SocketAddr, place: Place) {
    let Ok(own) = stream.local_addr() else { return };
    let client = Client { origin: Origin::of(peer.ip(), own.ip()), asked_port: own.port() };
    match serve(stream, client, place).await {
        Ok(()) => {}
        Err(reason) => debug!("epmd: closed the connection of {peer}: {reason}"),
    }
}

/// Who asks, and how they reached us.
#[derive(Clone, Copy, Debug)]
struct Client {
    origin: Origin,
    asked_port: u16,
}

/// Where a client is. Only processes of this host may register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    ThisHost,
    Elsewhere,
}

impl Origin {
    /// A peer is on this host when it has a loopback address or the one it reached us at.
    fn of(peer: IpAddr, own: IpAddr) -> Self {
        let (peer, own) = (peer.to_canonical(), own.to_canonical());
        if peer.is_loopback() || peer == own { Self::ThisHost } else { Self::Elsewhere }
    }
}

/// Why a connection was closed before its request was served; only for the log.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    BadRequest(#[from] protocol::BadRequest),
    #[error("a registration from another host")]
    NotThisHost,
    #[error("no request within {} s", IDLE_TIME.as_secs())]
    Idle,
    #[error("others needed its place")]
    Evicted,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves one connection of an EPMD that nobody else asks, until it ends. For [`fuzzing`](crate::fuzzing).
#[doc(hidden)]
pub async fn serve_alone<S>(stream: S, from_this_host: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let origin = if from_this_host { Origin::ThisHost } else { Origin::Elsewhere };
    let Some(place) = Place::take(&Arc::default()) else { return };
    let _ = serve(stream, Client { origin, asked_port: 4369 }, place).await;
}

/// Serves one connection: one request, and if that was a registration, holds it until the peer
/// closes or says anything more.
async fn serve<S>(mut stream: S, client: Client, mut place: Place) -> Result<(), Closed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::clone(place.shared());
    let registered = tokio::select! {
        // Either way the connection is over, so a half-read request is no loss.
        () = place.evicted() => return Err(Closed::Evicted),
        registered = converse(&mut stream, client, &shared) => registered?,
    };
    let Some(registered) = registered else { return Ok(()) };
    // From here on it's no idle connection that may be closed for another.
    drop(place);
    // Whatever this returns, a byte, the end or an error: the registration is over.
    let _ = stream.read(&mut [0]).await;
    info!("epmd: {} is gone", registered.name());
    Ok(())
}

/// Reads the request and answers it. `Some` when the connection now stands for a node.
async fn converse<S>(
    stream: &mut S,
    client: Client,
    shared: &Arc<Shared>,
) -> Result<Option<Registered>, Closed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (request, rest) = timeout(IDLE_TIME, receive(stream)).await.map_err(|_| Closed::Idle)??;
    let mut registered = None;
    let reply = match request {
        Request::Register(_) | Request::RegisterBadName { .. }
            if client.origin == Origin::Elsewhere =>
        {
            return Err(Closed::NotThisHost);
        }
        Request::Register(node) => {
            let (highest_version, port) = (node.highest_version, node.port);
            registered = Registered::new(shared, node);
            if let Some(registered) = &registered {
                info!("epmd: {} is at port {port}", registered.name());
            }
            let creation = registered.as_ref().map(Registered::creation);
            protocol::register_reply(highest_version, creation)
        }
        Request::RegisterBadName { highest_version } => {
            protocol::register_reply(highest_version, None)
        }
        Request::Lookup { name } => protocol::lookup_reply(shared.lock().node(&name)),
        Request::Names => protocol::names_reply(client.asked_port, shared.lock().nodes()),
    };
    timeout(IDLE_TIME, async {
        stream.write_all(&reply).await?;
        stream.flush().await?;
        // Answered in full before the close, which would else be a reset if bytes are left unread.
        if registered.is_none() { stream.shutdown().await } else { Ok(()) }
    })
    .await
    .map_err(|_| Closed::Idle)??;
    // A byte after the request unregisters, also one that came together with it.
    Ok(registered.filter(|_| rest == 0))
}

/// The request, and how many bytes came behind it.
async fn receive<S>(stream: &mut S) -> Result<(Request, usize), Closed>
where
    S: AsyncRead + Unpin,
{
    let mut received = Vec::new();
    loop {
        if let Some((request, used)) = protocol::read_request(&received)? {
            return Ok((request, received.len() - used));
        }
        // Never 0: with that many bytes the request is complete.
        let most = (2 + protocol::MAX_REQUEST).saturating_sub(received.len());
        if (&mut *stream).take(most as u64).read_buf(&mut received).await? == 0 {
            return Err(Closed::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::state::MAX_CONNECTIONS;
    use super::*;

    /// A client on the other end of a served connection.
    struct Conversation {
        client: DuplexStream,
        served: JoinHandle<Result<(), Closed>>,
    }

    impl Conversation {
        fn new(shared: &Arc<Shared>, origin: Origin) -> Self {
            let (client, stream) = duplex(64 * 1024);
            let place = Place::take(shared).expect("a place is free");
            let served = tokio::spawn(serve(stream, Client { origin, asked_port: 4369 }, place));
            Self { client, served }
        }

        async fn says(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.unwrap();
        }

        async fn hears(&mut self, count: usize) -> Vec<u8> {
            let mut heard = vec![0; count];
            self.client.read_exact(&mut heard).await.unwrap();
            heard
        }

        /// All that comes until the server closes.
        async fn hears_the_rest(&mut self) -> Vec<u8> {
            let mut heard = Vec::new();
            self.client.read_to_end(&mut heard).await.unwrap();
            heard
        }

        async fn end(self) -> Result<(), Closed> {
            self.served.await.unwrap()
        }
    }

    fn register(name: &str) -> Vec<u8> {
        let mut body = vec![120, 0, 80, 77, 0, 0, 6, 0, 5];
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name.as_bytes());
        body.extend([0, 0]);
        [&(body.len() as u16).to_be_bytes()[..], &body].concat()
    }

    fn names(shared: &Shared) -> Vec<String> {
        shared.lock().nodes().map(|node| node.name.clone()).collect()
    }

    #[tokio::test]
    async fn a_name_lives_as_long_as_its_connection() {
        let shared = Arc::default();
        let mut node = Conversation::new(&shared, Origin::ThisHost);
        node.says(&register("a")).await;
        assert_eq!(node.hears(2).await, [118, 0]);
        assert_eq!(names(&shared), ["a"]);

        drop(node.client);
        node.served.await.unwrap().unwrap();
        assert_eq!(names(&shared), [""; 0]);
    }

    #[tokio::test]
    async fn a_byte_after_the_registration_ends_it() {
        let shared = Arc::default();
        let mut node = Conversation::new(&shared, Origin::ThisHost);
        node.says(&register("a")).await;
        node.hears(6).await;
        node.says(&[0]).await;
        assert_eq!(node.hears_the_rest().await, b"");
        node.end().await.unwrap();
        assert_eq!(names(&shared), [""; 0]);

        let mut hasty = Conversation::new(&shared, Origin::ThisHost);
        hasty.says(&[&register("b")[..], b"x"].concat()).await;
        assert_eq!(hasty.hears_the_rest().await[..2], [118, 0]);
        hasty.end().await.unwrap();
        assert_eq!(names(&shared), [""; 0]);
    }

    #[tokio::test]
    async fn a_taken_name_is_refused_and_its_owner_keeps_it() {
        let shared = Arc::default();
        let mut first = Conversation::new(&shared, Origin::ThisHost);
        first.says(&register("a")).await;
        first.hears(6).await;
        let mut second = Conversation::new(&shared, Origin::ThisHost);
        second.says(&register("a")).await;
        assert_eq!(second.hears_the_rest().await, [118, 1, 0, 0, 0, 99]);
        second.end().await.unwrap();
        assert_eq!(names(&shared), ["a"]);
    }

    #[tokio::test]
    async fn no_two_registrations_get_the_same_creation() {
        let shared = Arc::default();
        let mut creations = Vec::new();
        for name in ["a", "a", "b", "a"] {
            let mut node = Conversation::new(&shared, Origin::ThisHost);
            node.says(&register(name)).await;
            creations.push(node.hears(6).await);
            drop(node.client);
            node.served.await.unwrap().unwrap();
        }
        creations.sort();
        creations.dedup();
        assert_eq!(creations.len(), 4);
    }

    #[tokio::test]
    async fn strangers_look_up_but_do_not_register() {
        let shared = Arc::default();
        let mut node = Conversation::new(&shared, Origin::ThisHost);
        node.says(&register("a")).await;
        node.hears(6).await;

        let mut stranger = Conversation::new(&shared, Origin::Elsewhere);
        stranger.says(&register("b")).await;
        assert_eq!(stranger.hears_the_rest().await, b"");
        assert!(matches!(stranger.end().await, Err(Closed::NotThisHost)));

        let mut stranger = Conversation::new(&shared, Origin::Elsewhere);
        stranger.says(&[0, 2, 122, b'a']).await;
        assert_eq!(stranger.hears_the_rest().await[..4], [119, 0, 0, 80]);

        let mut stranger = Conversation::new(&shared, Origin::Elsewhere);
        stranger.says(&[0, 1, 110]).await;
        assert_eq!(stranger.hears_the_rest().await, b"\0\0\x11\x11name a at port 80\n");
    }

    #[test]
    fn a_peer_is_local_by_loopback_or_by_our_own_address() {
        let of = |peer: &str, own: &str| Origin::of(peer.parse().unwrap(), own.parse().unwrap());
        assert_eq!(of("127.0.0.1", "127.0.0.1"), Origin::ThisHost);
        assert_eq!(of("127.8.9.1", "10.0.0.1"), Origin::ThisHost);
        assert_eq!(of("::1", "::1"), Origin::ThisHost);
        assert_eq!(of("::ffff:127.0.0.1", "::ffff:127.0.0.1"), Origin::ThisHost);
        assert_eq!(of("10.0.0.1", "10.0.0.1"), Origin::ThisHost);
        assert_eq!(of("::ffff:10.0.0.1", "10.0.0.1"), Origin::ThisHost);
        assert_eq!(of("10.0.0.2", "10.0.0.1"), Origin::Elsewhere);
        assert_eq!(of("::ffff:10.0.0.2", "::ffff:10.0.0.1"), Origin::Elsewhere);
        assert_eq!(of("fe80::2", "fe80::1"), Origin::Elsewhere);
    }

    #[tokio::test]
    async fn junk_and_commands_against_the_server_get_no_answer() {
        let shared = Arc::default();
        let over_2_kib = [8, 1];
        for request in [
            &[0, 1, 107][..],
            &[0, 1, 100],
            b"\0\x02sa",
            b"GET / HTTP/1.1\r\n",
            &[0, 0],
            &over_2_kib,
        ] {
            let mut client = Conversation::new(&shared, Origin::ThisHost);
            client.says(request).await;
            assert_eq!(client.hears_the_rest().await, b"", "{request:?}");
            assert!(matches!(client.end().await, Err(Closed::BadRequest(_))), "{request:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_trickling_end_after_ten_seconds() {
        let shared = Arc::default();
        let start = Instant::now();
        let mut silent = Conversation::new(&shared, Origin::ThisHost);
        assert_eq!(silent.hears_the_rest().await, b"");
        assert!(matches!(silent.end().await, Err(Closed::Idle)));
        assert_eq!(start.elapsed().as_secs(), 10);

        let start = Instant::now();
        let Conversation { mut client, served } = Conversation::new(&shared, Origin::ThisHost);
        let trickle = tokio::spawn(async move {
            for byte in register("a-name-of-many-bytes") {
                if client.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(matches!(served.await.unwrap(), Err(Closed::Idle)));
        assert_eq!(start.elapsed().as_secs(), 10);
        trickle.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_registered_node_may_be_silent_for_ever() {
        let shared = Arc::default();
        let mut node = Conversation::new(&shared, Origin::ThisHost);
        node.says(&register("a")).await;
        node.hears(6).await;
        tokio::time::advance(Duration::from_secs(86_400)).await;
        tokio::task::yield_now().await;
        assert_eq!(names(&shared), ["a"]);
    }

    #[tokio::test]
    async fn the_longest_idle_connection_makes_room_and_nodes_stay() {
        let shared = Arc::default();
        let mut node = Conversation::new(&shared, Origin::ThisHost);
        node.says(&register("a")).await;
        node.hears(6).await;
        // The place of a node counts as a node once its task has run on.
        while shared.lock().idle_connections() > 0 {
            tokio::task::yield_now().await;
        }
        let oldest = Conversation::new(&shared, Origin::ThisHost);
        let second = Conversation::new(&shared, Origin::ThisHost);
        let _others: Vec<_> = (3..MAX_CONNECTIONS)
            .map(|_| Place::take(&shared).expect("a place is free or can be freed"))
            .collect();

        let mut newest = Conversation::new(&shared, Origin::ThisHost);
        assert!(matches!(oldest.end().await, Err(Closed::Evicted)));
        newest.says(&[0, 2, 122, b'a']).await;
        assert_eq!(newest.hears_the_rest().await[..2], [119, 0]);
        assert!(!second.served.is_finished());
        assert_eq!(names(&shared), ["a"]);
    }

    #[tokio::test]
    async fn a_port_somebody_listens_on_is_not_taken() {
        let first = EpmdServer::bind(&[([127, 0, 0, 1], 0).into()]).await.unwrap();
        let address = first.addresses()[0];
        let error = EpmdServer::bind(&[address]).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { address: at } if at == address), "{error}");
        assert_eq!(
            error.to_string(),
            format!(
                "{address} is taken, most likely by a running EPMD; use that one or another port"
            )
        );

        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        let error = EpmdServer::bind(&[everywhere]).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
    }

    #[tokio::test]
    async fn dropping_the_server_frees_its_port() {
        let first = EpmdServer::bind(&[([127, 0, 0, 1], 0).into()]).await.unwrap();
        let address = first.addresses()[0];
        let mut client = TcpStream::connect(address).await.unwrap();
        drop(first);
        // A reset is as good an end as any.
        let _ = client.read_to_end(&mut Vec::new()).await;
        EpmdServer::bind(&[address]).await.unwrap();
    }
}

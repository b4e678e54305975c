//! What a node is told before it starts; every default with its reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::connection::socket::Transport;
use super::cookie::Cookie;
use super::resolve::Lookup;
use crate::discovery::{Discovery, EpmdHost, Resolve, Resolver, Source};
use crate::epmd::Epmd;
use crate::term::{BadNodeName, NodeName};

/// How other nodes see us.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Visibility {
    /// In `nodes()` of every node connected to us; scopes greet us.
    #[default]
    Visible,
    /// Only in `nodes(hidden)`; nothing is sent to us unasked. Just as good a member: we greet.
    Hidden,
}

/// Settings of a node. Made by [`NodeConfig::new`], changed by the methods of the settings' names.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use data_publisher::{Cookie, NodeConfig};
///
/// let config = NodeConfig::new("rust1@127.0.0.1")?.cookie(Cookie::new("secret")?).hidden();
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub(crate) name: NodeName,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) cookies: Vec<(NodeName, Cookie)>,
    pub(crate) visibility: Visibility,
    pub(crate) transport: Transport,
    pub(crate) port: Option<u16>,
    pub(crate) listen: Option<IpAddr>,
    pub(crate) epmd_port: u16,
    pub(crate) embedded_epmd: bool,
    pub(crate) dist_port: Option<u16>,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) seeds: Vec<NodeName>,
    pub(crate) epmd_hosts: Vec<String>,
    pub(crate) sources: Vec<Source>,
    pub(crate) mesh: bool,
    pub(crate) limits: Limits,
}

impl NodeConfig {
    /// The settings of a node of this name, `name@host`; all others at their defaults.
    ///
    /// # Errors
    ///
    /// [`BadNodeName`] when the name isn't `name@host`.
    pub fn new<N>(name: N) -> Result<Self, BadNodeName>
    where
        N: TryInto<NodeName>,
        BadNodeName: From<N::Error>,
    {
        Ok(Self {
            name: name.try_into()?,
            cookie: None,
            cookies: Vec::new(),
            visibility: Visibility::default(),
            transport: Transport::default(),
            port: None,
            listen: None,
            epmd_port: Epmd::default_port(),
            embedded_epmd: true,
            dist_port: None,
            resolver: None,
            seeds: Vec::new(),
            epmd_hosts: Vec::new(),
            sources: Vec::new(),
            mesh: true,
            limits: Limits::default(),
        })
    }

    /// The cluster's cookie. Default: from the environment, else from the file in the home folder,
    /// as `erl` has it.
    #[must_use]
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// The cookie for one peer, as `erlang:set_cookie/2`.
    #[must_use]
    pub fn cookie_for(mut self, peer: NodeName, cookie: Cookie) -> Self {
        self.cookies.push((peer, cookie));
        self
    }

    /// Be a hidden node. Default: visible.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.visibility = Visibility::Hidden;
        self
    }

    /// Be visible or hidden.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Connect by TLS, to nodes with `-proto_dist inet_tls`, and only to those. Default: plain TCP.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: super::tls::Tls) -> Self {
        self.transport = Transport::Tls(tls);
        self
    }

    /// The TCP port other nodes dial. Default: that of [`dist_port`](Self::dist_port), else 0, any free
    /// one; EPMD tells it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The TCP port of every node of the cluster, and ours: there's no EPMD, we ask none and are
    /// registered in none. As `erl -erl_epmd_port PORT -start_epmd false`, and `ERL_DIST_PORT` of
    /// Elixir's releases.
    #[must_use]
    pub fn dist_port(mut self, port: u16) -> Self {
        self.dist_port = Some(port);
        self
    }

    /// Says where nodes take connections; then there's no EPMD, as with [`dist_port`](Self::dist_port),
    /// and those others who should find us have to know our [`port`](Self::port).
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Resolver(Arc::new(resolver)));
        self
    }

    /// The address to listen at. Default: the name's host part if that is a loopback address,
    /// else all addresses, as the BEAM does.
    #[must_use]
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// The port of EPMD, here and on all hosts. Default: `ERL_EPMD_PORT`, else 4369.
    #[must_use]
    pub fn epmd_port(mut self, port: u16) -> Self {
        self.epmd_port = port;
        self
    }

    /// Whether to run an EPMD of our own when nothing answers on its port as we start. Default yes.
    /// It ends with the node.
    #[must_use]
    pub fn embedded_epmd(mut self, embedded: bool) -> Self {
        self.embedded_epmd = embedded;
        self
    }

    /// A node to connect to, and to connect to again, for as long as we run.
    #[must_use]
    pub fn seed(mut self, node: NodeName) -> Self {
        self.seeds.push(node);
        self
    }

    /// A host whose nodes to connect to: all that are registered in its EPMD, now and later. May be
    /// given several times.
    #[must_use]
    pub fn epmd_host(mut self, host: impl Into<String>) -> Self {
        self.epmd_hosts.push(host.into());
        self
    }

    /// A source of nodes to connect to, as [`Dns`](crate::discovery::Dns). May be given several times.
    #[must_use]
    pub fn discovery(mut self, source: impl Discovery + 'static) -> Self {
        self.sources.push(Source(Arc::new(source)));
        self
    }

    /// Whether to connect to all nodes that connected ones know, as `-connect_all` does. Default
    /// yes: nobody tells new BEAM nodes of us, so a scope is whole only if we look for them.
    #[must_use]
    pub fn mesh(mut self, mesh: bool) -> Self {
        self.mesh = mesh;
        self
    }

    /// The bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Who says where nodes are.
    pub(crate) fn lookup(&self) -> Lookup {
        match (&self.resolver, self.dist_port) {
            (Some(resolver), _) => Lookup::Own(resolver.clone()),
            (None, Some(port)) => Lookup::Port(port),
            (None, None) => Lookup::Epmd(Epmd::new(self.epmd_port)),
        }
    }

    /// The port to listen at, 0 for any.
    pub(crate) fn own_port(&self) -> u16 {
        self.port.or(self.dist_port).unwrap_or(0)
    }

    /// All sources of nodes.
    pub(crate) fn all_sources(&self) -> Vec<Source> {
        let epmd = Epmd::new(self.epmd_port);
        let host = |host: &String| Source(Arc::new(EpmdHost::new(host, epmd)));
        self.epmd_hosts.iter().map(host).chain(self.sources.iter().cloned()).collect()
    }
}

/// Bounds in memory and time.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes queued for one peer above which [`Node::send`](super::Node::send) waits. Default 1
    /// MiB, as `+zdbbl` has it.
    pub soft_mark: usize,
    /// Bytes queued for one peer above which it is shed, if its socket takes none of them for a second,
    /// or at four times as many: the connection closes and both sides start over. Messages above
    /// the soft mark don't count: they are snapshots, one for each scope when peers meet, and a scope
    /// whose snapshot sheds its peer would never sync; `stall_time` and `all_queues` bound them. Default
    /// 16 MiB: 16 stopped peers then hold no more than all queues may.
    pub hard_mark: usize,
    /// Bytes queued for all peers; above it the longest queue is shed. Default 256 MiB.
    pub all_queues: usize,
    /// Bytes received over one connection and not yet handled by the processes they went to; above
    /// it the connection closes. Messages above the soft mark don't count. Default 64 MiB: a million
    /// small messages.
    pub unhandled: usize,
    /// The same of messages above the soft mark; a lone one may be larger. Default 256 MiB.
    pub unhandled_large: usize,
    /// Bytes of one message from a peer. Default 256 MiB: a snapshot of a million groups is one
    /// message of about 70 MB.
    pub message: usize,
    /// Messages from one peer that have begun to come in fragments and aren't complete; above it the
    /// connection closes. Default 65,536: a BEAM has one for each process that sends something large at
    /// this moment, and the memory is bounded by `fragment_bytes`.
    pub fragmented: usize,
    /// Bytes of these, for each connection, and some 256 for each of them. Default 512 MiB: two of the
    /// largest.
    pub fragment_bytes: usize,
    /// Silence until a peer counts as gone, give or take a quarter. Default 60 s, as
    /// `net_ticktime`.
    pub tick_time: Duration,
    /// Silence of ours after which we send a tick. Default 5 s: a peer doesn't tell its tick time,
    /// and drops us after three quarters of it; this suits a `net_ticktime` of 8 s and more.
    pub tick_interval: Duration,
    /// How long a peer's socket may take no byte while something is queued. Default 15 s; coming
    /// back costs only a fresh snapshot.
    pub stall_time: Duration,
    /// How long connecting to a node may take, from look-up to the last word of the handshake; also
    /// how long a peer that dials us may take. Default 7 s, as `net_setuptime`.
    pub setup_time: Duration,
    /// Connections being accepted and not yet authenticated; the newest is refused. Default 128,
    /// the BEAM's listen backlog.
    pub handshakes: usize,
    /// Connections that are up; above it peers are refused by `not_allowed`. Default 1,024.
    pub connections: usize,
    /// Monitors and links that one connection's peer may hold on our processes, each; above it the
    /// connection closes. Default 65,536.
    pub watches: usize,
    /// Events a subscriber of a scope may be behind; then it gets `Lagged` and a fresh snapshot once it
    /// has caught up. At least 1. Default 10,000: some megabytes, and no burst of ordinary life.
    pub subscriber: usize,
    /// The longest pause before a node is dialled again that can't be reached; pauses double from a second,
    /// give or take a fifth. Default 30 s: nobody waits long for a node that returns, and a cluster that
    /// comes up doesn't meet a herd.
    pub redial_time: Duration,
}

impl Limits {
    /// With times that clocks can add, a year being as good as for ever, and room for an event at least.
    pub(crate) fn in_reason(mut self) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        /// Far below what a channel can hold at most.
        const MOST_EVENTS: usize = 1 << 30;
        for time in [
            &mut self.tick_time,
            &mut self.tick_interval,
            &mut self.stall_time,
            &mut self.setup_time,
            &mut self.redial_time,
        ] {
            *time = (*time).clamp(Duration::from_millis(1), YEAR);
        }
        self.subscriber = self.subscriber.clamp(1, MOST_EVENTS);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            soft_mark: 1 << 20,
            hard_mark: 16 << 20,
            all_queues: 256 << 20,
            unhandled: 64 << 20,
            unhandled_large: 256 << 20,
            message: 256 << 20,
            fragmented: 65_536,
            fragment_bytes: 512 << 20,
            tick_time: Duration::from_secs(60),
            tick_interval: Duration::from_secs(5),
            stall_time: Duration::from_secs(15),
            setup_time: Duration::from_secs(7),
            handshakes: 128,
            connections: 1024,
            watches: 65_536,
            subscriber: 10_000,
            redial_time: Duration::from_secs(30),
        }
    }
}

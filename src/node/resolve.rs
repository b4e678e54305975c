//! From a node's name to a socket that is connected to it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::ConnectError;
use crate::discovery::Resolver;
use crate::epmd::Epmd;
use crate::term::NodeName;

/// Who says where nodes take connections.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// EPMD on each node's host, in which we are registered.
    Epmd(Epmd),
    /// Nobody: all have the same port. As `erl -erl_epmd_port`.
    Port(u16),
    /// The user's own.
    Own(Resolver),
}

impl Lookup {
    /// Connects to where a node takes connections; host names are looked up by the system, and each
    /// address is tried.
    pub(crate) async fn dial(&self, peer: &NodeName) -> Result<TcpStream, ConnectError> {
        let node = || peer.clone();
        let connected = match self {
            Self::Epmd(epmd) => {
                let found = epmd.lookup(peer.host(), peer.short()).await;
                let found = found
                    .map_err(|source| ConnectError::Epmd { node: node(), source: source.into() })?;
                let port = found.ok_or_else(|| ConnectError::NoSuchNode { node: node() })?.port;
                TcpStream::connect((peer.host(), port)).await
            }
            Self::Port(port) => TcpStream::connect((peer.host(), *port)).await,
            Self::Own(resolver) => {
                let failed = |source: io::Error| ConnectError::Resolver {
                    node: node(),
                    source: Arc::new(source),
                };
                let found = resolver.0.address(peer).await.map_err(failed)?;
                let unknown = || ConnectError::Unresolved { node: node() };
                TcpStream::connect(found.ok_or_else(unknown)?).await
            }
        };
        connected.map_err(|source| ConnectError::Io { node: node(), source: source.into() })
    }

    /// EPMD, if that's where nodes are registered.
    pub(crate) fn epmd(&self) -> Option<Epmd> {
        match self {
            Self::Epmd(epmd) => Some(*epmd),
            Self::Port(_) | Self::Own(_) => None,
        }
    }
}

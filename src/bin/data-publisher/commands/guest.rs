//! A node of ours for one question: it connects to the node that is asked, and to no other.

use std::time::Duration;

use anyhow::Context;
use data_publisher::Node;
use data_publisher::epmd::Epmd;
use data_publisher::node::ConnectError;
use data_publisher::term::NodeName;

use crate::args::Guest;

/// A node that doesn't answer counts as absent after this.
const LIMIT: Duration = Duration::from_millis(7500);

/// Why we aren't connected.
pub(super) enum Absent {
    /// The node can't be reached.
    Peer(ConnectError),
    /// We can't start.
    Us(anyhow::Error),
}

/// A node of ours that is connected to this one; `what` it does is part of its name.
pub(super) async fn connect(guest: &Guest, what: &str, peer: &NodeName) -> Result<Node, Absent> {
    let name = match &guest.name {
        Some(name) => name.clone(),
        None => own_name(what, peer).map_err(Absent::Us)?,
    };
    // At any port of ours: nobody needs to find us.
    let config = guest.access.config(&name).map_err(Absent::Us)?.mesh(false).port(0);
    if guest.access.dist_port.is_none() {
        // Asked before we may have started an EPMD of our own, which knows nobody.
        let epmd = Epmd::new(guest.access.epmd_port);
        match epmd.lookup(peer.host(), peer.short()).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Absent::Peer(ConnectError::NoSuchNode { node: peer.clone() })),
            Err(source) => {
                let (node, source) = (peer.clone(), source.into());
                return Err(Absent::Peer(ConnectError::Epmd { node, source }));
            }
        }
    }
    let node = data_publisher::start(config).await.map_err(|error| Absent::Us(error.into()))?;
    let error = match tokio::time::timeout(LIMIT, node.connect(peer)).await {
        Ok(Ok(())) => return Ok(node),
        Ok(Err(error)) => error,
        Err(_) => ConnectError::Timeout { node: peer.clone() },
    };
    node.stop().await;
    Err(Absent::Peer(error))
}

/// A name that nobody has. The host must be one of ours, since the peer may dial back; at a
/// loopback address that is the peer's own.
pub(super) fn own_name(what: &str, peer: &NodeName) -> anyhow::Result<NodeName> {
    let host = match peer.host().parse::<std::net::IpAddr>() {
        Ok(address) if !address.is_loopback() => "127.0.0.1",
        _ => peer.host(),
    };
    NodeName::new(&format!("{what}{}@{host}", std::process::id())).context("own name")
}

/// For who can do nothing without the node.
impl From<Absent> for anyhow::Error {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::Peer(error) => error.into(),
            Absent::Us(error) => error,
        }
    }
}

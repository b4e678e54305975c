//! Which nodes there are, and where: sources of names, and ways from a name to an address.
//!
//! A [`Discovery`] names nodes to connect to; a node asks each of its sources again and again, and the
//! ones that fail don't hinder the others. [`EpmdHost`] lists what is registered on a host, [`Dns`]
//! what a name in the DNS stands for. Which nodes connected ones know is the search's own affair
//! (`kernel`).
//!
//! A [`Resolve`] says at which address a node takes connections, where that isn't EPMD's to say.

mod dns;
mod epmd;
mod stub;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

pub use dns::Dns;
pub use epmd::EpmdHost;

use crate::term::NodeName;

/// What the methods of these traits return: `Box::pin(async move { .. })`.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// A source of nodes to connect to.
///
/// It's asked when our node starts and then every 5 s, give or take a fifth; after an error in 1 s
/// doubling to 30 s. An answer may have our own node and nodes that are connected, and lack such as
/// still are there: names are only ever added. One that takes over 30 s is given up.
///
/// Any `Fn() -> Future` of the right output is one:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use data_publisher::NodeConfig;
/// use data_publisher::term::NodeName;
///
/// async fn from_a_file() -> std::io::Result<Vec<NodeName>> {
///     let names = tokio::task::spawn_blocking(|| std::fs::read_to_string("/etc/nodes")).await??;
///     Ok(names.lines().filter_map(|name| name.parse().ok()).collect())
/// }
/// let config = NodeConfig::new("rust1@127.0.0.1")?.discovery(from_a_file);
/// # Ok(()) }
/// ```
pub trait Discovery: Send + Sync {
    /// The nodes known now.
    fn nodes(&self) -> Asked<'_, Vec<NodeName>>;

    /// What the log calls it.
    fn name(&self) -> String {
        "a source of nodes".to_owned()
    }
}

impl<F, A> Discovery for F
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = io::Result<Vec<NodeName>>> + Send + 'static,
{
    fn nodes(&self) -> Asked<'_, Vec<NodeName>> {
        Box::pin(self())
    }
}

/// From a node's name to the address at which it takes connections, instead of EPMD. As a module that
/// `erl -epmd_module` names.
///
/// Any `Fn(&NodeName) -> Option<SocketAddr>` is one.
pub trait Resolve: Send + Sync {
    /// The address; `None` when there's no such node.
    fn address<'a>(&'a self, node: &'a NodeName) -> Asked<'a, Option<SocketAddr>>;
}

impl<F> Resolve for F
where
    F: Fn(&NodeName) -> Option<SocketAddr> + Send + Sync,
{
    fn address<'a>(&'a self, node: &'a NodeName) -> Asked<'a, Option<SocketAddr>> {
        Box::pin(async move { Ok(self(node)) })
    }
}

/// A source, shared.
#[derive(Clone)]
pub(crate) struct Source(pub(crate) Arc<dyn Discovery>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// A resolver, shared.
#[derive(Clone)]
pub(crate) struct Resolver(pub(crate) Arc<dyn Resolve>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resolver")
    }
}

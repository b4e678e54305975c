//! Both sides of EPMD with a peer that is a stream in memory, for [`fuzzing`](crate::fuzzing).

use tokio::io::{AsyncRead, AsyncWrite};

use super::client::client;
pub use super::server::serve_alone;
use super::{EpmdError, NodeInfo};

/// Registers a node; the creation it got.
///
/// # Errors
///
/// [`EpmdError`].
pub async fn register<S>(stream: S, node: NodeInfo) -> Result<u32, EpmdError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let registered = client(stream).register(node.into()).await;
    registered.map(|(_, creation)| creation.get()).map_err(|error| EpmdError::of(error, ""))
}

/// Asks for the node of this name.
///
/// # Errors
///
/// [`EpmdError`].
pub async fn lookup<S>(stream: S, name: &str) -> Result<Option<NodeInfo>, EpmdError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let found = client(stream).get_node(name).await;
    found.map(|node| node.map(NodeInfo::from)).map_err(|error| EpmdError::of(error, ""))
}

/// Asks for all names.
///
/// # Errors
///
/// [`EpmdError`].
pub async fn names<S>(stream: S) -> Result<Vec<(String, u16)>, EpmdError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    client(stream).get_names().await.map_err(|error| EpmdError::of(error, ""))
}

//! The processes other nodes expect to find on a node, and the search for further nodes.
//!
//! Each is a server that ends with the node and not before it: to a node without them calls go
//! unanswered, a ping is a pang that cuts the connection, and `global:sync/0` waits for ever.

mod global;
mod mesh;
mod net_kernel;

use crate::atom;
use crate::gen_server::keep;
use crate::node::{Node, NodeConfig, StartError};

/// Starts a node with the services other nodes expect, registered in EPMD and ready to be dialled.
/// It connects to its seeds by itself, again and again, and to the nodes those know.
///
/// # Errors
///
/// [`StartError`]: no cookie, no port, no EPMD, or the name is taken.
pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (seeds, mesh, sources) = (config.seeds.clone(), config.mesh, config.all_sources());
    let node = Node::start(config).await?;
    keep(&node, atom!("net_kernel"), || net_kernel::NetKernel);
    keep(&node, atom!("global_name_server"), || global::Global);
    crate::rpc::start(&node);
    mesh::start(&node, seeds, mesh, sources);
    Ok(node)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::net::TcpListener;

    use super::*;
    use crate::epmd::{Epmd, EpmdServer, NodeKind};
    use crate::node::Cookie;

    #[tokio::test]
    async fn a_dropped_node_is_gone_at_once_even_while_it_dials() {
        let server = EpmdServer::bind_loopback(0).await.unwrap();
        let epmd = Epmd::new(server.port());
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let _silent = epmd.register("silent", port, NodeKind::Visible).await.unwrap();
        let config = NodeConfig::new("a@127.0.0.1").unwrap().cookie(Cookie::new("c").unwrap());
        let config = config.epmd_port(server.port()).seed("silent@127.0.0.1".parse().unwrap());
        let node = start(config).await.unwrap();
        let _dialled = silent.accept().await.unwrap();

        drop(node);

        let deadline = Instant::now() + Duration::from_secs(2);
        while server.nodes().len() > 1 {
            assert!(Instant::now() < deadline, "still registered: {:?}", server.nodes());
            tokio::task::yield_now().await;
        }
    }
}

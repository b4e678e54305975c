//! The processes other nodes expect to find on a node, and the search for further nodes.
//!
//! Each is an ordinary process with a task; all end with the node.

mod global;
mod mesh;
mod net_kernel;

use crate::atom;
use crate::gen_server::{Shown, answer_fixed};
use crate::node::{Node, NodeConfig, Process, Received, StartError};
use crate::term::Atom;

/// Starts a node with the services other nodes expect, registered in EPMD and ready to be dialled.
/// It connects to its seeds by itself, again and again, and to the nodes those know.
///
/// # Errors
///
/// [`StartError`]: no cookie, no port, no EPMD, or the name is taken.
pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (seeds, mesh, sources) = (config.seeds.clone(), config.mesh, config.all_sources());
    let node = Node::start(config).await?;
    serve(&node, atom!("net_kernel"), net_kernel::answer);
    serve(&node, atom!("global_name_server"), global::answer);
    crate::rpc::start(&node);
    mesh::start(&node, seeds, mesh, sources);
    Ok(node)
}

/// A registered process that answers each message by at most one other. Its task ends with the
/// node, or when somebody ends the process.
fn serve<F>(node: &Node, name: Atom, answer: F)
where
    F: Fn(&Process, &crate::term::Term) + Send + 'static,
{
    let mut process = node.spawn();
    node.register(name.clone(), process.pid()).expect("a node that just started has no names yet");
    // Exit signals from peers must not take a service down.
    process.trap_exit(true);
    let stopped = node.stopped();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                received = process.receive() => match received {
                    Some(Received::Message { term, .. }) => {
                        if !answer_fixed(&process, &term, || shown(&name)) {
                            answer(&process, &term);
                        }
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        }
    });
}

/// They have no state of their own.
fn shown(name: &Atom) -> Shown {
    Shown { header: format!("Status for service {name}"), state: name.into() }
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

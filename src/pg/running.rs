//! Tests of `pg` as a process of a node: what needs its task and not only the engine.

use super::Pg;
use crate::atom;
use crate::node::{Cookie, Node, NodeConfig, Process};
use crate::term::Term;

/// A node with an EPMD of its own on a free port.
async fn node() -> Node {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = NodeConfig::new("a@127.0.0.1").unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(port)).await.unwrap()
}

/// A scope and one process to join with.
async fn scope() -> (Node, Pg, Process) {
    let node = node().await;
    let (pg, member) = (Pg::start(&node, atom!("pg")).unwrap(), node.spawn());
    (node, pg, member)
}

#[tokio::test]
async fn readers_see_nothing_of_a_scope_that_has_stopped() {
    let (_node, pg, member) = scope().await;
    pg.join(1, member.pid()).await.unwrap();
    let members = pg.members().clone();
    assert_eq!(members.which_groups(), [Term::from(1)]);

    pg.stop().await;
    assert!(members.which_groups().is_empty());
    assert!(members.get_local_members(&1.into()).is_empty());
}

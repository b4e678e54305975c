//! How a node finds others, with real nodes of each release: hosts, the DNS, sources of a user's own,
//! one port for all nodes instead of EPMD, own resolvers, IPv6.

mod found;
mod without_epmd;

use anyhow::Result;
use data_publisher::term::NodeName;
use data_publisher::{Cookie, Node, NodeConfig};

use crate::support::{ErlNode, SOON, cookie, wait_eval, wait_until};

fn config(name: &str, epmd_port: u16) -> Result<NodeConfig> {
    Ok(NodeConfig::new(name)?.cookie(Cookie::new(cookie())?).epmd_port(epmd_port))
}

/// Waits until nodes are connected to ours, exactly these.
async fn wait_nodes(node: &Node, expected: &[&str]) -> Result<()> {
    wait_until(&format!("{} is connected to {expected:?}", node.name()), SOON, async || {
        let nodes = node.nodes();
        let same = nodes.iter().map(NodeName::as_str).eq(expected.iter().copied());
        if same { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await
}

/// Both can send to each other over a connection that either has made.
async fn talks(beam: &ErlNode, node: &Node) -> Result<()> {
    wait_eval(beam, &format!("lists:member('{}', nodes())", node.name()), "true", SOON).await?;
    let mut process = node.spawn();
    node.register(data_publisher::atom!("listener"), process.pid())?;
    let send = format!("{{listener, '{}'}} ! {{hello, node()}}, ok", node.name());
    assert_eq!(beam.eval(&send).await?, "ok");
    let received = tokio::time::timeout(SOON, process.receive()).await?;
    let message = received.map(|received| received.into_term().to_string());
    assert_eq!(message, Some(format!("{{hello,'{}'}}", beam.name())));
    Ok(())
}

//! Where nodes are, when EPMD doesn't say it; and over IPv6, where it does.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use data_publisher::node::ConnectError;
use data_publisher::term::NodeName;

use super::{config, talks, wait_nodes};
use crate::cli::Cli;
use crate::otp::on_each_release;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, free_port, wait_eval};

on_each_release! {
    one_port_for_all_nodes_needs_no_epmd
    a_resolver_of_ones_own_says_where_nodes_are
    nodes_meet_over_ipv6
}

async fn one_port_for_all_nodes_needs_no_epmd(otp: Otp) -> Result<()> {
    // Nobody listens at EPMD's port.
    let (port, no_epmd) = (free_port()?, free_port()?);
    let start = async |name: &str, host: &str| {
        let options = ErlNode::options(otp, name, no_epmd).host(host);
        options.arguments(&["-erl_epmd_port", &port.to_string()]).start().await
    };
    let (a, b) = (start("a", "127.0.0.2").await?, start("b", "127.0.0.3").await?);
    let config = config("r@127.0.0.4", no_epmd)?.dist_port(port);
    let rust = data_publisher::start(config.clone().seed(a.name().parse()?)).await?;
    assert_eq!(rust.port(), port);
    wait_nodes(&rust, &["a@127.0.0.2"]).await?;
    talks(&a, &rust).await?;
    // And they dial us, and are found through each other.
    assert_eq!(b.eval("net_adm:ping('r@127.0.0.4')").await?, "pong");
    talks_again(&b, &rust).await?;
    wait_nodes(&rust, &["a@127.0.0.2", "b@127.0.0.3"]).await?;

    let absent = rust.connect("x@127.0.0.9").await.unwrap_err();
    assert!(matches!(absent, ConnectError::Io { .. }), "{absent}");
    // No EPMD of ours was started, either.
    assert!(data_publisher::epmd::Epmd::new(no_epmd).names("127.0.0.1").await.is_err());

    let port = port.to_string();
    let ping = ["ping", a.name(), "--cookie", cookie(), "--dist-port", &port];
    let ended = Cli::run(no_epmd, &[&ping[..], &["--name", "p@127.0.0.5"]].concat()).await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let join = ["join", a.name(), "--name", "j@127.0.0.6", "--cookie", cookie(), "--dist-port"];
    let _join = Cli::start(no_epmd, &[&join[..], &[&port]].concat())?;
    wait_eval(&a, "lists:member('j@127.0.0.6', nodes())", "true", SOON).await?;
    assert_eq!(b.eval("net_adm:ping('j@127.0.0.6')").await?, "pong");
    a.finish().await?;
    b.finish().await
}

/// As [`talks`], where the listener's name is taken.
async fn talks_again(beam: &ErlNode, node: &data_publisher::Node) -> Result<()> {
    node.unregister(&data_publisher::atom!("listener"));
    talks(beam, node).await
}

async fn a_resolver_of_ones_own_says_where_nodes_are(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let port = a.eval("{port, P, _} = erl_epmd:port_please(\"a\", {127,0,0,1}), P").await?;
    let address: SocketAddr = format!("127.0.0.1:{port}").parse()?;
    let no_epmd = free_port()?;
    let resolver = move |node: &NodeName| (node.short() == "a").then_some(address);
    let config = config("r@127.0.0.1", no_epmd)?.resolver(resolver);
    let rust = data_publisher::start(config).await?;
    rust.connect(a.name()).await?;
    talks(&a, &rust).await?;
    let unknown = rust.connect("b@127.0.0.1").await.unwrap_err();
    assert!(matches!(unknown, ConnectError::Unresolved { .. }), "{unknown}");
    a.finish().await
}

async fn nodes_meet_over_ipv6(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let options = ErlNode::options(otp, "a", epmd.port()).host("::1");
    let mut a = options.arguments(&["-proto_dist", "inet6_tcp"]).start().await?;
    let rust = data_publisher::start(config("r@::1", epmd.port())?).await?;
    let client = data_publisher::epmd::Epmd::new(epmd.port());
    let found = client.lookup("::1", "r").await?.context("registered")?;
    assert_eq!(found.port, rust.port());
    // We dial.
    rust.connect("a@::1").await?;
    talks(&a, &rust).await?;
    // We are dialled.
    a.restart().await?;
    wait_eval(&a, "net_adm:ping('r@::1')", "pong", SOON).await?;
    talks_again(&a, &rust).await?;
    // Found by the host, at an address that is the host's and not the name's.
    let config = config("q@::1", epmd.port())?.listen("::".parse()?).mesh(false).epmd_host("::1");
    let other = data_publisher::start(config).await?;
    wait_nodes(&other, &["a@::1", "r@::1"]).await?;
    a.finish().await
}

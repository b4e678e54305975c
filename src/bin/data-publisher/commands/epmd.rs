//! `epmd`: the embedded EPMD in the foreground.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use data_publisher::epmd::EpmdServer;

use crate::args::EpmdArgs;
use crate::{Answer, output};

pub(super) async fn run(args: EpmdArgs) -> anyhow::Result<Answer> {
    let server = if args.address.is_empty() {
        EpmdServer::bind_loopback(args.port).await?
    } else {
        // Nodes of this host register at loopback, whatever else is listened at.
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let all = args.address.iter().any(IpAddr::is_unspecified);
        let loopback = (!all && !args.address.contains(&loopback)).then_some(loopback);
        let addresses = loopback.into_iter().chain(args.address);
        let addresses: Vec<_> = addresses.map(|ip| SocketAddr::new(ip, args.port)).collect();
        EpmdServer::bind(&addresses).await?
    };
    output::say(&format!("epmd on port {}", server.port()))?;
    super::asked_to_end().await;
    drop(server);
    Ok(Answer::Yes)
}

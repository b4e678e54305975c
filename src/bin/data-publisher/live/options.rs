//! Where the page is served, and to whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use clap::Args as Group;
use tokio::net::TcpListener;

use super::server::Server;

#[derive(Debug, Group)]
pub(crate) struct HttpOptions {
    /// Serve the live view: a page, `/metrics`, `/healthz` and `/readyz`. With a port alone at 127.0.0.1; port 0 is
    /// any free one, which is told
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,
    /// Allow --http an address that other hosts can reach. There is no password: they see who is in the cluster,
    /// and the names of groups, or keys and values
    #[arg(long)]
    pub(crate) http_public: bool,
    /// A host name under which the page may be asked for, besides localhost and all IP addresses; may be given several
    /// times
    #[arg(long, value_name = "NAME")]
    pub(crate) http_host: Vec<String>,
}

impl HttpOptions {
    /// Takes the port. `None` if nothing is to be served.
    pub(crate) async fn bind(&self) -> anyhow::Result<Option<Server>> {
        let Some(address) = self.http else {
            anyhow::ensure!(
                !self.http_public && self.http_host.is_empty(),
                "--http-public and --http-host say who may see the page; --http PORT is what serves one"
            );
            return Ok(None);
        };
        anyhow::ensure!(
            address.ip().is_loopback() || self.http_public,
            "--http {address} can be reached from other hosts, and what it shows needs no password. Give --http-public \
             if that is meant, or a loopback address: --http 127.0.0.1:{}",
            address.port()
        );
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "can't listen at {address} for --http; another port will do, and 0 is any free one"
            )
        })?;
        Ok(Some(Server::new(listener, &self.http_host)?))
    }
}

/// `127.0.0.1:9568`, `[::1]:9568`, or a port at 127.0.0.1.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into());
    }
    text.parse()
        .map_err(|_| "it takes a port, or an IP address and a port: 127.0.0.1:9568".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(http: &str, http_public: bool) -> HttpOptions {
        HttpOptions { http: Some(address(http).unwrap()), http_public, http_host: Vec::new() }
    }

    #[test]
    fn a_port_alone_is_one_at_loopback() {
        assert_eq!(address("9568").unwrap(), "127.0.0.1:9568".parse().unwrap());
        assert_eq!(address("[::1]:1").unwrap(), "[::1]:1".parse().unwrap());
        for bad in ["", "localhost:9568", "127.0.0.1", "70000"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn other_hosts_are_let_in_only_on_demand() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = options(address, false).bind().await.unwrap_err().to_string();
            assert!(error.contains("--http-public") && error.contains("127.0.0.1:0"), "{error}");
        }
        assert!(options("127.0.0.1:0", false).bind().await.unwrap().is_some());
        assert!(options("0.0.0.0:0", true).bind().await.unwrap().is_some());
    }
}

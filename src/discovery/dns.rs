//! The nodes that a name in the DNS stands for.

use std::io;
use std::net::{IpAddr, SocketAddr};

use simple_dns::TYPE;
use simple_dns::rdata::RData;
use tokio::net::lookup_host;

use super::stub::Stub;
use super::{Asked, Discovery};
use crate::term::NodeName;

/// The nodes that a name in the DNS stands for, as headless services of Kubernetes have it.
///
/// Addresses are looked up by the system's own means (`/etc/hosts` and all), SRV records and whatever
/// is asked of a [`server`](Self::server) by a question to the name server: those of
/// `/etc/resolv.conf`, with its search list.
#[derive(Clone, Debug)]
pub struct Dns {
    query: String,
    basename: String,
    records: Records,
    server: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Records {
    Addresses,
    Services,
}

impl Dns {
    /// A node `basename@address` for each address (A and AAAA) of the name. As libcluster's `DNSPoll`
    /// and `Kubernetes.DNS`, and `dns_cluster`.
    pub fn addresses(query: impl Into<String>, basename: impl Into<String>) -> Self {
        let (query, basename) = (query.into(), basename.into());
        Self { query, basename, records: Records::Addresses, server: None }
    }

    /// A node `basename@target` for each SRV record of the name. As libcluster's `Kubernetes.DNSSRV`.
    pub fn services(query: impl Into<String>, basename: impl Into<String>) -> Self {
        let (query, basename) = (query.into(), basename.into());
        Self { query, basename, records: Records::Services, server: None }
    }

    /// Asks this name server instead of the system's.
    #[must_use]
    pub fn server(mut self, server: SocketAddr) -> Self {
        self.server = Some(server);
        self
    }

    async fn hosts(&self) -> io::Result<Vec<String>> {
        let stub = match self.server {
            Some(server) => Stub::of(server),
            None if self.records == Records::Addresses => {
                let found = lookup_host((self.query.trim_end_matches('.'), 0)).await?;
                return Ok(found.map(|address| address.ip().to_string()).collect());
            }
            None => Stub::of_the_system().await?,
        };
        match self.records {
            Records::Addresses => {
                let (v4, v6) = tokio::join!(
                    stub.ask(&self.query, TYPE::A, host),
                    stub.ask(&self.query, TYPE::AAAA, host),
                );
                match (v4, v6) {
                    (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
                    // One kind is enough.
                    (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
                    (Err(error), Err(_)) => Err(error),
                }
            }
            Records::Services => stub.ask(&self.query, TYPE::SRV, host).await,
        }
    }
}

/// The host part of a node's name from a record, if the record is of a kind that has one.
fn host(data: &RData<'_>) -> Option<String> {
    match data {
        RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes()).to_string()),
        RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.address.to_be_bytes()).to_string()),
        RData::SRV(srv) => Some(srv.target.to_string().trim_end_matches('.').to_owned()),
        _ => None,
    }
}

impl Discovery for Dns {
    fn nodes(&self) -> Asked<'_, Vec<NodeName>> {
        Box::pin(async {
            let mut hosts = self.hosts().await?;
            hosts.sort_unstable();
            hosts.dedup();
            // A target that is no host name is no node's.
            let node = |host: &String| NodeName::new(&format!("{}@{host}", self.basename)).ok();
            Ok(hosts.iter().filter_map(node).collect())
        })
    }

    fn name(&self) -> String {
        format!("the name {} in the DNS", self.query)
    }
}

//! All nodes that are registered in the EPMD of a host.

use std::io;

use super::{Asked, Discovery};
use crate::epmd::Epmd;
use crate::term::NodeName;

/// The nodes that are registered in the EPMD of a host, as `name@host`. As libcluster's `Epmd` and
/// `LocalEpmd`.
///
/// All of them: a host on which nodes of other clusters run should be searched by other means.
#[derive(Clone, Debug)]
pub struct EpmdHost {
    host: String,
    epmd: Epmd,
}

impl EpmdHost {
    /// The EPMD on this host, at EPMD's port of the cluster. The host is written as in the nodes'
    /// names.
    pub fn new(host: impl Into<String>, epmd: Epmd) -> Self {
        Self { host: host.into(), epmd }
    }
}

impl Discovery for EpmdHost {
    fn nodes(&self) -> Asked<'_, Vec<NodeName>> {
        Box::pin(async {
            let names = self.epmd.names(&self.host).await.map_err(io::Error::other)?;
            let full = |name: &str| NodeName::new(&format!("{name}@{}", self.host)).ok();
            Ok(names.iter().filter_map(|(name, _)| full(name)).collect())
        })
    }

    fn name(&self) -> String {
        format!("EPMD of {}", self.host)
    }
}

//! TLS distribution: Rust nodes and real ones that run with `-proto_dist inet_tls`.

mod meet;
mod plain;
mod refused;
mod rust;

use anyhow::Result;
use data_publisher::Node;

use crate::otp::{Seen, config};
use crate::support::{Certificates, Epmd, ErlNode, Otp, SOON, Security, wait_eval};

/// A BEAM node named `a`, in an EPMD of its own, with such certificates.
async fn erl(
    otp: Otp,
    certificates: &Certificates,
    security: &Security,
) -> Result<(Epmd, ErlNode)> {
    let epmd = Epmd::start_of(otp).await?;
    let node = ErlNode::options(otp, "a", epmd.port()).tls(certificates, security)?.start().await?;
    allow_ends(&node);
    Ok((epmd, node))
}

async fn rust(
    name: &str,
    epmd: &Epmd,
    certificates: &Certificates,
    security: &Security,
    seen: Seen,
) -> Result<Node> {
    let config = config(name, epmd)?.tls(certificates.tls(security)?);
    let config = if seen == Seen::Hidden { config.hidden() } else { config };
    Ok(data_publisher::start(config).await?)
}

/// Waits until a node is connected to nobody, and its `net_kernel` knows: on OTP 25, a dial that comes
/// between the two may fail.
async fn gone(node: &ErlNode) -> Result<()> {
    let state = "{nodes(connected), net_kernel:node_info('r@127.0.0.1', state)}";
    wait_eval(node, state, "{[],{error,bad_node}}", SOON).await
}

/// What OTP 25 logs when a connection ends, by whichever side: one of its two processes may be gone
/// before the supervisor ends it, or before the connection has been made known to it.
pub(crate) fn allow_ends(node: &ErlNode) {
    if node.otp() == Otp::R25 {
        node.allow_crash(
            "tls_dyn_connection_sup}\n    errorContext: shutdown_error\n    reason: noproc",
        );
        node.allow_crash("{shutdown,dist_closed}");
        // As soon as it's there.
        node.allow_crash("[{inet_tls_dist,f_address,");
    }
}

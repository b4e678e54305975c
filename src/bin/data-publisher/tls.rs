//! The options about TLS, for every command that connects to nodes.

use std::path::PathBuf;

use clap::Args as Group;
use data_publisher::NodeConfig;
use data_publisher::node::{Tls, TlsConfigError, TlsOptions, Verify};

/// TLS as `-proto_dist inet_tls` has it. Both directions have the same options, unless a file tells
/// them apart.
#[derive(Debug, Group)]
#[expect(clippy::struct_field_names, reason = "the options are called so")]
#[command(next_help_heading = "TLS, to reach nodes with -proto_dist inet_tls")]
pub(crate) struct TlsArgs {
    /// OTP's option file, that of `-ssl_dist_optfile`; instead of all other --tls options
    #[arg(
        long, value_name = "FILE",
        conflicts_with_all = ["tls_cacertfile", "tls_certfile", "tls_keyfile", "tls_verify"]
    )]
    pub(crate) tls_optfile: Option<PathBuf>,
    /// Our certificate, in PEM: from here on all connections are TLS
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_certfile: Option<PathBuf>,
    /// Its key, in PEM, not encrypted [default: in the file of --tls-certfile]
    #[arg(long, value_name = "FILE", requires = "tls_certfile")]
    pub(crate) tls_keyfile: Option<PathBuf>,
    /// The CAs that sign the certificates of nodes, in PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_certfile",
        required_if_eq("tls_verify", "verify_peer")
    )]
    pub(crate) tls_cacertfile: Option<PathBuf>,
    /// Whether other nodes have to show a certificate that is good [default: `verify_peer`]
    #[arg(long, value_enum, requires = "tls_certfile")]
    pub(crate) tls_verify: Option<VerifyArg>,
}

/// As OTP has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum VerifyArg {
    /// Yes: signed by one of the CAs, in its time, and valid for the host of the node we dial
    VerifyPeer,
    /// No: whoever has the cookie is welcome
    VerifyNone,
}

impl TlsArgs {
    /// The settings of a node with TLS, if that was asked for.
    pub(crate) fn apply(&self, config: NodeConfig) -> Result<NodeConfig, TlsConfigError> {
        Ok(match self.tls()? {
            Some(tls) => config.tls(tls),
            None => config,
        })
    }

    /// Whether connections are TLS.
    pub(crate) fn is_given(&self) -> bool {
        self.tls_optfile.is_some() || self.tls_certfile.is_some()
    }

    fn tls(&self) -> Result<Option<Tls>, TlsConfigError> {
        if let Some(file) = &self.tls_optfile {
            return Tls::from_optfile(file).map(Some);
        }
        let Some(certfile) = &self.tls_certfile else { return Ok(None) };
        let mut both = TlsOptions::new().certfile(certfile);
        if let Some(keyfile) = &self.tls_keyfile {
            both = both.keyfile(keyfile);
        }
        if let Some(cacertfile) = &self.tls_cacertfile {
            both = both.cacertfile(cacertfile);
        }
        let peer = self.tls_verify != Some(VerifyArg::VerifyNone);
        both = both.verify(if peer { Verify::Peer } else { Verify::None });
        Tls::new(both.clone().fail_if_no_peer_cert(peer), both).map(Some)
    }
}

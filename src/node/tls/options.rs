//! The options of one side, by the names they have in OTP.

use std::io;
use std::path::PathBuf;

use crate::term::ParseError;

/// Whether the peer's certificate is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verify {
    /// `verify_peer`: against `cacertfile`, its times, and as client against the host of the node's
    /// name.
    Peer,
    /// `verify_none`: anybody's is taken. The peer still has to own the key of whatever it shows.
    None,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsVersion {
    /// `'tlsv1.2'`
    V1_2,
    /// `'tlsv1.3'`
    V1_3,
}

/// What name a server's certificate has to be valid for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NameCheck {
    /// The host part of the node's name.
    #[default]
    Host,
    /// This one, whatever node is dialled: `{server_name_indication, "cluster.example"}`.
    Is(String),
    /// None: `{server_name_indication, disable}`. Chain and times are checked all the same.
    Off,
}

/// Which side of a connection options are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The one that is dialled.
    Server,
    /// The one that dials.
    Client,
}

/// The options of one side, with the names and, unless a method says otherwise, the defaults of
/// OTP's `ssl`.
///
/// ```
/// use data_publisher::node::{TlsOptions, Verify};
///
/// let server = TlsOptions::new()
///     .cacertfile("ca.pem")
///     .certfile("node.pem")
///     .keyfile("node.key")
///     .verify(Verify::Peer)
///     .fail_if_no_peer_cert(true);
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOptions {
    pub(super) cacertfile: Option<PathBuf>,
    pub(super) certfile: Option<PathBuf>,
    pub(super) keyfile: Option<PathBuf>,
    pub(super) verify: Option<Verify>,
    pub(super) fail_if_no_peer_cert: bool,
    pub(super) versions: Option<Vec<TlsVersion>>,
    pub(super) server_name: Option<NameCheck>,
    pub(super) ciphers: Option<Vec<String>>,
    pub(super) honor_cipher_order: bool,
}

impl TlsOptions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The CAs whose certificates we take, in PEM. Has to be given with [`Verify::Peer`].
    #[must_use]
    pub fn cacertfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.cacertfile = Some(file.into());
        self
    }

    /// Our certificate in PEM, followed by those between it and the CA, if any. Has to be given for
    /// the server.
    #[must_use]
    pub fn certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.certfile = Some(file.into());
        self
    }

    /// Our certificate's key in PEM, not encrypted. Default: it's in `certfile`.
    #[must_use]
    pub fn keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.keyfile = Some(file.into());
        self
    }

    /// Whether the peer's certificate is checked. Default: `verify_peer` for the client, as since
    /// OTP 26 (before, it was `verify_none`), `verify_none` for the server.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = Some(verify);
        self
    }

    /// For the server, with [`Verify::Peer`]: whether a client has to show a certificate. Default
    /// no.
    #[must_use]
    pub fn fail_if_no_peer_cert(mut self, fail: bool) -> Self {
        self.fail_if_no_peer_cert = fail;
        self
    }

    /// The versions of TLS we take. Default: both; OTP 25 to 28 have only 1.2 by default.
    ///
    /// 1.3 is used if the peer has it, and should be: in 1.2 no key is ever replaced. With a suite of
    /// AES-GCM we may send 2^24 records with one, of 16 KiB at most, then the connection ends and comes back
    /// like any that was lost; see [`ciphers`](Self::ciphers).
    ///
    /// In TLS 1.2 a BEAM wants to renegotiate after 2^28 records it has sent. That is refused here,
    /// and the BEAM closes the connection: it comes back like any that was lost. TLS 1.3 has no such
    /// thing.
    #[must_use]
    pub fn versions(mut self, versions: impl IntoIterator<Item = TlsVersion>) -> Self {
        self.versions = Some(versions.into_iter().collect());
        self
    }

    /// For the client: what name the server's certificate has to be valid for, OTP's
    /// `server_name_indication`. Default: the host part of the node's name.
    #[must_use]
    pub fn server_name(mut self, check: NameCheck) -> Self {
        self.server_name = Some(check);
        self
    }

    /// The cipher suites we take, by their names in OTP, IANA or OpenSSL. Default: all of `rustls`,
    /// which are good; in TLS 1.2 those with `CHACHA20_POLY1305` first, whoever dialled, since with them a
    /// connection lasts however much is sent.
    #[must_use]
    pub fn ciphers<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.ciphers = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

/// Why TLS can't be set up as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file can't be read.
    #[error("can't read {}", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has something else than it should.
    #[error("{}: {what}", file.display())]
    BadFile {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An option file is no Erlang term.
    #[error("{}, line {line}", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// Where the term can't be read.
        line: usize,
        /// Why.
        source: ParseError,
    },
    /// An option has to be given.
    #[error("TLS, {side}: {option} is missing{why}")]
    Missing {
        /// Whose.
        side: Side,
        /// Which.
        option: &'static str,
        /// What wants it.
        why: &'static str,
    },
    /// The value of an option, or its being there.
    #[error("TLS, {side}: {option}: {what}")]
    BadOption {
        /// Whose.
        side: Side,
        /// Which, in Erlang syntax.
        option: String,
        /// What is wrong.
        what: String,
    },
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

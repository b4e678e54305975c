//! TLS below the distribution protocol, as `-proto_dist inet_tls` has it: the socket's bytes are
//! encrypted, and nothing else differs but the lengths in the handshake, which have four bytes.
//!
//! [`TlsOptions`] are one side's options, named as in OTP's `ssl_dist_optfile`, and [`Tls`] is both
//! sides' with their files read; [`Tls::from_optfile`] reads OTP's own file. What is checked:
//!
//! - Dialling, we check the peer's certificate: its chain ends in our `cacertfile`, its time has
//!   come and hasn't passed, and it is valid for the host part of the node's name.
//! - Being dialled, we check the same but the name, if the server's options say `verify_peer`. The
//!   certificate isn't tied to the name that the peer then tells: nor is it in OTP.
//!
//! The cookie is asked for as ever, inside.
//!
//! Source: `inet_tls_dist.erl`, `ssl_dist_sup.erl` and `ssl_certificate.erl`, OTP 25 to 29; "Erlang
//! Distribution over TLS" in the guide of `ssl`.

mod error;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod optfile;
#[cfg(feature = "tls")]
mod options;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod verify;

pub use error::TlsError;
#[cfg(feature = "tls")]
pub use options::{NameCheck, Side, TlsConfigError, TlsOptions, TlsVersion, Verify};
#[cfg(feature = "tls")]
pub use session::Tls;

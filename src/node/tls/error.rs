//! Why two nodes didn't come to terms about TLS, in words that say which side has to change what.

use std::fmt;
use std::time::Duration;

/// Why a TLS handshake failed. Each text stands for itself; `its` and `it` are the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TlsError {
    /// No CA of our `cacertfile` has signed its certificate.
    UnknownCa,
    /// Its certificate has expired.
    Expired {
        /// So long ago.
        ago: Duration,
    },
    /// The time of its certificate has yet to come.
    NotYetValid {
        /// In so long.
        in_future: Duration,
    },
    /// Its certificate is valid for other hosts than that of its node name.
    WrongName {
        /// The host part of the node's name, or `server_name_indication`.
        expected: String,
        /// What the certificate has, as `DnsName("b.example")`, `IpAddress(10.0.0.1)`.
        valid_for: Vec<String>,
    },
    /// It has shown no certificate, and `fail_if_no_peer_cert` wants one.
    NoCertificate,
    /// Something else is wrong with its certificate.
    BadCertificate {
        /// What.
        what: String,
    },
    /// It has ended the handshake by an alert: mostly, since it doesn't like our certificate.
    Refused {
        /// The alert's name, as in the RFCs: `unknown_ca`.
        alert: String,
    },
    /// No version of TLS, cipher suite or the like that both sides take.
    NothingInCommon {
        /// Of what.
        what: String,
    },
    /// What it sends isn't TLS.
    NotTls,
    /// It has taken the connection, and then said nothing.
    NoAnswer,
    /// It has closed the connection in the middle of the handshake.
    Closed,
    /// The host part of its node name can't stand in a certificate.
    BadHost {
        /// The host part.
        host: String,
    },
    /// Otherwise.
    Other {
        /// How.
        what: String,
    },
}

impl TlsError {
    /// Tells apart what a line in the log each is worth, without what a stranger may choose.
    pub(crate) fn kind(&self) -> String {
        format!("{:?}", std::mem::discriminant(self))
    }

    /// Whether it's this what an error of the stream is about.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn in_stream(_: &std::io::Error) -> Option<Self> {
        None
    }
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCa => {
                f.write_str("its certificate isn't signed by a CA of our cacertfile")
            }
            Self::Expired { ago } => write!(f, "its certificate expired {} ago", Span(*ago)),
            Self::NotYetValid { in_future } => {
                write!(f, "its certificate will be valid in {}", Span(*in_future))
            }
            Self::WrongName { expected, valid_for } if valid_for.is_empty() => {
                write!(f, "its certificate isn't valid for {expected}: it has no subjectAltName")
            }
            Self::WrongName { expected, valid_for } => write!(
                f,
                "its certificate isn't valid for {expected}, only for {}",
                valid_for.join(", ")
            ),
            Self::NoCertificate => f.write_str("it has shown no certificate"),
            Self::BadCertificate { what } => write!(f, "its certificate can't be used: {what}"),
            Self::Refused { alert } => match meaning(alert) {
                Some(meaning) => write!(f, "it refused us by the TLS alert {alert}: {meaning}"),
                None => write!(f, "it refused us by the TLS alert {alert}"),
            },
            Self::NothingInCommon { what } => {
                write!(f, "it and we have nothing of TLS in common: {what}")
            }
            Self::NotTls => {
                f.write_str("it doesn't speak TLS; does it run with -proto_dist inet_tls?")
            }
            Self::NoAnswer => f.write_str(
                "it didn't answer in TLS in time; does it run with -proto_dist inet_tls?",
            ),
            Self::Closed => f.write_str("it closed the connection during the TLS handshake"),
            Self::BadHost { host } => {
                write!(f, "no certificate can be valid for the host {host:?}")
            }
            Self::Other { what } => write!(f, "TLS failed: {what}"),
        }
    }
}

/// What a BEAM wants to say by an alert.
fn meaning(alert: &str) -> Option<&'static str> {
    Some(match alert {
        "unknown_ca" => "no CA of its cacertfile has signed our certificate",
        "certificate_expired" => "our certificate has expired, or will be valid later",
        "certificate_required" => "it wants a certificate of us",
        "handshake_failure" => {
            "our certificate isn't valid for our host, or it wants one and we have none, \
             or no cipher suite is common"
        }
        "bad_certificate" => "it can't use our certificate, or that isn't valid for our host",
        "certificate_unknown" | "unsupported_certificate" => "it can't use our certificate",
        "certificate_revoked" => "our certificate was revoked",
        "protocol_version" | "insufficient_security" => {
            "its `versions` or `ciphers` and ours have nothing in common"
        }
        _ => return None,
    })
}

/// A span of time in the largest unit of which it has two.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        for (unit, length) in [("days", 86_400), ("hours", 3600), ("minutes", 60)] {
            if seconds >= 2 * length {
                return write!(f, "{} {unit}", seconds / length);
            }
        }
        write!(f, "{seconds} s")
    }
}

#[cfg(feature = "tls")]
mod of_rustls {
    use std::io;

    use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
    use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    use super::{Duration, TlsError};

    impl TlsError {
        /// Of a handshake that ended so.
        pub(crate) fn of(error: &io::Error) -> Self {
            Self::in_stream(error).unwrap_or_else(|| match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Other { what: error.to_string() },
            })
        }

        /// Of an established stream that fails by TLS: in TLS 1.3 a server sees the client's
        /// certificate only after the client has begun to talk.
        pub(crate) fn in_stream(error: &io::Error) -> Option<Self> {
            error.get_ref()?.downcast_ref().map(of_rustls)
        }
    }

    fn of_rustls(error: &Error) -> TlsError {
        match error {
            Error::AlertReceived(alert) => TlsError::Refused { alert: alert_name(*alert) },
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::NoCertificatesPresented => TlsError::NoCertificate,
            Error::PeerIncompatible(what) => {
                TlsError::NothingInCommon { what: format!("{what:?}") }
            }
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => TlsError::NotTls,
            other => TlsError::Other { what: other.to_string() },
        }
    }

    fn of_certificate(error: &CertificateError) -> TlsError {
        let span = |from: &UnixTime, to: &UnixTime| {
            Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()))
        };
        match error {
            CertificateError::UnknownIssuer => TlsError::UnknownCa,
            CertificateError::ExpiredContext { time, not_after } => {
                TlsError::Expired { ago: span(not_after, time) }
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                TlsError::NotYetValid { in_future: span(time, not_before) }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let expected = match expected {
                    ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
                    other => other.to_str().into_owned(),
                };
                TlsError::WrongName { expected, valid_for: presented.clone() }
            }
            other => TlsError::BadCertificate { what: what_is_wrong(&other.to_string()) },
        }
    }

    /// For two mistakes that are made often, where the library names only a rule.
    fn what_is_wrong(text: &str) -> String {
        let rule = if text.contains("CaUsedAsEndEntity") {
            "it's that of a CA; a node needs one of its own, signed by the CA"
        } else if text.contains("UnsupportedCertVersion") {
            "it's no X.509 certificate of version 3, made without extensions"
        } else {
            text
        };
        rule.to_owned()
    }

    /// As RFC 8446 and OTP write it.
    fn alert_name(alert: AlertDescription) -> String {
        let mut name = String::new();
        let mut before = ' ';
        for c in format!("{alert:?}").chars() {
            if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
            before = c;
        }
        name
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn alerts_have_the_names_otp_gives_them() {
            assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
            assert_eq!(alert_name(AlertDescription::CertificateRequired), "certificate_required");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_a_unit_that_says_something() {
        let text = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!(text(90), "90 s");
        assert_eq!(text(3 * 3600 + 5), "3 hours");
        assert_eq!(text(10 * 86_400), "10 days");
    }

    #[test]
    fn a_wrong_name_is_told_with_the_names_the_certificate_has() {
        let error = TlsError::WrongName {
            expected: String::from("127.0.0.1"),
            valid_for: vec![String::from("DnsName(\"b.example\")")],
        };
        assert_eq!(
            error.to_string(),
            "its certificate isn't valid for 127.0.0.1, only for DnsName(\"b.example\")"
        );
    }
}

//! From options and the files they name to what `rustls` works with.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use super::options::{NameCheck, Side, TlsConfigError, TlsOptions, TlsVersion, Verify};
use super::verify::{AnyCertificate, AnyName};

type Result<T> = std::result::Result<T, TlsConfigError>;

/// What serves those who dial us.
pub(super) fn server(options: &TlsOptions) -> Result<ServerConfig> {
    let side = Side::Server;
    if options.server_name.is_some() {
        return Err(bad(side, "server_name_indication", "only a client has it"));
    }
    let provider = provider(side, options)?;
    let (chain, key) = certificate(side, options)?.ok_or(TlsConfigError::Missing {
        side,
        option: "certfile",
        why: "",
    })?;
    let verifier: Arc<dyn ClientCertVerifier> = match options.verify.unwrap_or(Verify::None) {
        Verify::None if options.fail_if_no_peer_cert => {
            return Err(bad(side, "fail_if_no_peer_cert", "needs verify_peer"));
        }
        Verify::None => WebPkiClientVerifier::no_client_auth(),
        Verify::Peer => {
            let roots = roots(side, options)?;
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            if !options.fail_if_no_peer_cert {
                builder = builder.allow_unauthenticated();
            }
            builder.build().map_err(|error| bad(side, "cacertfile", error.to_string()))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(side, options)?)
        .map_err(|error| bad(side, "versions", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| bad(side, "keyfile", error.to_string()))?;
    // Connections last for weeks: nothing is gained by resuming, and each checks certificates anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // Ours has a reason, unless it's the user's, see `provider`.
    config.ignore_client_order = options.honor_cipher_order || options.ciphers.is_none();
    Ok(config)
}

/// What dials others.
pub(super) fn client(options: &TlsOptions) -> Result<ClientConfig> {
    let side = Side::Client;
    if options.fail_if_no_peer_cert {
        return Err(bad(side, "fail_if_no_peer_cert", "only a server has it"));
    }
    let provider = provider(side, options)?;
    let verifier: Arc<dyn ServerCertVerifier> = match options.verify.unwrap_or(Verify::Peer) {
        Verify::None => Arc::new(AnyCertificate(provider.signature_verification_algorithms)),
        Verify::Peer => {
            let roots = roots(side, options)?;
            let chain = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| bad(side, "cacertfile", error.to_string()))?;
            match options.server_name {
                Some(NameCheck::Off) => Arc::new(AnyName(chain)),
                Some(NameCheck::Host | NameCheck::Is(_)) | None => chain,
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(side, options)?)
        .map_err(|error| bad(side, "versions", error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certificate(side, options)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| bad(side, "keyfile", error.to_string()))?,
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn versions(side: Side, options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>> {
    let Some(versions) = &options.versions else {
        return Ok(vec![&version::TLS13, &version::TLS12]);
    };
    if versions.is_empty() {
        return Err(bad(side, "versions", "none is left"));
    }
    let of = |version: &TlsVersion| match version {
        TlsVersion::V1_2 => &version::TLS12,
        TlsVersion::V1_3 => &version::TLS13,
    };
    Ok(versions.iter().map(of).collect())
}

/// `ring`, with the cipher suites that were asked for, or all, those first that last.
///
/// In TLS 1.2 a key of AES-GCM is good for 2^24 records (of 16 KiB at most), and there is no new key
/// without a new connection; `rustls` ends the connection then. One of `ChaCha20` knows no such end.
fn provider(side: Side, options: &TlsOptions) -> Result<Arc<CryptoProvider>> {
    let mut provider = ring::default_provider();
    if let Some(names) = &options.ciphers {
        let known: Vec<_> = names.iter().filter_map(|name| suite(&provider, name)).collect();
        if known.is_empty() {
            let have: Vec<_> = provider.cipher_suites.iter().map(iana_name).collect();
            let what = format!("we have none of them; there are {}", have.join(", "));
            return Err(bad(side, "ciphers", what));
        }
        provider.cipher_suites = known;
    } else {
        // Stable: those of TLS 1.3, which changes its keys in time, stay as they are.
        provider.cipher_suites.sort_by_key(|suite| match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit != u64::MAX,
            SupportedCipherSuite::Tls13(_) => false,
        });
    }
    Ok(Arc::new(provider))
}

/// By its name in IANA's registry and OTP, `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`, or OpenSSL's,
/// `ECDHE-RSA-AES128-GCM-SHA256`.
fn suite(provider: &CryptoProvider, name: &str) -> Option<SupportedCipherSuite> {
    let plain = |name: &str| {
        let name = name.to_uppercase().replace('-', "_");
        let name = name.strip_prefix("TLS_").unwrap_or(&name);
        let name = name.replace("WITH_", "").replace("AES_", "AES");
        // OpenSSL leaves the hash out, since there is but one.
        name.replace("POLY1305_SHA256", "POLY1305")
    };
    let all = provider.cipher_suites.iter();
    all.copied().find(|suite| plain(&iana_name(suite)) == plain(name))
}

fn iana_name(suite: &SupportedCipherSuite) -> String {
    // As the library has it, `TLS13_AES_..` for those of TLS 1.3.
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn roots(side: Side, options: &TlsOptions) -> Result<Arc<RootCertStore>> {
    let file = options.cacertfile.as_deref().ok_or(TlsConfigError::Missing {
        side,
        option: "cacertfile",
        why: ", which verify_peer needs",
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| bad_file(file, error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

type Certificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn certificate(side: Side, options: &TlsOptions) -> Result<Option<Certificate>> {
    let Some(certfile) = &options.certfile else {
        return match options.keyfile {
            Some(_) => {
                Err(TlsConfigError::Missing { side, option: "certfile", why: " beside keyfile" })
            }
            None => Ok(None),
        };
    };
    let chain = certificates(certfile)?;
    let key = key(options.keyfile.as_ref().unwrap_or(certfile))?;
    Ok(Some((chain, key)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(file)?;
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| bad_file(file, error.to_string()))?;
    if all.is_empty() {
        return Err(bad_file(file, "there is no certificate in it, in PEM"));
    }
    Ok(all)
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(9).any(|part| part == b"ENCRYPTED");
        match error {
            _ if encrypted => bad_file(file, "the key is encrypted; we read only plain ones"),
            PemError::NoItemsFound => bad_file(file, "there is no private key in it, in PEM; if another file has it, name that one as the keyfile"),
            other => bad_file(file, other.to_string()),
        }
    })
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|source| TlsConfigError::Unreadable { file: file.into(), source })
}

pub(super) fn bad_file(file: &Path, what: impl Into<String>) -> TlsConfigError {
    TlsConfigError::BadFile { file: file.into(), what: what.into() }
}

pub(super) fn bad(
    side: Side,
    option: impl Into<String>,
    what: impl Into<String>,
) -> TlsConfigError {
    TlsConfigError::BadOption { side, option: option.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cipher_suite_has_one_name_in_otp_and_another_in_openssl() {
        let provider = ring::default_provider();
        let found = |name| suite(&provider, name).map(|suite| iana_name(&suite));
        for (name, iana) in [
            ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
            ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ] {
            assert_eq!(found(name).as_deref(), Some(iana), "{name}");
        }
        assert_eq!(found("DHE-RSA-AES256-SHA"), None);
    }

    #[test]
    fn in_tls_1_2_the_suites_that_know_no_end_come_first() {
        let provider = provider(Side::Client, &TlsOptions::new()).unwrap();
        let names: Vec<_> = provider.cipher_suites.iter().map(iana_name).collect();
        let first_of = |part: &str| names.iter().position(|name| name.contains(part)).unwrap();
        assert!(names[0].starts_with("TLS_AES_256"), "{names:?}");
        let last_endless = names.iter().rposition(|name| name.contains("_CHACHA20_")).unwrap();
        assert!(names[last_endless].starts_with("TLS_ECDHE_"), "{names:?}");
        assert!(last_endless < first_of("WITH_AES"), "{names:?}");
        assert_eq!(names.len(), 9);

        // Those the user names come as the user has them.
        let options = TlsOptions::new()
            .ciphers(["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"]);
        let provider = super::provider(Side::Client, &options).unwrap();
        assert!(iana_name(&provider.cipher_suites[0]).contains("AES_256"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let error = |result: Result<()>| result.unwrap_err().to_string();
        let server = |options| error(server(&options).map(drop));
        let client = |options| error(client(&options).map(drop));
        assert_eq!(server(TlsOptions::new()), "TLS, server: certfile is missing");
        assert_eq!(
            client(TlsOptions::new()),
            "TLS, client: cacertfile is missing, which verify_peer needs"
        );
        let none = TlsOptions::new().verify(Verify::None);
        assert_eq!(
            client(none.clone().fail_if_no_peer_cert(true)),
            "TLS, client: fail_if_no_peer_cert: only a server has it"
        );
        assert_eq!(client(none.clone().versions([])), "TLS, client: versions: none is left");
        assert_eq!(
            client(none.keyfile("key.pem")),
            "TLS, client: certfile is missing beside keyfile"
        );
    }
}

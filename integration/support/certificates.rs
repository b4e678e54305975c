//! Certificates made by the test that uses them, and the TLS options of both kinds of nodes.
//!
//! There are two CAs, `ca` and `other`, and of each node's certificate one for whatever may be wrong with
//! it; all are for nodes at 127.0.0.1. The key of each is in the same file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use data_publisher::node::{Tls, TlsOptions, TlsVersion, Verify};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Otp;

/// A folder with certificates, for Rust nodes and those of one release; removed when dropped.
pub(crate) struct Certificates {
    here: PathBuf,
    there: String,
    optfiles: AtomicU32,
}

/// What a node shows, trusts and demands; the same in both directions.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    /// `good`, `stranger` (signed by the CA `other`), `expired`, `future`, `elsewhere` (for another host).
    pub(crate) shows: &'static str,
    /// Whether it shows a certificate when it dials, too.
    pub(crate) shows_as_client: bool,
    /// `ca` or `other`; `None` to trust everybody.
    pub(crate) trusts: Option<&'static str>,
    /// Empty for what the release has by default.
    pub(crate) versions: Vec<TlsVersion>,
    /// Further options in Erlang syntax, each with a comma before it; for BEAM nodes.
    pub(crate) more: &'static str,
}

impl Security {
    /// As it should be.
    pub(crate) fn good() -> Self {
        let versions = vec![TlsVersion::V1_3, TlsVersion::V1_2];
        Self { shows: "good", shows_as_client: true, trusts: Some("ca"), versions, more: "" }
    }

    /// With another certificate.
    pub(crate) fn shows(self, shows: &'static str) -> Self {
        Self { shows, ..self }
    }

    /// With only these versions.
    pub(crate) fn versions(self, versions: &[TlsVersion]) -> Self {
        Self { versions: versions.to_vec(), ..self }
    }

    /// OTP's option file, with files at such paths.
    pub(crate) fn optfile(&self, path: impl Fn(&str) -> String) -> String {
        let versions = |version: &TlsVersion| match version {
            TlsVersion::V1_2 => "'tlsv1.2'",
            TlsVersion::V1_3 => "'tlsv1.3'",
        };
        let versions: Vec<_> = self.versions.iter().map(versions).collect();
        let versions = match versions.join(", ") {
            none if none.is_empty() => none,
            some => format!(", {{versions, [{some}]}}"),
        };
        let versions = versions + self.more;
        let verify = match self.trusts {
            Some(ca) => format!("{{verify, verify_peer}}, {{cacertfile, {:?}}}", path(ca)),
            None => String::from("{verify, verify_none}"),
        };
        let certificate = format!(", {{certfile, {:?}}}", path(self.shows));
        let as_client = if self.shows_as_client { &certificate } else { "" };
        let demand = if self.trusts.is_some() { ", {fail_if_no_peer_cert, true}" } else { "" };
        format!(
            "%% Made by a test.\n\
             [{{server, [{verify}{certificate}{demand}{versions}]}},\n \
              {{client, [{verify}{as_client}{versions}]}}].\n"
        )
    }
}

impl Certificates {
    pub(crate) async fn new(otp: Otp) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("data-publisher-tls-{}-{next}", std::process::id());
        let (here, there) = otp.folder(&name).await?;
        let made = Self { here, there, optfiles: AtomicU32::new(0) };

        let (ca, other) = (made.authority("ca")?, made.authority("other")?);
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        let always = (now - day, now + 365 * day);
        let ip = || SanType::IpAddress([127, 0, 0, 1].into());
        // OTP 25 takes the host of a node's name for a name, also where it's an address.
        let here = || vec![ip(), SanType::DnsName("127.0.0.1".try_into().expect("in ASCII"))];
        let elsewhere = vec![SanType::DnsName("elsewhere.example".try_into()?)];
        made.node("good", &ca, here(), always)?;
        made.node("address", &ca, vec![ip()], always)?;
        made.node("stranger", &other, here(), always)?;
        made.node("expired", &ca, here(), (now - 30 * day, now - 10 * day))?;
        // Half a day more than told, so that it's the same number of days however soon it's looked at.
        made.node("future", &ca, here(), (now + 10 * day + day / 2, now + 30 * day))?;
        made.node("elsewhere", &ca, elsewhere, always)?;
        Ok(made)
    }

    fn authority(&self, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("the CA `{name}`"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        std::fs::write(self.here(name), params.self_signed(&key)?.pem())?;
        Ok(Issuer::new(params, key))
    }

    fn node(
        &self,
        name: &str,
        authority: &Issuer<'static, KeyPair>,
        names: Vec<SanType>,
        (from, to): (SystemTime, SystemTime),
    ) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a node");
        params.subject_alt_names = names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (from.into(), to.into());
        let key = KeyPair::generate()?;
        let pem = params.signed_by(&key, authority)?.pem() + &key.serialize_pem();
        Ok(std::fs::write(self.here(name), pem)?)
    }

    /// A file's path for Rust nodes.
    pub(crate) fn here(&self, name: &str) -> PathBuf {
        self.here.join(format!("{name}.pem"))
    }

    fn there(&self, name: &str) -> String {
        format!("{}/{name}.pem", self.there)
    }

    /// The options of a Rust node.
    pub(crate) fn tls(&self, security: &Security) -> Result<Tls> {
        let mut both = TlsOptions::new();
        if !security.versions.is_empty() {
            both = both.versions(security.versions.iter().copied());
        }
        both = match security.trusts {
            Some(ca) => both.cacertfile(self.here(ca)).verify(Verify::Peer),
            None => both.verify(Verify::None),
        };
        let showing = both.clone().certfile(self.here(security.shows));
        let client = if security.shows_as_client { showing.clone() } else { both };
        let server = showing.fail_if_no_peer_cert(security.trusts.is_some());
        Ok(Tls::new(server, client)?)
    }

    /// The path, for BEAM nodes, of an option file for `-ssl_dist_optfile`.
    pub(crate) fn optfile(&self, security: &Security) -> Result<String> {
        let text = security.optfile(|name| self.there(name));
        let name = format!("{}.conf", self.optfiles.fetch_add(1, Ordering::Relaxed));
        std::fs::write(self.here.join(&name), text)?;
        Ok(format!("{}/{name}", self.there))
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.here);
    }
}

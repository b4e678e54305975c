//! A certificate that is wrong: no connection, and both sides' logs say why.

use anyhow::{Result, ensure};
use data_publisher::node::TlsVersion;

use super::{erl, gone, rust};
use crate::cli::Cli;
use crate::otp::{Seen, on_each_release};
use crate::support::{
    Certificates, Epmd, ErlNode, Otp, SOON, Security, cookie, wait_eval, wait_until,
};

on_each_release! {
    a_certificate_of_another_ca_is_refused_by_either_side
    an_expired_certificate_is_refused_by_either_side
    a_certificate_whose_time_has_yet_to_come_is_refused_by_either_side
    a_server_for_another_host_is_refused_and_a_client_is_not
    a_client_without_a_certificate_is_refused_by_either_side
}

/// What is wrong with one of two nodes, and how the other one says so.
struct Fault {
    wrong: Security,
    /// What we say of a server with it; `None` where nothing is wrong with that.
    of_server: Option<&'static str>,
    /// What we say of a client with it.
    of_client: Option<&'static str>,
    /// The alerts by which a BEAM refuses it: in our words, and in its own.
    alerts: &'static [(&'static str, &'static str)],
}

async fn a_certificate_of_another_ca_is_refused_by_either_side(otp: Otp) -> Result<()> {
    let told = "its certificate isn't signed by a CA of our cacertfile";
    let fault = Fault {
        wrong: Security::good().shows("stranger"),
        of_server: Some(told),
        of_client: Some(told),
        alerts: &[("unknown_ca", "Unknown CA")],
    };
    fault.is_refused(otp).await
}

async fn an_expired_certificate_is_refused_by_either_side(otp: Otp) -> Result<()> {
    let fault = Fault {
        wrong: Security::good().shows("expired"),
        of_server: Some("its certificate expired 10 days ago"),
        of_client: Some("its certificate expired 10 days ago"),
        alerts: &[("certificate_expired", "Certificate Expired")],
    };
    fault.is_refused(otp).await
}

async fn a_certificate_whose_time_has_yet_to_come_is_refused_by_either_side(
    otp: Otp,
) -> Result<()> {
    let fault = Fault {
        wrong: Security::good().shows("future"),
        of_server: Some("its certificate will be valid in 10 days"),
        of_client: Some("its certificate will be valid in 10 days"),
        // There is no alert for it.
        alerts: &[("certificate_expired", "Certificate Expired")],
    };
    fault.is_refused(otp).await
}

async fn a_server_for_another_host_is_refused_and_a_client_is_not(otp: Otp) -> Result<()> {
    let fault = Fault {
        wrong: Security::good().shows("elsewhere"),
        of_server: Some("its certificate isn't valid for 127.0.0.1, only for"),
        of_client: None,
        // OTP 25 sends the first, the others and we send the second.
        alerts: &[
            ("handshake_failure", "Handshake Failure"),
            ("bad_certificate", "Bad Certificate"),
        ],
    };
    fault.is_refused(otp).await
}

async fn a_client_without_a_certificate_is_refused_by_either_side(otp: Otp) -> Result<()> {
    let fault = Fault {
        wrong: Security { shows_as_client: false, ..Security::good() },
        of_server: None,
        of_client: Some("it has shown no certificate"),
        // By TLS 1.2, and by TLS 1.3.
        alerts: &[
            ("handshake_failure", "Handshake Failure"),
            ("certificate_required", "Certificate Required"),
        ],
    };
    fault.is_refused(otp).await
}

impl Fault {
    async fn is_refused(&self, otp: Otp) -> Result<()> {
        let certificates = Certificates::new(otp).await?;
        for ours in [true, false] {
            let theirs = if ours { Security::good() } else { self.wrong.clone() };
            let (epmd, a) = erl(otp, &certificates, &theirs).await?;
            if otp == Otp::R25 {
                // In TLS 1.3 a client learns that it was refused when it has gone on already; that
                // release's has a match there that fails. It ends nothing but the dial.
                a.allow_crash("{inet_tls_dist,do_setup_connect,");
            }
            for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
                let own = if ours { self.wrong.clone() } else { Security::good() };
                let own = own.versions(&[version]);
                let case = Case { fault: self, a: &a, epmd: &epmd, certificates: &certificates };
                case.dialled_by_us(ours, &own).await?;
                case.dialled_by_the_beam(ours, &own, version).await?;
            }
            a.finish().await?;
        }
        Ok(())
    }
}

struct Case<'a> {
    fault: &'a Fault,
    a: &'a ErlNode,
    epmd: &'a Epmd,
    certificates: &'a Certificates,
}

impl Case<'_> {
    async fn dialled_by_us(&self, ours: bool, own: &Security) -> Result<()> {
        let log = self.a.output().len();
        let node = rust("r", self.epmd, self.certificates, own, Seen::Visible).await?;
        let result = node.connect("a@127.0.0.1").await;
        let told = if ours { self.fault.of_client } else { self.fault.of_server };
        let Some(told) = told else {
            result?;
            // One that ends before it's up is another story, of a failed dial.
            let state = "net_kernel:node_info('r@127.0.0.1', state)";
            wait_eval(self.a, state, "{ok,up}", SOON).await?;
            node.stop().await;
            return gone(self.a).await;
        };
        let error = anyhow::Error::from(result.expect_err("it's refused"));
        ensure!(error.to_string() == "no TLS connection to a@127.0.0.1", "{error:#}");
        let told: &[String] = &if ours {
            self.alerts(|name, _| format!("it refused us by the TLS alert {name}: "))
        } else {
            vec![told.to_owned()]
        };
        let text = error.root_cause().to_string();
        ensure!(told.iter().any(|told| text.starts_with(told)), "{text}, not one of {told:?}");
        let side = if ours { "generated SERVER ALERT" } else { "received CLIENT ALERT" };
        self.logged(log, side, own).await?;
        node.stop().await;
        Ok(())
    }

    async fn dialled_by_the_beam(
        &self,
        ours: bool,
        own: &Security,
        version: TlsVersion,
    ) -> Result<()> {
        let log = self.a.output().len();
        let mut options = self.certificates.here("options");
        options.set_extension("conf");
        let path = |name: &str| self.certificates.here(name).display().to_string();
        std::fs::write(&options, own.optfile(path))?;
        let options = options.display().to_string();
        let join = Cli::start(
            self.epmd.port(),
            &["join", "--name", "r@127.0.0.1", "--cookie", cookie(), "--json"]
                .into_iter()
                .chain(["--tls-optfile", &options])
                .collect::<Vec<_>>(),
        )?;
        join.event("up", |event| event["event"] == "up").await?;
        let connected = self.a.eval("net_kernel:connect_node('r@127.0.0.1')").await?;
        let told = if ours { self.fault.of_server } else { self.fault.of_client };
        let Some(told) = told else {
            assert_eq!(connected, "true", "{own:?}");
            drop(join);
            return gone(self.a).await;
        };
        assert_eq!(connected, "false", "{own:?}");
        if ours {
            let told = self.alerts(|name, _| format!("it refused us by the TLS alert {name}: "));
            join.says_one_of(&told).await?;
            self.logged(log, "generated CLIENT ALERT", own).await?;
        } else {
            join.says(&["127.0.0.1: not connected: ", told]).await?;
            // By TLS 1.3 it may be gone before it reads the alert.
            if version == TlsVersion::V1_2 {
                self.logged(log, "received SERVER ALERT", own).await?;
            }
        }
        Ok(())
    }

    fn alerts<T>(&self, of: impl Fn(&str, &str) -> T) -> Vec<T> {
        self.fault.alerts.iter().map(|(ours, theirs)| of(ours, theirs)).collect()
    }

    /// Waits until the BEAM's log says it, after so many bytes.
    async fn logged(&self, after: usize, side: &str, own: &Security) -> Result<()> {
        // In upper or lower case, as releases differ.
        let lines = self.alerts(|_, name| format!("{side}: Fatal - {name}").to_lowercase());
        wait_until(&format!("one of {lines:?} in {}'s log, {own:?}", self.a), SOON, async || {
            let log = self.a.output();
            let log = log.get(after..).unwrap_or_default();
            let lower = log.to_lowercase();
            let is_there = lines.iter().any(|line| lower.contains(line));
            is_there.then_some(()).ok_or_else(|| log.to_owned())
        })
        .await
    }
}

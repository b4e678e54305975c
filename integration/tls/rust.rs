//! Two nodes of ours over TLS, and what they do when the other one doesn't read.

use std::time::Duration;

use anyhow::{Result, ensure};
use data_publisher::node::{DownReason, NodeEvent, Tls, TlsVersion};
use data_publisher::term::{NodeName, Term};
use data_publisher::{atom, tuple};

use super::{erl, rust};
use crate::otp::{Seen, config};
use crate::support::{Certificates, Epmd, Otp, SOON, Security};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_ours_talk_by_an_option_file_in_each_version() -> Result<()> {
    const SIZE: usize = 10_000_000;
    let certificates = Certificates::new(Otp::R29).await?;
    let epmd = Epmd::start().await?;
    let file = certificates.here("options");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let security = Security::good().versions(&[version]);
        let path = |name: &str| certificates.here(name).display().to_string();
        std::fs::write(&file, security.optfile(path))?;
        let tls = Tls::from_optfile(&file)?;
        let a = data_publisher::start(config("a", &epmd)?.tls(tls.clone())).await?;
        let b = data_publisher::start(config("b", &epmd)?.tls(tls)).await?;
        let (mut of_a, mut of_b) = (a.spawn(), b.spawn());
        let bytes = Term::binary_of(vec![7; SIZE]);
        for n in 0..3 {
            a.send(of_b.pid(), tuple![n, bytes.clone()]).await?;
            b.send(of_a.pid(), tuple![n, bytes.clone()]).await?;
        }
        for n in 0..3 {
            for process in [&mut of_a, &mut of_b] {
                let received = tokio::time::timeout(SOON, process.receive()).await?;
                let received = received.expect("the process runs").into_term();
                ensure!(received == tuple![n, bytes.clone()], "message {n} is another");
            }
        }
        a.stop().await;
        b.stop().await;
    }
    Ok(())
}

/// What TLS holds back is small: the peer's standstill is seen as over plain TCP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_no_byte_is_shed_in_time() -> Result<()> {
    let certificates = Certificates::new(Otp::R27).await?;
    let (epmd, mut a) = erl(Otp::R27, &certificates, &Security::good()).await?;
    let mut limits = data_publisher::node::Limits::default();
    limits.stall_time = Duration::from_secs(2);
    let tls = certificates.tls(&Security::good())?;
    let node = data_publisher::start(config("r", &epmd)?.tls(tls).limits(limits)).await?;
    let mut events = node.events();
    node.connect("a@127.0.0.1").await?;
    a.stop_signal()?;
    let nobody = (atom!("nobody"), NodeName::new("a@127.0.0.1")?);
    node.send(nobody, Term::binary_of(vec![0; 50_000_000])).await?;
    let down = async {
        loop {
            if let Some(NodeEvent::Down { reason, .. }) = events.next().await {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(SOON, down).await?;
    assert_eq!(reason, DownReason::Slow);
    a.cont_signal()?;
    // And back again.
    let again = rust("s", &epmd, &certificates, &Security::good(), Seen::Hidden).await?;
    again.connect("a@127.0.0.1").await?;
    a.finish().await
}

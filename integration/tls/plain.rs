//! A node with TLS and one without: no connection, nothing hangs, and both say why if they can.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use data_publisher::Node;
use data_publisher::node::{ConnectError, HandshakeError, Limits, TlsError};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::{erl, rust};
use crate::cli::Cli;
use crate::otp::{Seen, config, on_each_release};
use crate::support::{Certificates, Epmd, ErlNode, Otp, SOON, Security, cookie};

on_each_release! {
    a_node_with_tls_and_a_beam_without_part
    a_node_without_tls_and_a_beam_with_it_part
}

async fn impatient(certificates: &Certificates, epmd: &Epmd) -> Result<Node> {
    let mut limits = Limits::default();
    limits.setup_time = Duration::from_secs(1);
    let tls = certificates.tls(&Security::good())?;
    Ok(data_publisher::start(config("r", epmd)?.tls(tls).limits(limits)).await?)
}

async fn a_node_with_tls_and_a_beam_without_part(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::start(otp, "a", &epmd).await?;
    let node = impatient(&certificates, &epmd).await?;
    let started = Instant::now();
    let error = node.connect("a@127.0.0.1").await.expect_err("the BEAM waits for a name");
    ensure!(matches!(error, ConnectError::Tls { source: TlsError::NoAnswer, .. }), "{error:?}");
    ensure!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    node.stop().await;

    let (certificate, ca) = (certificates.here("good"), certificates.here("ca"));
    let (certificate, ca) = (certificate.display().to_string(), ca.display().to_string());
    let arguments = ["join", "--name", "r@127.0.0.1", "--cookie", cookie(), "--json"];
    let tls = ["--tls-certfile", &certificate, "--tls-cacertfile", &ca];
    let join = Cli::start(epmd.port(), &[&arguments[..], &tls].concat())?;
    join.event("up", |event| event["event"] == "up").await?;
    let started = Instant::now();
    assert_eq!(a.eval("net_kernel:connect_node('r@127.0.0.1')").await?, "false");
    ensure!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    join.says(&["127.0.0.1: not connected: it doesn't speak TLS"]).await?;
    a.finish().await
}

async fn a_node_without_tls_and_a_beam_with_it_part(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let (epmd, a) = erl(otp, &certificates, &Security::good()).await?;
    let node = data_publisher::start(config("r", &epmd)?).await?;
    let error = node.connect("a@127.0.0.1").await.expect_err("the BEAM speaks TLS");
    let ConnectError::Handshake { source, .. } = &error else { panic!("{error:?}") };
    ensure!(matches!(**source, HandshakeError::SpeaksTls), "{source:?}");
    node.stop().await;

    let join = ["join", "--name", "r@127.0.0.1", "--cookie", cookie(), "--json"];
    let join = Cli::start(epmd.port(), &join)?;
    join.event("up", |event| event["event"] == "up").await?;
    let started = Instant::now();
    assert_eq!(a.eval("net_kernel:connect_node('r@127.0.0.1')").await?, "false");
    ensure!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    join.says(&["127.0.0.1: not connected: the peer speaks TLS and this node doesn't"]).await?;

    // And with TLS after all, by the options of the command line.
    drop(join);
    let (certificate, ca) = (certificates.here("good"), certificates.here("ca"));
    let (certificate, ca) = (certificate.display().to_string(), ca.display().to_string());
    let ping = ["ping", "a@127.0.0.1", "--cookie", cookie()];
    let ended = Cli::run(epmd.port(), &ping).await?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    ended.assert_complaint(&["speaks TLS and this node doesn't", "--tls-certfile"]);
    let tls = ["--tls-certfile", &certificate, "--tls-cacertfile", &ca];
    let ended = Cli::run(epmd.port(), &[&ping[..], &tls].concat()).await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    a.finish().await
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_closed_when_the_time_is_up() -> Result<()> {
    let certificates = Certificates::new(Otp::R29).await?;
    let epmd = Epmd::start().await?;
    let node = impatient(&certificates, &epmd).await?;
    let mut silent = TcpStream::connect(("127.0.0.1", node.port())).await?;
    let mut nothing = Vec::new();
    let read = tokio::time::timeout(SOON, silent.read_to_end(&mut nothing)).await?;
    ensure!(read.is_err() || nothing.is_empty(), "{nothing:?}");
    // It has cost nothing: others connect.
    let security = Security::good();
    let other = rust("o", &epmd, &certificates, &security, Seen::Visible).await?;
    Ok(other.connect("r@127.0.0.1").await?)
}

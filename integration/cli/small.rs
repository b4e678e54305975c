//! `epmd`, `names` and `ping`.

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::Cli;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, free_port, wait_until};

async fn ping_and_names(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let erl = ErlNode::start(otp, "a", &epmd).await?;

    let names = Cli::run(epmd.port(), &["names", "127.0.0.1"]).await?;
    assert_eq!((names.code, &names.err[..]), (Some(0), &[][..]), "{names:?}");
    let [line] = &names.out[..] else { panic!("{names:?}") };
    let (name, port) = line.split_once('\t').context("a tab")?;
    assert_eq!(name, "a");
    let told = erl.eval("{ok, [{_, P}]} = net_adm:names(), P").await?;
    assert_eq!(port, told);
    assert_eq!(Cli::run(epmd.port(), &["names"]).await?.out, names.out);

    for options in [&[][..], &["--hidden"], &["--name", "p@127.0.0.1"]] {
        let arguments = [&["ping", "a@127.0.0.1", "--cookie", cookie()], options].concat();
        let ping = Cli::run(epmd.port(), &arguments).await?;
        assert_eq!((ping.code, &ping.err[..]), (Some(0), &[][..]), "{ping:?}");
        let [line] = &ping.out[..] else { panic!("{ping:?}") };
        let time = line.strip_prefix("pong ").and_then(|rest| rest.strip_suffix(" ms"));
        let time: f64 = time.context("pong 0.8 ms")?.parse()?;
        assert!(time > 0.0 && time < 1000.0, "{line}");
    }

    let pang = Cli::run(epmd.port(), &["ping", "b@127.0.0.1", "--cookie", cookie()]).await?;
    assert_eq!((pang.code, &pang.out[..]), (Some(1), &["pang".to_owned()][..]), "{pang:?}");
    pang.assert_complaint(&["no node b@127.0.0.1"]);
    erl.finish().await
}

#[tokio::test]
async fn ping_and_names_otp_25() -> Result<()> {
    ping_and_names(Otp::R25).await
}

#[tokio::test]
async fn ping_and_names_otp_27() -> Result<()> {
    ping_and_names(Otp::R27).await
}

#[tokio::test]
async fn ping_and_names_otp_29() -> Result<()> {
    ping_and_names(Otp::R29).await
}

#[tokio::test]
async fn without_an_epmd_there_are_no_names_and_no_pong() -> Result<()> {
    let port = free_port()?;
    let names = Cli::run(port, &["names"]).await?;
    names.assert_failed(&["no EPMD at localhost", "epmd -daemon"]);
    assert_eq!(names.out, [""; 0]);

    let pang = Cli::run(port, &["ping", "a@127.0.0.1", "--cookie", "x"]).await?;
    assert_eq!((pang.code, &pang.out[..]), (Some(1), &["pang".to_owned()][..]), "{pang:?}");
    pang.assert_complaint(&["no EPMD at 127.0.0.1"]);

    let unknown = Cli::run(port, &["names", "no-such-host.invalid"]).await?;
    unknown.assert_failed(&["no-such-host.invalid is unknown"]);
    Ok(())
}

/// Real nodes register in it; it ends when asked to.
#[tokio::test]
async fn epmd_serves_real_nodes() -> Result<()> {
    let port = free_port()?;
    let epmd = Cli::start(0, &["epmd", "--port", &port.to_string()])?;
    wait_until("it says its port", SOON, async || {
        let lines = epmd.out.all();
        (lines == [format!("epmd on port {port}")]).then_some(()).ok_or(lines.join("\n"))
    })
    .await?;

    for otp in Otp::ALL {
        let name = format!("n{otp}");
        let erl = ErlNode::options(otp, &name, port).start().await?;
        let names = Cli::run(port, &["names"]).await?;
        assert!(names.out[0].starts_with(&format!("{name}\t")), "{names:?}");
        assert_eq!(
            erl.eval("{ok, Ns} = net_adm:names(), [N || {N, _} <- Ns]").await?,
            format!("[\"{name}\"]")
        );
        erl.finish().await?;
        wait_until("the name is gone", SOON, async || match Cli::run(port, &["names"]).await {
            Ok(names) if names.out.is_empty() && names.code == Some(0) => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await?;
    }

    epmd.signal(Signal::TERM)?;
    let ended = epmd.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    Ok(())
}

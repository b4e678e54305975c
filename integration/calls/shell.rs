//! `erl -remsh` to us: there is no shell here, and that is told at once.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::Pair;
use crate::otp::on_each_release;
use crate::support::Otp;

on_each_release! { a_remote_shell_fails_soon_with_a_reason }

async fn a_remote_shell_fails_soon_with_a_reason(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let mut shell = Command::new(otp.erl().await?)
        .args(["-name", "shell@127.0.0.1", "-setcookie", "cookie", "-remsh", "r@127.0.0.1"])
        .env("ERL_EPMD_PORT", pair.epmd.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut out = shell.stdout.take().context("stdout")?;
    let mut err = shell.stderr.take().context("stderr")?;
    let started = Instant::now();
    let (mut told, mut warned) = (String::new(), String::new());
    // The start of the VM is in it.
    let limit = Duration::from_secs(5);
    let all =
        async { tokio::try_join!(out.read_to_string(&mut told), err.read_to_string(&mut warned)) };
    let ended = tokio::time::timeout(limit, all).await;
    ensure!(ended.is_ok(), "no end within {limit:?}");
    let status = shell.wait().await?;
    let took = started.elapsed();
    ensure!(
        !status.success() || !told.is_empty() || !warned.is_empty(),
        "{took:?} {told} {warned}"
    );
    pair.erl.finish().await
}

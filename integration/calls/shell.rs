//! `erl -remsh` to us: there is no shell here, and that is told at once.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::Pair;
use crate::otp::on_each_release;
use crate::support::Otp;

on_each_release! { a_remote_shell_fails_at_once_with_a_reason }

async fn a_remote_shell_fails_at_once_with_a_reason(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    // What the terminal's driver starts for it; it shows the reason.
    let group = "process_flag(trap_exit, true), \
        G = spawn_link('r@127.0.0.1', shell, start, []), \
        receive {'EXIT', G, Why} -> Why end";
    pair.assert_each(&[(group, "{undef,[{shell,start,[],[]}]}")]).await?;
    // In OTP 25 it needs a terminal, which this isn't.
    if otp == Otp::R25 {
        return pair.erl.finish().await;
    }
    let mut shell = Command::new(otp.erl().await?)
        .args(["-name", "shell@127.0.0.1", "-setcookie", "cookie", "-remsh", "r@127.0.0.1"])
        .env("ERL_EPMD_PORT", pair.epmd.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut told = String::new();
    let mut err = shell.stderr.take().context("stderr")?;
    // The start of the VM is in it.
    let limit = Duration::from_secs(5);
    let status = tokio::time::timeout(limit, async {
        err.read_to_string(&mut told).await?;
        shell.wait().await
    });
    let status = status.await.context("it hangs")??;
    ensure!(status.code() == Some(1), "{status}: {told}");
    ensure!(told.contains("Could not load") && told.contains("nofile"), "{told}");
    pair.erl.finish().await
}

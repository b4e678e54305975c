//! `erl -remsh` to us: there is no shell here, and that is told at once.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::Pair;
use crate::otp::on_each_release;
use crate::support::{Otp, cookie};

on_each_release! {
    a_remote_shell_fails_at_once_with_a_reason
    a_node_without_a_name_gets_one
}

/// Until it has a name it takes part in nothing; the first node it connects to gives it one.
async fn a_node_without_a_name_gets_one(otp: Otp) -> Result<()> {
    let pair = Pair::start(otp).await?;
    let ask = "R = 'r@127.0.0.1', true = net_kernel:connect_node(R), \
        [_, \"127.0.0.1\"] = string:lexemes(atom_to_list(node()), \"@\"), \
        R = rpc:call(R, erlang, node, []), [R] = nodes(connected), \
        io:format(\"~s\", [node()]), halt()";
    let mut names = Vec::new();
    for _ in 0..2 {
        let nameless = Command::new(otp.erl().await?)
            .args(["-name", "undefined@127.0.0.1", "-setcookie", cookie(), "-noinput"])
            .args(["-eval", ask])
            .env("ERL_EPMD_PORT", pair.epmd.port().to_string())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(Duration::from_secs(10), nameless).await??;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        ensure!(ended.status.success(), "{said}");
        names.push(said);
    }
    ensure!(names[0] != names[1], "{names:?}");
    pair.erl.finish().await
}

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
    // The second has no name and asks us for one, as without `-name` where the host has a full name.
    for name in ["shell@127.0.0.1", "undefined@127.0.0.1"] {
        fails_at_once(otp, &pair, name).await?;
    }
    pair.erl.finish().await
}

async fn fails_at_once(otp: Otp, pair: &Pair, name: &str) -> Result<()> {
    let mut shell = Command::new(otp.erl().await?)
        .args(["-name", name, "-setcookie", cookie(), "-remsh", "r@127.0.0.1"])
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
    ensure!(told.contains("Could not load") && told.contains("nofile"), "{name}: {told}");
    Ok(())
}

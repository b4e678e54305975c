//! `demo`: ends by itself with a summary, leaves nothing behind, invites to join by hand.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Cli, Ended, Lines};
use crate::support::{Otp, SOON, free_port, wait_until};

/// So long may the whole of it take.
const LIMIT: Duration = Duration::from_secs(15);

fn assert_told(ended: &Ended, steps: usize) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.took <= LIMIT, "{ended:?}");
    let summary: Vec<_> = ended.out.iter().filter(|line| line.starts_with("ok  ")).collect();
    assert_eq!(summary.len(), steps, "{ended:?}");
    let is_timed = |line: &&String| line.ends_with(" ms");
    assert!(summary.iter().all(is_timed), "{ended:?}");
    let text = ended.out.join("\n");
    for word in ["EPMD on port", " dies", " returns", "is dead and its member is gone everywhere"] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[tokio::test]
async fn without_erl_it_shows_nodes_of_its_own() -> Result<()> {
    let port = free_port()?;
    let none = Cli::run(port, &["demo", "--erl", "none"]).await?;
    assert_told(&none, 4);
    assert_eq!(none.err, [""; 0]);

    // No PATH at all, hence no `erl` in it.
    let default = Cli::run(port, &["demo"]).await?;
    assert_told(&default, 4);
    let text = default.out.join("\n");
    assert!(text.contains("demo3 sees demo1, demo2, demo3"), "{text}");
    assert!(text.contains("no `erl` in the PATH"), "{text}");
    assert!(text.contains("port: #{demo1 => "), "{text}");

    let five = Cli::run(port, &["demo", "--nodes", "5"]).await?;
    assert_told(&five, 4);
    assert!(
        five.out.join("\n").contains("demo5 sees demo1, demo2, demo3, demo4, demo5"),
        "{five:?}"
    );
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "its EPMD is still there");
    Ok(())
}

async fn with_erl_a_real_node_joins(otp: Otp) -> Result<()> {
    let erl = otp.erl().await?;
    let told = ["demo", "--erl", erl.to_str().context("a path in UTF-8")?];
    let cli = Cli::start(free_port()?, &told)?;
    // It may be over before we look, but not before an `erl` was there for half a second.
    let mut children = std::collections::BTreeSet::new();
    wait_until("an Erlang node", LIMIT, async || {
        children.extend(cli.child.id().map(children_of).unwrap_or_default());
        let lines = cli.out.all().join("\n");
        let joined = lines.contains("demo1 sees demo1, demo2, demo3, demo_erl");
        (joined && !children.is_empty()).then_some(()).ok_or(lines)
    })
    .await?;

    assert_told(&cli.end().await?, 5);

    wait_until("no process remains", SOON, async || {
        let left: Vec<_> = children.iter().filter(|pid| exists(**pid)).collect();
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await
}

#[tokio::test]
async fn with_erl_a_real_node_joins_otp_25() -> Result<()> {
    with_erl_a_real_node_joins(Otp::R25).await
}

#[tokio::test]
async fn with_erl_a_real_node_joins_otp_27() -> Result<()> {
    with_erl_a_real_node_joins(Otp::R27).await
}

#[tokio::test]
async fn with_erl_a_real_node_joins_otp_29() -> Result<()> {
    with_erl_a_real_node_joins(Otp::R29).await
}

/// As a machine has it on which `erl` is installed.
#[tokio::test]
async fn an_erl_in_the_path_is_found() -> Result<()> {
    let erl = Otp::R27.erl().await?;
    let path = erl.parent().and_then(Path::to_str).context("a folder in UTF-8")?;
    let path = format!("/no/such/folder:{path}:/usr/sbin:/usr/bin:/bin");
    let ended = Cli::command(free_port()?, &["demo"], &[("PATH", &path)])?.end().await?;
    assert_told(&ended, 5);
    Ok(())
}

#[tokio::test]
async fn an_erl_that_does_not_start_is_told_with_what_it_said() -> Result<()> {
    let folder = super::Folder::new("bad-erl")?;
    let erl = folder.file("erl", "#!/bin/sh\necho no licence today\nexit 7\n", 0o700)?;
    let ended = Cli::run(free_port()?, &["demo", "--erl", &erl]).await?;
    ended.assert_failed(&[&erl, "exit status: 7", "no licence today"]);
    Ok(())
}

#[tokio::test]
async fn several_at_once_do_not_meet() -> Result<()> {
    // One of them has the EPMD, and may be the first to end: the others then register anew, elsewhere.
    let port = free_port()?;
    let first = Cli::start(port, &["demo", "--erl", "none"])?;
    let second = Cli::start(port, &["demo", "--erl", "none"])?;
    let third = Cli::start(port, &["demo", "--erl", "none"])?;
    for demo in [first, second, third] {
        assert_told(&demo.end().await?, 4);
    }
    Ok(())
}

async fn with_stay_one_can_join_by_hand(otp: Otp) -> Result<()> {
    let port = free_port()?;
    let demo = Cli::start(port, &["demo", "--erl", "none", "--stay"])?;
    let command = wait_until("an invitation", LIMIT, async || {
        let lines = demo.out.all();
        let last = lines.iter().any(|line| line.contains("Ctrl-C"));
        let command = lines.iter().find(|line| line.contains("erl -name")).cloned();
        command.filter(|_| last).ok_or(lines.join("\n"))
    })
    .await?;
    let said = demo.out.all();
    let expressions: Vec<_> = said.iter().filter(|line| line.starts_with("  pg:")).collect();
    assert_eq!(expressions.len(), 2, "{said:?}");

    // Word for word, as a user would type it.
    let folder = otp.erl().await?.parent().and_then(Path::to_str).context("a folder in UTF-8")?;
    let mut shell = Command::new("/bin/sh")
        .args(["-c", &format!("exec /usr/bin/env {}", command.trim())])
        .env_clear()
        .env("PATH", format!("{folder}:/usr/sbin:/usr/bin:/bin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let out = Lines::collect(shell.stdout.take().context("stdout is a pipe")?);
    let mut stdin = shell.stdin.take().context("stdin is a pipe")?;
    for expression in expressions {
        stdin.write_all(format!("{}\n", expression.trim()).as_bytes()).await?;
    }
    // Seen by one who joins the same way with this binary.
    let cookie = command.split_whitespace().skip_while(|word| *word != "-setcookie").nth(1);
    let mut witness = Cli::start(
        port,
        &[
            "join",
            "demo1@127.0.0.1",
            "--name",
            "witness@127.0.0.1",
            "--scope",
            "demo",
            "--json",
            "--cookie",
            cookie.context("a cookie")?,
        ],
    )?;
    witness
        .event("the member made by hand", |event| {
            event["event"] == "join" && event["pids"].to_string().contains("<me@127.0.0.1.")
        })
        .await
        .with_context(|| format!("erl said: {}", out.all().join("\n")))?;
    let members = witness.ask("members workers").await?;
    assert_eq!(members.as_array().map(Vec::len), Some(4), "{members}");
    wait_until("erl sees all members", SOON, async || {
        let asked = stdin.write_all(b"length(pg:get_members(demo, workers)) + 1000.\n").await;
        let text = out.all().join("\n");
        (asked.is_ok() && text.contains("1004")).then_some(()).ok_or(text)
    })
    .await?;
    shell.kill().await?;

    demo.signal(Signal::TERM)?;
    let ended = demo.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn with_stay_one_can_join_by_hand_otp_25() -> Result<()> {
    with_stay_one_can_join_by_hand(Otp::R25).await
}

#[tokio::test]
async fn with_stay_one_can_join_by_hand_otp_27() -> Result<()> {
    with_stay_one_can_join_by_hand(Otp::R27).await
}

#[tokio::test]
async fn with_stay_one_can_join_by_hand_otp_29() -> Result<()> {
    with_stay_one_can_join_by_hand(Otp::R29).await
}

/// Also in the middle, also with `--stay`, and also without being asked.
#[tokio::test]
async fn its_end_leaves_no_process_behind() -> Result<()> {
    let erl = Otp::R27.erl().await?.to_str().context("a path in UTF-8")?;
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let demo = Cli::start(free_port()?, &["demo", "--stay", "--erl", erl])?;
        let mut children = Vec::new();
        let joined = signal == Signal::KILL;
        wait_until("an Erlang node", LIMIT, async || {
            children = demo.child.id().map(children_of).unwrap_or_default();
            let lines = demo.out.all().join("\n");
            let there = !children.is_empty() && (!joined || lines.contains("demo_erl"));
            there.then_some(()).ok_or(lines)
        })
        .await?;

        demo.signal(signal)?;

        let ended = demo.end().await?;
        let code = (signal != Signal::KILL).then_some(0);
        assert_eq!((ended.code, &ended.err[..]), (code, &[][..]), "{ended:?}");
        wait_until("no process remains", SOON, async || {
            let left: Vec<_> = children.iter().filter(|pid| exists(**pid)).collect();
            left.is_empty().then_some(()).ok_or_else(|| format!("after {signal:?}: {left:?}"))
        })
        .await?;
    }
    Ok(())
}

fn children_of(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .collect::<Vec<_>>()
        .join(" ");
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

//! `join` as a service: its log, what it tells the service manager, whom it waits for, how far a large first sync is,
//! and that it leaves when it's asked to, whatever its peers do.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::epmd::NodeKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Cli, Folder};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_eval, wait_until};

const COOKIE: &str = "s3cr3t-of-the-cluster";

/// How long a polite end may take.
const POLITE: Duration = Duration::from_secs(2);

/// A node with the scope `s`.
async fn erl_with_scope(otp: Otp, name: &str, epmd: &Epmd) -> Result<ErlNode> {
    let erl = ErlNode::options(otp, name, epmd.port()).cookie(COOKIE).start().await?;
    erl.eval("probe:start_scope(s)").await?;
    Ok(erl)
}

fn join(epmd: &Epmd, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli> {
    let usual = ["join", "--name", "r@127.0.0.1", "--cookie", COOKIE, "--scope", "s", "--json"];
    Cli::command(epmd.port(), &[&usual[..], arguments].concat(), variables)
}

async fn ends_politely(cli: Cli, signal: Signal) -> Result<Vec<String>> {
    let before = cli.started.elapsed();
    cli.signal(signal)?;
    let ended = cli.end().await?;
    let took = ended.took.saturating_sub(before);
    ensure!(took <= POLITE, "an end after {took:?}: {:?}", ended.err);
    assert_eq!(ended.code, Some(0), "{:?}", ended.err);
    Ok(ended.err)
}

async fn the_log_is_one_object_a_line(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(otp, "a", &epmd).await?;
    let cli = join(&epmd, &["a@127.0.0.1", "b@127.0.0.1", "--log=json", "--log-level=trace"], &[])?;
    cli.event("peer_up", |event| event["event"] == "peer_up").await?;
    cli.says(&["data_publisher::cli", "no node b@127.0.0.1"]).await?;
    let lines = ends_politely(cli, Signal::TERM).await?;
    assert!(!lines.join("\n").contains(COOKIE));

    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).context(line.clone()))
        .collect::<Result<_>>()?;
    for object in &objects {
        for field in ["ts", "level", "target", "message"] {
            assert!(object[field].is_string(), "{object}");
        }
        let ts = object["ts"].as_str().unwrap_or_default();
        assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "{ts}");
    }
    let is_up = |object: &&Value| {
        let target = object["target"].as_str().unwrap_or_default();
        target.starts_with("data_publisher::node") && object["node"] == "a@127.0.0.1"
    };
    let up = objects.iter().find(|object| is_up(object) && object["creation"].is_u64());
    assert_eq!(up.context("a line about a node that is up")?["level"], "info");
    let complaint = objects.iter().find(|object| object["target"] == "data_publisher::cli");
    assert_eq!(complaint.context("the complaint")?["level"], "error");
    erl.finish().await
}

#[tokio::test]
async fn the_log_is_one_object_a_line_otp_27() -> Result<()> {
    the_log_is_one_object_a_line(Otp::R27).await
}

#[tokio::test]
async fn the_log_is_one_object_a_line_otp_29() -> Result<()> {
    the_log_is_one_object_a_line(Otp::R29).await
}

/// A failure is one, too, of every command.
#[tokio::test]
async fn a_complaint_is_an_object_if_the_log_is() -> Result<()> {
    let epmd = Epmd::start().await?;
    for arguments in [
        &["--log", "json", "ping", "b@127.0.0.1", "--cookie", COOKIE][..],
        &["ping", "nonsense", "--log=json"],
        &["join", "--name=r@127.0.0.1", "--config=/no/such", "--log=json"],
    ] {
        let ended = Cli::run(epmd.port(), arguments).await?;
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let [line] = &ended.err[..] else { panic!("{ended:?}") };
        let object: Value = serde_json::from_str(line).with_context(|| line.clone())?;
        assert_eq!(
            (&object["level"], &object["target"]),
            (&"error".into(), &"data_publisher::cli".into())
        );
    }
    Ok(())
}

/// A seed that isn't there, and a node whose scope doesn't answer.
#[tokio::test]
async fn it_says_whom_it_waits_for_and_why() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R27, "a", &epmd).await?;
    erl.eval("sys:suspend(s)").await?;
    let cli = join(&epmd, &["a@127.0.0.1", "b@127.0.0.1"], &[])?;
    cli.event("node_up", |event| event["event"] == "node_up").await?;
    cli.says(&["waiting for a@127.0.0.1", "its scope hasn't answered yet"]).await?;
    cli.says(&["waiting for b@127.0.0.1", "no node b@127.0.0.1", "dialled again in"]).await?;
    erl.eval("sys:resume(s)").await?;
    cli.event("peer_up", |event| event["event"] == "peer_up").await?;
    ends_politely(cli, Signal::TERM).await?;
    erl.finish().await
}

/// With `--keep-trying` a member may be started before everybody else.
#[tokio::test]
async fn it_may_be_the_first_to_be_there() -> Result<()> {
    let epmd = Epmd::start().await?;
    let cli = join(&epmd, &["a@127.0.0.1", "--group=g", "--keep-trying"], &[])?;
    cli.says(&["will try again", "no node a@127.0.0.1"]).await?;
    let erl = erl_with_scope(Otp::R29, "a", &epmd).await?;
    wait_eval(&erl, "length(pg:get_members(s, g))", "1", SOON).await?;
    ends_politely(cli, Signal::INT).await?;
    erl.finish().await
}

async fn leaves_a_healthy_peer(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(otp, "a", &epmd).await?;
    for signal in [Signal::TERM, Signal::INT] {
        let cli = join(&epmd, &["a@127.0.0.1", "--group=g"], &[])?;
        wait_eval(&erl, "length(pg:get_members(s, g))", "1", SOON).await?;
        ends_politely(cli, signal).await?;
        wait_eval(&erl, "{nodes(), pg:get_members(s, g)}", "{[],[]}", SOON).await?;
    }
    erl.finish().await
}

#[tokio::test]
async fn leaves_a_healthy_peer_otp_27() -> Result<()> {
    leaves_a_healthy_peer(Otp::R27).await
}

#[tokio::test]
async fn leaves_a_healthy_peer_otp_29() -> Result<()> {
    leaves_a_healthy_peer(Otp::R29).await
}

/// Groups with names that make more than a megabyte of our local data; how many bytes they are.
async fn large_snapshot(cli: &mut Cli) -> Result<usize> {
    let mut bytes = 0;
    for number in 0..25 {
        let name = format!("\"{number}{}\"", "y".repeat(60_000));
        cli.ask(&format!("join {name}")).await?;
        bytes += name.len();
    }
    Ok(bytes)
}

/// The peer stands still in the middle of our snapshot.
#[tokio::test]
async fn leaves_though_a_peer_has_stopped() -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut cli = join(&epmd, &[], &[])?;
    let snapshot = large_snapshot(&mut cli).await?;
    ensure!(snapshot > 1 << 20, "a snapshot of {snapshot} bytes");
    let mut erl = erl_with_scope(Otp::R29, "a", &epmd).await?;
    erl.eval("erlang:suspend_process(whereis(s))").await?;
    erl.eval("net_kernel:connect_node('r@127.0.0.1')").await?;
    cli.event("node_up", |event| event["event"] == "node_up").await?;
    erl.stop_signal()?;
    for _ in 0..20 {
        cli.write("join g 100\n").await?;
    }
    ends_politely(cli, Signal::TERM).await?;
    erl.cont_signal()?;
    erl.finish().await
}

/// It takes connections and never says a word.
#[tokio::test]
async fn leaves_while_it_dials_a_peer_that_is_silent() -> Result<()> {
    let epmd = Epmd::start().await?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let port = silent.local_addr()?.port();
    let client = data_publisher::epmd::Epmd::new(epmd.port());
    let _registered = client.register("b", port, NodeKind::Visible).await?;
    let cli = join(&epmd, &["b@127.0.0.1"], &[])?;
    let _dialled = tokio::time::timeout(SOON, silent.accept()).await??;
    ends_politely(cli, Signal::TERM).await?;
    Ok(())
}

/// An EPMD that takes the connection and never answers keeps it from starting.
#[tokio::test]
async fn leaves_while_it_has_not_even_started() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let arguments = ["join", "--name=r@127.0.0.1", "--cookie", COOKIE];
    let cli = Cli::start(silent.local_addr()?.port(), &arguments)?;
    let _asked = tokio::time::timeout(SOON, silent.accept()).await??;
    ends_politely(cli, Signal::TERM).await?;
    Ok(())
}

/// Nobody reads what it prints, so the thread that prints stands.
#[tokio::test]
async fn leaves_though_nobody_reads_its_output() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R27, "a", &epmd).await?;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_data-publisher"))
        .args(["join", "a@127.0.0.1", "--name=r@127.0.0.1", "--scope=s", "--cookie", COOKIE])
        .env_clear()
        .env("ERL_EPMD_PORT", epmd.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    wait_eval(&erl, "length(nodes())", "1", SOON).await?;
    // Far more lines than a pipe holds.
    erl.eval("[probe:member(s, {g, N}) || N <- lists:seq(1, 5000)], ok").await?;
    let id = child.id().context("it runs")?;
    wait_until("it stands in a write", SOON, async || {
        let place = std::fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
        if place.contains("pipe_write") || place == "0" { Ok(()) } else { Err(place) }
    })
    .await?;
    let asked = Instant::now();
    kill_process(Pid::from_raw(id.cast_signed()).context("a process id")?, Signal::TERM)?;
    let status = tokio::time::timeout(SOON, child.wait()).await??;
    let took = asked.elapsed();
    ensure!(took <= POLITE, "an end after {took:?}");
    assert_eq!(status.code(), Some(0));
    wait_eval(&erl, "nodes()", "[]", SOON).await?;
    erl.finish().await
}

/// Both ways: theirs as we come, ours as another one comes.
#[tokio::test]
async fn a_large_first_sync_shows_how_far_it_is() -> Result<()> {
    const LONG: Duration = Duration::from_secs(60);
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, "a", &epmd).await?;
    let fill = "P = spawn(fun() -> receive stop -> ok end end), \
                [ok = pg:join(s, {group, N, <<\"a name of some length\">>}, P) || \
                 N <- lists:seq(1, 200000)], ok";
    erl.eval_within(fill, LONG).await?;
    let cli = join(&epmd, &["a@127.0.0.1"], &[("RUST_LOG", "info")])?;
    cli.says_within(&["a@127.0.0.1: recei", "MiB"], LONG).await?;
    let answered = "all connected nodes have answered: 1 node, 200000 groups";
    cli.says_within(&[answered], LONG).await?;
    drop(cli);

    let mut cli = join(&epmd, &[], &[("RUST_LOG", "info")])?;
    large_snapshot(&mut cli).await?;
    let other = erl_with_scope(Otp::R27, "b", &epmd).await?;
    other.eval("net_kernel:connect_node('r@127.0.0.1')").await?;
    cli.says(&["b@127.0.0.1: sen", "MiB"]).await?;
    wait_eval(&other, "length(pg:which_groups(s)) >= 25", "true", LONG).await?;
    ends_politely(cli, Signal::TERM).await?;
    other.finish().await?;
    erl.finish().await
}

/// What `systemd` hears: ready once it can be dialled, how things stand, that it's alive, that it ends.
#[tokio::test]
async fn the_service_manager_is_told() -> Result<()> {
    let epmd = Epmd::start().await?;
    let folder = Folder::new("notify")?;
    let path = folder.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_nonblocking(true)?;
    let path = path.to_str().context("a path in UTF-8")?;
    let mut told = String::new();
    let mut hear = async |word: &str| {
        wait_until(word, SOON, async || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                told.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            if told.contains(word) { Ok(()) } else { Err(told.clone()) }
        })
        .await
    };
    let variables = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "1000000")];
    let cli = join(&epmd, &["b@127.0.0.1", "--keep-trying"], &variables)?;
    hear("READY=1\n").await?;
    hear("WATCHDOG=1\n").await?;
    hear("STATUS=0 nodes connected, 0 peers in the scope, waiting for 1\n").await?;
    let erl = erl_with_scope(Otp::R27, "b", &epmd).await?;
    hear("STATUS=1 node connected, 1 peer in the scope\n").await?;
    ends_politely(cli, Signal::TERM).await?;
    hear("STOPPING=1\n").await?;
    erl.finish().await
}

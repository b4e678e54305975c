//! Each failure has its own one-line message with the cure, exit code 2, and comes soon.

use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Cli, Folder};
use crate::support::{Epmd, ErlNode, Otp, free_port};
use data_publisher::epmd::NodeKind;

const COOKIE: &str = "s3cr3t-of-the-cluster";

async fn a_wrong_cookie(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::start(otp, "a", &epmd).await?;
    for command in [
        &["join", "a@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE][..],
        &["ping", "a@127.0.0.1", "--cookie", COOKIE],
    ] {
        let debug = [("RUST_LOG", "trace")];
        let loud = Cli::command(epmd.port(), command, &debug)?.end().await?;
        loud.assert_never_says(COOKIE);

        let ended = Cli::run(epmd.port(), command).await?;
        ended.assert_complaint(&["a@127.0.0.1 has another cookie", "--cookie-file"]);
        ended.assert_never_says(COOKIE);
        assert_eq!(ended.code, Some(if command[0] == "ping" { 1 } else { 2 }));
    }
    erl.finish().await
}

#[tokio::test]
async fn a_wrong_cookie_otp_25() -> Result<()> {
    a_wrong_cookie(Otp::R25).await
}

#[tokio::test]
async fn a_wrong_cookie_otp_27() -> Result<()> {
    a_wrong_cookie(Otp::R27).await
}

#[tokio::test]
async fn a_wrong_cookie_otp_29() -> Result<()> {
    a_wrong_cookie(Otp::R29).await
}

#[tokio::test]
async fn an_unknown_host() -> Result<()> {
    let peer = "b@no-such-host.invalid";
    let arguments = ["join", peer, "--name", "r@127.0.0.1", "--cookie", COOKIE];
    let ended = Cli::run(free_port()?, &arguments).await?;
    ended.assert_failed(&["no-such-host.invalid is unknown", "check the part"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_name() -> Result<()> {
    let epmd = Epmd::start().await?;
    let arguments = ["join", "b@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE];
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["no node b@127.0.0.1", "data-publisher names 127.0.0.1"]);
    Ok(())
}

#[tokio::test]
async fn no_epmd_on_the_peer_s_host() -> Result<()> {
    // Ours listens at 127.0.0.1 to 127.0.0.3.
    let epmd = Epmd::start().await?;
    let arguments = ["join", "b@127.0.0.9", "--name", "r@127.0.0.1", "--cookie", COOKIE];
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["no EPMD at 127.0.0.9", "--epmd-port"]);
    Ok(())
}

#[tokio::test]
async fn something_else_on_epmd_s_port() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let ended = Cli::run(port, &["join", "--name", "r@127.0.0.1", "--cookie", COOKIE]).await?;
    ended.assert_failed(&["doesn't talk like an EPMD", "--epmd-port"]);
    Ok(())
}

#[tokio::test]
async fn a_name_without_host() -> Result<()> {
    for arguments in [
        &["join", "--name", "r", "--cookie", COOKIE][..],
        &["join", "b", "--name", "r@127.0.0.1", "--cookie", COOKIE],
        &["ping", "b", "--cookie", COOKIE],
    ] {
        let ended = Cli::run(free_port()?, arguments).await?;
        ended.assert_failed(&["is no node name", "name@host"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_name() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::start(Otp::R27, "a", &epmd).await?;
    let ended =
        Cli::run(epmd.port(), &["join", "--name", "a@127.0.0.1", "--cookie", COOKIE]).await?;
    ended.assert_failed(&["a@127.0.0.1 is taken", "Choose another --name"]);
    erl.finish().await
}

#[tokio::test]
async fn the_peer_is_ourselves() -> Result<()> {
    let arguments = ["join", "r@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE];
    let ended = Cli::run(free_port()?, &arguments).await?;
    ended.assert_failed(&["r@127.0.0.1 is our own name", "another --name"]);
    Ok(())
}

#[tokio::test]
async fn a_port_in_use() -> Result<()> {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = taken.local_addr()?.port().to_string();
    let arguments = ["join", "--name", "r@127.0.0.1", "--cookie", COOKIE, "--port", &port];
    let ended = Cli::run(free_port()?, &arguments).await?;
    ended.assert_failed(&["can't listen at 127.0.0.1:", &port, "in use", "another --port"]);

    let epmd = Cli::run(free_port()?, &["epmd", "--port", &port]).await?;
    epmd.assert_failed(&[&port, "taken", "another port"]);
    Ok(())
}

#[tokio::test]
async fn no_cookie() -> Result<()> {
    let home = Folder::new("no-cookie")?;
    let variables = [("HOME", home.path().to_str().unwrap_or_default())];
    let arguments = ["join", "--name", "r@127.0.0.1"];
    let ended = Cli::command(free_port()?, &arguments, &variables)?.end().await?;
    ended.assert_failed(&[
        "no cookie file at",
        ".erlang.cookie",
        "--cookie",
        "DATA_PUBLISHER_COOKIE",
    ]);
    Ok(())
}

#[tokio::test]
async fn a_cookie_file_that_can_not_be_used() -> Result<()> {
    let folder = Folder::new("bad-cookie")?;
    let join = |file: &str| {
        let arguments = ["join", "--name", "r@127.0.0.1", "--cookie-file", file];
        Cli::start(free_port()?, &arguments)
    };
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap_or_default();
    join(missing)?.end().await?.assert_failed(&["can't read the cookie file", missing, "check"]);

    let two_lines = folder.file("two", &format!("{COOKIE}\nand more\n"), 0o400)?;
    let ended = join(&two_lines)?.end().await?;
    ended.assert_failed(&["holds no cookie", "one line"]);
    ended.assert_never_says(COOKIE);

    // The one at home must be private, as for `erl`.
    folder.file(".erlang.cookie", COOKIE, 0o644)?;
    let variables = [("HOME", folder.path().to_str().unwrap_or_default())];
    let exposed = Cli::command(free_port()?, &["join", "--name", "r@127.0.0.1"], &variables)?;
    let ended = exposed.end().await?;
    ended.assert_failed(&["others can read the cookie file", "chmod 400"]);
    ended.assert_never_says(COOKIE);
    Ok(())
}

#[tokio::test]
async fn options_that_exclude_each_other_or_do_not_exist() -> Result<()> {
    for (arguments, words) in [
        (&["join"][..], &["required", "--name", "Usage: data-publisher join"][..]),
        (&["join", "--name", "r@h", "--cookie", COOKIE, "--cookie-file", "f"], &["--cookie-file"]),
        (&["join", "--name", "r@h", "--port", "70000"], &["70000", "--port"]),
        (&["jion"], &["jion", "join"]),
        (&["demo", "--nodes", "1"], &["--nodes"]),
        (&["demo", "--erl", "/no/such/erl"], &["/no/such/erl", "no such file"]),
    ] {
        let ended = Cli::run(free_port()?, arguments).await?;
        ended.assert_failed(words);
        ended.assert_never_says(COOKIE);
        assert_eq!(ended.out, [""; 0]);
    }
    Ok(())
}

/// A node that EPMD knows and that isn't one: it reads the name and says no word.
#[tokio::test]
async fn a_peer_that_says_nothing() -> Result<()> {
    let epmd = Epmd::start().await?;
    let fake = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = fake.local_addr()?.port();
    let known = data_publisher::epmd::Epmd::new(epmd.port());
    let _registration = known.register("mute", port, NodeKind::Visible).await?;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = fake.accept().await {
            held.push(socket);
        }
    });
    let arguments = ["join", "mute@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE];
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["mute@127.0.0.1 didn't answer in time", "hung"]);
    Ok(())
}

/// A node that offers fewer flags than OTP 25, or that wants more of us than we have.
#[tokio::test]
async fn a_refused_flag() -> Result<()> {
    let epmd = Epmd::start().await?;
    let fake = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = fake.local_addr()?.port();
    let known = data_publisher::epmd::Epmd::new(epmd.port());
    let _registration = known.register("old", port, NodeKind::Visible).await?;
    let (say, mut answers) = tokio::sync::watch::channel(Vec::new());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = fake.accept().await {
            let answer = answers.borrow_and_update().clone();
            tokio::spawn(async move {
                let mut name = [0; 512];
                let _ = socket.read(&mut name).await;
                let _ = socket.write_all(&answer).await;
                // Until the other end closes.
                let _ = socket.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    let arguments = ["join", "old@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE];

    let name = b"old@127.0.0.1";
    let mut challenge = vec![0, 3, b's', b'o', b'k', 0, 19 + name.len() as u8, b'N'];
    challenge.extend(0x107_0F94_u64.to_be_bytes()); // OTP 25 without UNLINK_ID and V4_NC
    challenge.extend([1, 2, 3, 4]); // challenge
    challenge.extend([0, 0, 0, 9]); // creation
    challenge.extend([0, name.len() as u8]);
    challenge.extend(name);
    say.send(challenge)?;
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["old@127.0.0.1 lacks", "UNLINK_ID", "V4_NC", "needs OTP 25 or later"]);

    say.send(b"\0\x0csnot_allowed".to_vec())?;
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["old@127.0.0.1 refused us", "net_kernel:allow/1"]);

    say.send(b"\0\x09snonsense".to_vec())?;
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_failed(&["handshake with old@127.0.0.1 failed", "nonsense"]);
    Ok(())
}

/// Without a secret there is nothing to be found: names of peers, of groups, of files are told.
#[tokio::test]
async fn the_cookie_never_appears() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::options(Otp::R29, "a", epmd.port()).cookie(COOKIE).start().await?;
    let arguments = ["join", "a@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", COOKIE, "--json"];
    let mut cli = Cli::command(epmd.port(), &arguments, &[("RUST_LOG", "trace")])?;
    cli.event("node_up", |event| event["event"] == "node_up").await?;
    cli.write("help\nnodes\nquit\n").await?;

    let ended = cli.end().await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.len() > 1, "a log was asked for: {ended:?}");
    ended.assert_never_says(COOKIE);
    erl.finish().await
}

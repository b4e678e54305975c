//! `join` by a file, by the environment and by options, and what is printed of that; the cookie is in no output.

use std::collections::BTreeSet;

use anyhow::Result;
use rustix::process::Signal;

use super::{Cli, Ended, Folder};
use crate::support::{Epmd, ErlNode, Otp, SOON, free_port, wait_eval};

const COOKIE: &str = "s3cr3t-of-the-cluster";

async fn a_file_is_enough(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::options(otp, "a", epmd.port()).cookie(COOKIE).start().await?;
    erl.eval("probe:start_scope(s)").await?;
    let folder = Folder::new("config")?;
    let text = format!(
        "name = 'r@127.0.0.1'\npeers = ['a@127.0.0.1']\ncookie = '{COOKIE}'\nscope = 's'\n\
         group = ['g', '{{room, 7}}']\nnet-ticktime = 17\njson = true\nlog = 'json'\n\
         log-level = 'trace'\n[limit]\nmessage = '64 MiB'\n"
    );
    let file = folder.file("member.toml", &text, 0o600)?;

    // By the option, and by its variable.
    for (arguments, variables) in [
        (&["join", "--config", &file][..], &[][..]),
        (&["join"], &[("DATA_PUBLISHER_CONFIG", &file[..])]),
    ] {
        let mut cli = Cli::command(epmd.port(), arguments, variables)?;
        cli.event("peer_up", |event| event["event"] == "peer_up").await?;
        let groups = "[length(pg:get_members(s, G)) || G <- [g, {room, 7}]]";
        wait_eval(&erl, groups, "[1,1]", SOON).await?;
        assert_eq!(cli.ask("nodes").await?, serde_json::json!(["a@127.0.0.1"]));
        cli.signal(Signal::TERM)?;
        let ended = cli.end().await?;
        assert_eq!(ended.code, Some(0));
        ended.assert_never_says(COOKIE);
        wait_eval(&erl, groups, "[0,0]", SOON).await?;
    }
    erl.finish().await
}

#[tokio::test]
async fn a_file_is_enough_otp_27() -> Result<()> {
    a_file_is_enough(Otp::R27).await
}

#[tokio::test]
async fn a_file_is_enough_otp_29() -> Result<()> {
    a_file_is_enough(Otp::R29).await
}

#[tokio::test]
async fn what_is_wrong_in_a_file_is_told_and_a_secret_is_kept() -> Result<()> {
    let folder = Folder::new("wrong-config")?;
    let name = "name = 'r@127.0.0.1'\n";
    let cookie = format!("cookie = '{COOKIE}'\n");
    for (text, mode, words) in [
        (format!("{name}{cookie}prot = 7\n"), 0o600, &["wrong.toml:3: ", "`prot`", "`port`"][..]),
        (format!("{name}cookie = '{COOKIE}\n"), 0o600, &["wrong.toml:2: ", "not TOML"]),
        (format!("{name}{cookie}port = '{COOKIE}'\n"), 0o600, &["wrong.toml:3: port: "]),
        (format!("{name}{cookie}"), 0o644, &["others can read", "wrong.toml", "chmod 600"]),
    ] {
        let file = folder.file("wrong.toml", &text, mode)?;
        let ended = Cli::run(free_port()?, &["join", "--config", &file]).await?;
        ended.assert_failed(words);
        if !text.contains("port = '") {
            ended.assert_never_says(COOKIE);
        }
    }
    let ended = Cli::run(free_port()?, &["join", "--config", "/no/such.toml"]).await?;
    ended.assert_failed(&["can't read the configuration file /no/such.toml"]);
    Ok(())
}

/// The settings of what was printed, without where they are from.
fn settings(ended: &Ended) -> BTreeSet<String> {
    let lines = ended.out.iter().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split("  # ").next().unwrap_or(line).to_owned()).collect()
}

#[tokio::test]
async fn what_is_printed_gives_the_same_configuration() -> Result<()> {
    let folder = Folder::new("printed-config")?;
    let text = format!(
        "name = 'file@127.0.0.1'\nport = 1\ncookie = '{COOKIE}'\npeers = ['f@127.0.0.1']\n\
         net-ticktime = 11\n[tls]\ncertfile = '/c.pem'\ncacertfile = '/ca.pem'\n"
    );
    let file = folder.file("first.toml", &text, 0o600)?;
    let arguments = ["join", "--config", &file, "--name", "typed@127.0.0.1", "--print-config"];
    let variables = [
        ("DATA_PUBLISHER_PORT", "2"),
        ("DATA_PUBLISHER_NAME", "variable@127.0.0.1"),
        ("DATA_PUBLISHER_GROUP", "{room, 1}"),
        ("RUST_LOG", "trace"),
    ];
    let first = Cli::command(4711, &arguments, &variables)?.end().await?;
    assert_eq!(first.code, Some(0), "{first:?}");
    first.assert_never_says(COOKIE);
    let printed = settings(&first);
    for line in [
        "name = \"typed@127.0.0.1\"",
        "port = 2",
        "net-ticktime = 11",
        "peers = [\"f@127.0.0.1\"]",
        "group = [\"{room, 1}\"]",
        "epmd-port = 4711",
        "log-level = \"trace\"",
        "certfile = \"/c.pem\"",
        "message = \"256 MiB\"",
    ] {
        assert!(printed.contains(line), "no {line}: {printed:#?}");
    }

    let file = folder.file("second.toml", &first.out.join("\n"), 0o644)?;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_data-publisher"));
    command.args(["join", "--config", &file, "--print-config"]).env_clear();
    let second = Cli::of(command)?.end().await?;
    assert_eq!(second.code, Some(0), "{second:?}");
    assert_eq!(settings(&second), printed);
    Ok(())
}

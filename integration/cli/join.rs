//! `join`: the contract of its lines, both ways.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{Cli, Folder};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, free_port, wait_eval, wait_until};

/// How long a polite end may take.
const POLITE: Duration = Duration::from_secs(2);

/// `join` with `--json` as `r@127.0.0.1` in scope `s`.
fn join(epmd: &Epmd, arguments: &[&str]) -> Result<Cli> {
    let usual = ["join", "--name", "r@127.0.0.1", "--cookie", cookie(), "--scope", "s", "--json"];
    Cli::start(epmd.port(), &[&usual[..], arguments].concat())
}

async fn erl_with_scope(otp: Otp, epmd: &Epmd) -> Result<ErlNode> {
    let erl = ErlNode::start(otp, "a", epmd).await?;
    erl.eval("probe:start_scope(s)").await?;
    Ok(erl)
}

/// The names of an object's fields, in their order.
fn fields(event: &Value) -> Vec<&str> {
    event.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn is(event: &Value, kind: &str) -> bool {
    event["event"] == kind
}

/// `<a@127.0.0.1.99.0>`
fn assert_pid(pid: &Value, node: &str) {
    let numbers = pid.as_str().and_then(|pid| {
        pid.strip_prefix('<')?
            .strip_suffix('>')?
            .strip_prefix(node)?
            .strip_prefix('.')?
            .split_once('.')
    });
    let Some((id, serial)) = numbers else { panic!("{pid} is no pid of {node}") };
    assert!(id.parse::<u32>().is_ok() && serial.parse::<u32>().is_ok(), "{pid}");
}

#[expect(clippy::too_many_lines, reason = "one session, from its first line to its last")]
async fn json_contract(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(otp, &epmd).await?;
    erl.eval("M = probe:member(s, {room, 7})").await?;
    let mut cli = join(&epmd, &["a@127.0.0.1", "--group", "mine", "--group", "{my, \"own\"}"])?;

    // What comes first.
    let up = cli.event("up", |_| true).await?;
    assert_eq!(fields(&up), ["event", "node", "port", "creation"]);
    assert_eq!((&up["event"], &up["node"]), (&json!("up"), &json!("r@127.0.0.1")));
    let port = erl.eval("{ok, Ns} = net_adm:names(), proplists:get_value(\"r\", Ns)").await?;
    assert_eq!(up["port"].to_string(), port);
    assert!(up["creation"].is_u64(), "{up}");

    let node_up = cli.event("node_up", |event| is(event, "node_up")).await?;
    assert_eq!(fields(&node_up), ["event", "node", "visible", "flags"]);
    assert_eq!((&node_up["node"], &node_up["visible"]), (&json!("a@127.0.0.1"), &json!(true)));
    let flags = node_up["flags"].as_array().context("a list")?;
    for flag in ["PUBLISHED", "DIST_HDR_ATOM_CACHE", "FRAGMENTS", "SPAWN"] {
        assert!(flags.contains(&json!(flag)), "{flags:?}");
    }
    assert_eq!(flags.contains(&json!("ALTACT_SIG")), otp == Otp::R29);
    let peer_up = cli.event("peer_up", |event| is(event, "peer_up")).await?;
    assert_eq!(fields(&peer_up), ["event", "node", "pid", "version"]);
    assert_eq!(peer_up["node"], "a@127.0.0.1");
    assert_pid(&peer_up["pid"], "a@127.0.0.1");
    assert_eq!(peer_up["version"], if otp == Otp::R29 { "1" } else { "0" });

    // Members, theirs and ours.
    let join = cli.event("their member", |event| event["group"] == "{room,7}").await?;
    assert_eq!(fields(&join), ["event", "group", "pids"]);
    assert_eq!((&join["event"], join["pids"].as_array().map(Vec::len)), (&json!("join"), Some(1)));
    assert_pid(&join["pids"][0], "a@127.0.0.1");
    for group in ["mine", r#"{my,"own"}"#] {
        let own = cli.event("our member", |e| is(e, "join") && e["group"] == group).await?;
        assert_pid(&own["pids"][0], "r@127.0.0.1");
    }
    wait_eval(&erl, "[length(pg:get_members(s, G)) || G <- [mine, {my, \"own\"}]]", "[1,1]", SOON)
        .await?;

    // Each command.
    let made = cli.ask("join g 2").await?;
    assert_eq!(made.as_array().map(Vec::len), Some(2), "{made}");
    assert_eq!(cli.ask("members g").await?, made);
    assert_eq!(cli.ask("local g").await?, made);
    assert_eq!(cli.ask("local {room,7}").await?, json!([]));
    assert_eq!(cli.ask("members {room, 7}").await?, join["pids"]);
    let groups = cli.ask("groups").await?;
    let mut groups: Vec<_> =
        groups.as_array().context("an array")?.iter().map(Value::to_string).collect();
    groups.sort_unstable();
    assert_eq!(groups, [r#""g""#, r#""mine""#, r#""{my,\"own\"}""#, r#""{room,7}""#]);
    assert_eq!(cli.ask("nodes").await?, json!(["a@127.0.0.1"]));
    let peers = cli.ask("peers").await?;
    assert_eq!(fields(&peers[0]), ["node", "pid", "version"], "{peers}");
    for field in ["node", "pid", "version"] {
        assert_eq!(peers[0][field], peer_up[field]);
    }
    assert!(cli.ask("help").await?.as_str().is_some_and(|help| help.contains("send GROUP TERM")));

    // Messages, both ways.
    let term = r#"{hello,<<"b">>,[1,2.5|x],#{k => 'A b'},"text"}"#;
    assert_eq!(cli.ask(&format!("send {{room,7}} {term}")).await?, json!(1));
    wait_eval(&erl, "length(probe:messages(M))", "1", SOON).await?;
    assert_eq!(erl.eval(&format!("probe:messages(M) =:= [{term}]")).await?, "true");
    assert_eq!(cli.ask("send nobody x").await?, json!(0));
    erl.eval(&format!("[P ! {term} || P <- pg:get_members(s, mine)]")).await?;
    let message = cli.event("a message", |event| is(event, "message")).await?;
    assert_eq!(fields(&message), ["event", "pid", "term"]);
    assert_eq!(message["pid"], cli.ask("local mine").await?[0]);
    assert_eq!(message["term"], erl.eval(term).await?, "as ~0p prints it");

    // The newest leaves, then the other one; a third there isn't.
    let newest = cli.ask("leave g").await?;
    assert_eq!(newest, json!([made[1]]));
    let leave = cli.event("leave", |event| is(event, "leave")).await?;
    assert_eq!(leave, json!({"event": "leave", "group": "g", "pids": newest}));
    let error = cli.reply("leave g 2").await?;
    assert_eq!(fields(&error), ["event", "command", "error"]);
    assert_eq!(cli.ask("leave g 1").await?, json!([made[0]]));
    assert_eq!(cli.ask("members g").await?, json!([]));
    wait_eval(&erl, "pg:get_members(s, g)", "[]", SOON).await?;

    // A member of ours that somebody kills is gone, and isn't counted any more.
    let victim = cli.ask("join v").await?;
    wait_eval(&erl, "length(pg:get_members(s, v))", "1", SOON).await?;
    erl.eval("[exit(P, kill) || P <- pg:get_members(s, v)]").await?;
    cli.event("the killed leaves", |e| is(e, "leave") && e["pids"] == victim).await?;
    wait_until("no more to end", SOON, async || match cli.reply("leave v").await {
        Ok(reply) if reply.get("error").is_some() => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await?;

    // Its scope dies and comes back; then all of it dies.
    let pid = peer_up["pid"].clone();
    erl.eval("probe:kill_scope(s)").await?;
    let down = cli.event("peer_down", |event| is(event, "peer_down")).await?;
    assert_eq!(
        down,
        json!({"event": "peer_down", "node": "a@127.0.0.1", "pid": pid, "reason": "killed"})
    );
    cli.event("their member leaves", |e| is(e, "leave") && e["group"] == "{room,7}").await?;
    erl.eval("probe:start_scope(s)").await?;
    let again = cli.event("peer_up again", |e| is(e, "peer_up") && e["pid"] != pid).await?;
    wait_eval(&erl, "length(pg:get_members(s, mine))", "1", SOON).await?;

    erl.finish().await?;
    let down = cli.event("peer_down", |e| is(e, "peer_down") && e["pid"] == again["pid"]).await?;
    assert_eq!(down["reason"], "noconnection");
    let down = cli.event("node_down", |event| is(event, "node_down")).await?;
    assert_eq!(
        down,
        json!({"event": "node_down", "node": "a@127.0.0.1", "reason": "connection_closed"})
    );

    assert_eq!(cli.ask("quit").await?, Value::Null);
    let ended = cli.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    for line in &ended.out {
        let event: Value = serde_json::from_str(line).context("each line is one object")?;
        assert!(event["event"].is_string(), "{line}");
    }
    // In the order things happened.
    let kinds = ended.out.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let kinds: Vec<_> = kinds.map(|event| event["event"].to_string()).collect();
    let first = |kind: &str| kinds.iter().position(|found| *found == format!("{kind:?}"));
    assert!(first("up") < first("node_up") && first("node_up") < first("peer_up"), "{kinds:?}");
    Ok(())
}

#[tokio::test]
async fn json_contract_otp_25() -> Result<()> {
    json_contract(Otp::R25).await
}

#[tokio::test]
async fn json_contract_otp_27() -> Result<()> {
    json_contract(Otp::R27).await
}

#[tokio::test]
async fn json_contract_otp_29() -> Result<()> {
    json_contract(Otp::R29).await
}

#[tokio::test]
async fn text_tells_the_same_to_people() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    erl.eval("probe:member(s, theirs)").await?;
    let mut cli = Cli::start(
        epmd.port(),
        &[
            "join",
            "a@127.0.0.1",
            "--name",
            "r@127.0.0.1",
            "--cookie",
            cookie(),
            "--scope",
            "s",
            "--group",
            "mine",
        ],
    )?;
    for (word, rest) in [
        ("up", "r@127.0.0.1, port "),
        ("node_up", "a@127.0.0.1, visible, atom cache, fragments, spawn"),
        ("peer_up", "<a@127.0.0.1."),
        ("join", "mine <r@127.0.0.1."),
        ("join", "theirs <a@127.0.0.1."),
    ] {
        line(&cli, |line| {
            line.split_once(' ')
                .is_some_and(|(first, more)| first == word && more.trim_start().starts_with(rest))
        })
        .await
        .with_context(|| format!("{word} {rest}"))?;
    }
    cli.write("nodes\nmembers nobody\nnonsense\nsend theirs hello\n").await?;
    for expected in ["a@127.0.0.1", "(none)", "1"] {
        line(&cli, |line| line == expected).await?;
    }
    line(&cli, |line| line.starts_with("error: no command `nonsense`")).await?;
    erl.eval("[P ! {hello, you} || P <- pg:get_members(s, mine)]").await?;
    line(&cli, |line| line.starts_with("message") && line.ends_with("> {hello,you}")).await?;

    erl.finish().await?;
    line(&cli, |line| line.starts_with("peer_down") && line.ends_with(", noconnection")).await?;
    line(&cli, |line| line == "node_down  a@127.0.0.1, connection_closed").await?;
    line(&cli, |line| line.starts_with("leave") && line.contains("theirs <a@127.0.0.1.")).await?;
    cli.write("quit\n").await?;
    let ended = cli.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    Ok(())
}

async fn line(cli: &Cli, is_meant: impl Fn(&str) -> bool) -> Result<()> {
    wait_until("a line", SOON, async || {
        let lines = cli.out.all();
        lines.iter().any(|line| is_meant(line)).then_some(()).ok_or(lines.join("\n"))
    })
    .await
}

async fn leaves_politely(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(otp, &epmd).await?;
    for how in ["quit", "INT", "TERM"] {
        let mut cli = join(&epmd, &["a@127.0.0.1", "--group", "g"])?;
        cli.ask("join g 99").await?;
        wait_eval(&erl, "length(pg:get_members(s, g))", "100", SOON).await?;

        let asked = Instant::now();
        match how {
            "quit" => cli.write("quit\n").await?,
            "INT" => cli.signal(Signal::INT)?,
            _ => cli.signal(Signal::TERM)?,
        }
        wait_eval(&erl, "pg:get_members(s, g)", "[]", POLITE).await?;
        let gone = asked.elapsed();
        let ended = cli.end().await?;
        let took = asked.elapsed();

        assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{how}: {ended:?}");
        assert!(took <= POLITE, "{how}: {took:?}, members gone after {gone:?}");
        // Its name is free at once.
        let names = "{ok, Ns} = net_adm:names(), [N || {N, _} <- Ns]";
        wait_eval(&erl, names, "[\"a\"]", POLITE).await?;
    }
    erl.finish().await
}

#[tokio::test]
async fn leaves_politely_otp_25() -> Result<()> {
    leaves_politely(Otp::R25).await
}

#[tokio::test]
async fn leaves_politely_otp_27() -> Result<()> {
    leaves_politely(Otp::R27).await
}

#[tokio::test]
async fn leaves_politely_otp_29() -> Result<()> {
    leaves_politely(Otp::R29).await
}

/// Nobody else needs to read and to take: the peer is stopped, and so it can't.
#[tokio::test]
async fn a_stopped_peer_does_not_keep_it_from_ending_nor_from_answering() -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut erl = erl_with_scope(Otp::R27, &epmd).await?;
    erl.eval("probe:member(s, g)").await?;
    let mut cli = join(&epmd, &["a@127.0.0.1"])?;
    cli.event("their member", |event| event["group"] == "g").await?;
    erl.stop_signal()?;

    // More than the socket and the soft mark take.
    let text = "y".repeat(100_000);
    for _ in 0..60 {
        cli.write(&format!("send g \"{text}\"\n")).await?;
    }
    let asked = Instant::now();
    assert_eq!(cli.ask("nodes").await?, json!(["a@127.0.0.1"]));
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(5), "an answer after {took:?}");

    let asked = Instant::now();
    cli.signal(Signal::TERM)?;
    let ended = cli.end().await?;
    assert!(asked.elapsed() <= POLITE, "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(0));
    erl.cont_signal()?;
    erl.finish().await
}

#[tokio::test]
async fn a_bad_line_gets_an_error_and_nothing_is_lost() -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut cli = join(&epmd, &[])?;
    for (line, word) in [
        ("jion a", "no command `jion`"),
        ("JOIN a", "no command `JOIN`"),
        ("join", "GROUP"),
        ("join {a", "GROUP"),
        ("join a 0", "COUNT"),
        ("join a -1", "COUNT"),
        ("join a b", "COUNT"),
        ("join a 1 1", "COUNT"),
        ("join a 99999999999999999999", "COUNT"),
        ("join a 1000000", "at most"),
        ("leave a", "no member of ours"),
        ("leave", "GROUP"),
        ("members", "GROUP"),
        ("members a b", "GROUP"),
        ("local ]", "GROUP"),
        ("groups a", "stands alone"),
        ("quit now", "stands alone"),
        ("send a", "TERM"),
        ("send a #{", "TERM"),
        ("send", "GROUP"),
        ("{\"command\": \"groups\"}", "no command"),
    ] {
        let reply = cli.reply(line).await?;
        assert_eq!(fields(&reply), ["event", "command", "error"], "{reply}");
        let error = reply["error"].as_str().unwrap_or_default();
        assert!(error.contains(word) && !error.contains('\n'), "`{line}`: {error}");
    }
    // Neither text nor a line: still an answer.
    cli.stdin.as_mut().context("stdin")?.write_all(b"join \xff\xfe\n").await?;
    cli.event("an error for bytes", |event| {
        event["command"] == "\u{fffd}" && event["error"].is_string()
    })
    .await?;
    cli.write("\n   \n").await?;

    // Blanks around a line don't count.
    cli.write("  join a 2  \n").await?;
    cli.event("its members", |event| event["command"] == "join a 2" && event["ok"][1].is_string())
        .await?;
    assert_eq!(cli.ask("local a").await?.as_array().map(Vec::len), Some(2));
    cli.write("quit\n").await?;
    let ended = cli.end().await?;
    assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_large_paste_is_answered_in_order() -> Result<()> {
    const LINES: usize = 5000;
    let epmd = Epmd::start().await?;
    let mut cli = join(&epmd, &[])?;
    let commands: Vec<_> = (0..LINES)
        .map(|number| match number % 4 {
            0 => format!("join g{number}"),
            1 => format!("local g{}", number - 1),
            2 => format!("nonsense {number}"),
            _ => format!("leave g{}", number - 3),
        })
        .collect();
    cli.write(&(commands.join("\n") + "\n")).await?;
    cli.end_input();
    let replies = wait_until("all replies", SOON, async || {
        let replies: Vec<Value> = (cli.out.all().iter())
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event| is(event, "reply"))
            .collect();
        if replies.len() == LINES { Ok(replies) } else { Err(replies.len().to_string()) }
    })
    .await?;
    for (command, reply) in commands.iter().zip(&replies) {
        assert_eq!(reply["command"], command[..]);
        assert_eq!(reply.get("error").is_some(), command.starts_with("nonsense"), "{reply}");
    }
    // What a `local` shows is what the `join` before it made and the `leave` after it ended.
    for four in replies.chunks(4) {
        assert_eq!((&four[0]["ok"], &four[0]["ok"]), (&four[1]["ok"], &four[3]["ok"]));
    }
    cli.signal(Signal::TERM)?;
    assert_eq!(cli.end().await?.code, Some(0));
    Ok(())
}

/// Without PEER it waits to be dialled; the end of its input changes nothing.
async fn waits_to_be_dialled(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut cli = join(&epmd, &["--group", "g", "--port", "0"])?;
    cli.event("up", |event| is(event, "up")).await?;
    cli.end_input();
    let erl = erl_with_scope(otp, &epmd).await?;

    assert_eq!(erl.eval("net_kernel:connect_node('r@127.0.0.1')").await?, "true");

    wait_eval(&erl, "length(pg:get_members(s, g))", "1", SOON).await?;
    assert_eq!(erl.eval("nodes()").await?, "['r@127.0.0.1']");
    erl.eval("[P ! still_there || P <- pg:get_members(s, g)]").await?;
    cli.event("a message", |event| event["term"] == "still_there").await?;
    cli.signal(Signal::TERM)?;
    assert_eq!(cli.end().await?.code, Some(0));
    erl.finish().await
}

#[tokio::test]
async fn waits_to_be_dialled_otp_25() -> Result<()> {
    waits_to_be_dialled(Otp::R25).await
}

#[tokio::test]
async fn waits_to_be_dialled_otp_27() -> Result<()> {
    waits_to_be_dialled(Otp::R27).await
}

#[tokio::test]
async fn waits_to_be_dialled_otp_29() -> Result<()> {
    waits_to_be_dialled(Otp::R29).await
}

/// A name, options, and the environment.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Each option that says who we are: hidden, port, default scope, and the four places of a cookie.
#[tokio::test]
async fn options_do_what_they_say() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::start(Otp::R27, "a", &epmd).await?;
    erl.eval("probe:start_scope(pg)").await?;
    let home = Folder::new("options")?;
    let file = home.file("cookie", &format!("{}\n", cookie()), 0o644)?;
    home.file(".erlang.cookie", cookie(), 0o400)?;
    let home = home.path().to_str().context("a path in UTF-8")?;
    let port = free_port()?.to_string();

    let cases: [Case<'_>; 4] = [
        ("r1", &["--cookie", cookie(), "--hidden"], &[]),
        ("r2", &["--cookie-file", &file, "--port", &port], &[]),
        ("r3", &["--group", "g3"], &[("DATA_PUBLISHER_COOKIE", cookie()), ("HOME", home)]),
        ("r4", &["--group", "g4", "--group", "g5"], &[("HOME", home)]),
    ];
    for (name, options, variables) in cases {
        let node = format!("{name}@127.0.0.1");
        let arguments = [&["join", "a@127.0.0.1", "--json", "--name", &node], options].concat();
        let mut cli = Cli::command(epmd.port(), &arguments, variables)?;
        let up = cli.event("up", |event| is(event, "up")).await?;
        cli.event("node_up", |event| is(event, "node_up")).await?;
        cli.event("peer_up, scope pg", |event| is(event, "peer_up")).await?;
        let hidden = options.contains(&"--hidden");
        let where_seen =
            format!("{{lists:member('{node}', nodes()), lists:member('{node}', nodes(hidden))}}");
        assert_eq!(erl.peek(&where_seen).await?, format!("{{{},{hidden}}}", !hidden));
        if options.contains(&"--port") {
            assert_eq!(up["port"].to_string(), port);
        }
        for (_, group) in
            options.iter().zip(&options[1..]).filter(|(option, _)| **option == "--group")
        {
            wait_eval(&erl, &format!("length(pg:get_members({group}))"), "1", SOON).await?;
        }
        cli.write("quit\n").await?;
        let ended = cli.end().await?;
        assert_eq!((ended.code, &ended.err[..]), (Some(0), &[][..]), "{ended:?}");
    }
    erl.finish().await
}

/// One of several peers is enough; the other is told of, and joins when it comes.
#[tokio::test]
async fn a_peer_that_comes_later_is_found() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R27, &epmd).await?;
    let cli = join(&epmd, &["a@127.0.0.1", "b@127.0.0.1"])?;
    cli.event("node_up of a", |e| is(e, "node_up") && e["node"] == "a@127.0.0.1").await?;
    wait_until("told of b", SOON, async || {
        let lines = cli.err.all();
        lines
            .iter()
            .any(|line| line.contains("no node b@127.0.0.1"))
            .then_some(())
            .ok_or(lines.join("\n"))
    })
    .await?;

    let late = ErlNode::start(Otp::R29, "b", &epmd).await?;

    cli.event("node_up of b", |e| is(e, "node_up") && e["node"] == "b@127.0.0.1").await?;
    cli.signal(Signal::TERM)?;
    assert_eq!(cli.end().await?.code, Some(0));
    late.finish().await?;
    erl.finish().await
}

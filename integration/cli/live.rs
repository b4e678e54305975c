//! `join --http`: what the view tells of real nodes, and what it tells nobody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Cli;
use super::web::{Answer, Stream, address_of, get, get_json, send, wait_for};
use crate::publish::load;
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie};

/// A member of scope `s` with a live view, and where that is.
pub(super) async fn join(epmd: &Epmd, arguments: &[&str]) -> Result<(Cli, SocketAddr)> {
    let usual = ["join", "a@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", cookie()];
    let view = ["--scope", "s", "--json", "--http", "127.0.0.1:0"];
    let cli = Cli::start(epmd.port(), &[&usual[..], &view[..], arguments].concat())?;
    let address = address_of(&cli).await?;
    Ok((cli, address))
}

pub(super) async fn erl_with_scope(otp: Otp, epmd: &Epmd) -> Result<ErlNode> {
    let erl = ErlNode::start(otp, "a", epmd).await?;
    erl.eval("probe:start_scope(s)").await?;
    Ok(erl)
}

/// The value of a metric, labels and all.
fn metric<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

async fn tells_what_a_node_does(otp: Otp) -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(otp, &epmd).await?;
    let (mut cli, address) = join(&epmd, &["--group", "mine"]).await?;
    let mut stream = Stream::open(address).await?;

    let happened = |event: &'static str, subject: &'static str| {
        move |kind: &str, data: &serde_json::Value| {
            kind == "happened" && data["event"] == event && data["subject"] == subject
        }
    };
    stream
        .event("state", |kind, data| kind == "state" && data["node"]["name"] == "r@127.0.0.1")
        .await?;
    stream.event("node_up", happened("node_up", "a@127.0.0.1")).await?;
    wait_for(address, "/readyz", SOON, |answer| answer.status == 200).await?;
    erl.eval("M = probe:member(s, {room, 7})").await?;
    let join = stream.event("join", happened("join", "{room,7}")).await?;
    assert_eq!(join["node"], "a@127.0.0.1");
    assert!(
        join["detail"].as_str().is_some_and(|pids| pids.starts_with("<a@127.0.0.1.")),
        "{join}"
    );
    let found =
        wait_for(address, "/search?q=ROOM", SOON, |answer| answer.body.contains("{room,7}"))
            .await?;
    let found: serde_json::Value = serde_json::from_str(&found.body)?;
    assert_eq!((&found["matching"], &found["total"]), (&json!(1), &json!(2)), "{found}");
    assert_eq!(found["rows"][0]["count"], 1);

    // Ours are told as those of others, and what has been counted on the way.
    cli.ask("join mine 2").await?;
    stream.event("ours", happened("join", "mine")).await?;
    let state = wait_for(address, "/state", SOON, |answer| {
        let state: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        state["scope"]["updates_in"] == 1 && !state["nodes"][0]["round_trip"].is_null()
    });
    let state: serde_json::Value = serde_json::from_str(&state.await?.body)?;
    let node = &state["nodes"][0];
    assert_eq!(node["name"], "a@127.0.0.1");
    let version = if otp == Otp::R29 { "1" } else { "0" };
    assert_eq!(node["peer"]["version"], version);
    assert_eq!((&state["ready"], &state["scope"]["count"]), (&json!("ready"), &json!(2)));
    assert_eq!(state["picture"]["edges"], json!([[0, 1]]));

    let metrics = get(address, "/metrics").await?;
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
    );
    let value = |name: &str| {
        metric(&metrics.body, &format!("data_publisher_{name}")).with_context(|| name.to_owned())
    };
    assert!(
        value(r#"connection_received_bytes_total{peer="a@127.0.0.1"}"#)?.parse::<f64>()? > 100.0
    );
    assert!(value(r#"connection_sent_signals_total{peer="a@127.0.0.1"}"#)?.parse::<f64>()? > 1.0);
    assert!(value(r#"connection_round_trip_seconds{peer="a@127.0.0.1"}"#)?.parse::<f64>()? > 0.0);
    assert_eq!(value(r#"scope_received_updates_total{scope="s"}"#)?, "1");
    assert_eq!(value(r#"peer_shed_total{reason="slow"}"#)?, "0");
    assert_eq!(value(r#"scope_ready{scope="s"}"#)?, "1");
    assert_eq!(get(address, "/healthz").await?.status, 200);

    erl.eval("ok = pg:leave(s, {room, 7}, M)").await?;
    stream.event("leave", happened("leave", "{room,7}")).await?;
    erl.eval("net_kernel:disconnect('r@127.0.0.1')").await?;
    stream.event("node_down", happened("node_down", "a@127.0.0.1")).await?;
    wait_for(address, "/metrics", SOON, |answer| {
        metric(
            &answer.body,
            r#"data_publisher_connections_closed_total{reason="connection_closed"}"#,
        ) == Some("1")
    })
    .await?;

    let quit = cli.ask("quit").await?;
    assert_eq!(quit, serde_json::Value::Null);
    assert_eq!(cli.end().await?.code, Some(0));
    assert!(get(address, "/healthz").await.is_err(), "it ends with the node");
    erl.finish().await
}

#[tokio::test]
async fn the_view_tells_what_a_node_does_otp_25() -> Result<()> {
    tells_what_a_node_does(Otp::R25).await
}

#[tokio::test]
async fn the_view_tells_what_a_node_does_otp_29() -> Result<()> {
    tells_what_a_node_does(Otp::R29).await
}

#[tokio::test]
async fn who_has_not_answered_is_named_until_it_has() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    erl.eval("ok = sys:suspend(s)").await?;
    let (_cli, address) = join(&epmd, &[]).await?;
    let answer = wait_for(address, "/readyz", SOON, |answer| {
        answer.status == 503 && answer.body.contains("a@127.0.0.1")
    });
    assert!(answer.await?.body.starts_with("no answer yet from "));
    assert_eq!(get(address, "/healthz").await?.status, 200, "we are well ourselves");
    erl.eval("ok = sys:resume(s)").await?;
    wait_for(address, "/readyz", SOON, |answer| answer.status == 200).await?;
    erl.finish().await
}

#[tokio::test]
async fn a_scope_that_does_nothing_is_not_healthy() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    let (_cli, address) = join(&epmd, &[]).await?;
    wait_for(address, "/readyz", SOON, |answer| answer.status == 200).await?;
    erl.eval("ok = sys:suspend({s, 'r@127.0.0.1'})").await?;
    let answer = wait_for(address, "/healthz", SOON, |answer| answer.status == 503).await?;
    assert!(answer.body.contains("suspended"), "{answer:?}");
    wait_for(address, "/metrics", SOON, |answer| answer.body.contains("scope_up{scope=\"s\"} 0"))
        .await?;
    erl.eval("ok = sys:resume({s, 'r@127.0.0.1'})").await?;
    wait_for(address, "/healthz", SOON, |answer| answer.status == 200).await?;
    erl.finish().await
}

#[tokio::test]
async fn keys_and_values_are_shown_and_searched() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = ErlNode::start(Otp::R29, "a", &epmd).await?;
    load(&erl).await?;
    erl.peek("{ok, _} = dp_kv:start(s), dp_kv:put(s, limit, 100), dp_kv:put(s, name, <<\"n\">>)")
        .await?;
    let (mut cli, address) = join(&epmd, &["--module", "kv"]).await?;
    let mut stream = Stream::open(address).await?;
    stream.event("put", |_, data| data["event"] == "put" && data["subject"] == "limit").await?;
    cli.ask("put limit 7").await?;
    let found =
        wait_for(address, "/search?q=lim", SOON, |answer| answer.body.contains("\"count\":2"))
            .await?;
    assert!(found.body.contains("a@127.0.0.1: 100; r@127.0.0.1: 7"), "{found:?}");
    erl.finish().await
}

#[tokio::test]
async fn of_a_hundred_thousand_groups_some_are_shown() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    erl.eval(
        "M = probe:collector(), [ok = pg:join(s, {group, N}, M) || N <- lists:seq(1, 100000)], ok",
    )
    .await?;
    let (_cli, address) = join(&epmd, &[]).await?;
    wait_for(address, "/search?q=&n=5", 3 * SOON, |answer| {
        answer.body.contains("\"total\":100000")
    })
    .await?;
    let found = get_json(address, "/search?q=&n=1000000").await?;
    let rows = found["rows"].as_array().context("rows")?.len();
    assert_eq!((rows, &found["matching"]), (100, &json!(100_000)));
    let found = get_json(address, "/search?q=%7Bgroup,9999").await?;
    assert_eq!(
        (&found["matching"], &found["rows"][0]["name"]),
        (&json!(11), &json!("{group,9999}"))
    );
    let state = get(address, "/state").await?;
    assert!(state.body.len() < 64 * 1024, "{} bytes", state.body.len());
    erl.finish().await
}

/// Checks what every answer has.
fn assert_guarded(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none';"), "{answer:?}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_stranger_gets_nothing_and_no_secret_is_told() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    let (_cli, address) = join(&epmd, &["--http-host", "ours.example"]).await?;
    for (status, request) in [
        (200, format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", address.port())),
        (200, "GET /metrics HTTP/1.1\r\nHost: OURS.example\r\n\r\n".to_owned()),
        (200, format!("HEAD / HTTP/1.1\r\nHost: {address}\r\n\r\n")),
        (421, "GET /state HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned()),
        (400, "GET /state HTTP/1.1\r\n\r\n".to_owned()),
        (
            403,
            format!(
                "GET /state HTTP/1.1\r\nHost: {address}\r\nOrigin: http://evil.example\r\n\r\n"
            ),
        ),
        (405, format!("POST /state HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n")),
        (404, format!("GET /../etc/passwd HTTP/1.1\r\nHost: {address}\r\n\r\n")),
    ] {
        let answer = send(address, &request).await.with_context(|| request.clone())?;
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        assert_guarded(&answer);
        if status != 200 {
            assert!(!answer.body.contains("r@127.0.0.1"), "{answer:?}");
        }
    }
    let huge = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(64 * 1024));
    let answer = send(address, &huge).await;
    ensure!(
        answer.as_ref().is_ok_and(|answer| answer.status == 431) || answer.is_err(),
        "{answer:?}"
    );

    for path in ["/", "/state", "/metrics", "/search?q=", "/healthz", "/readyz"] {
        let answer = get(address, path).await?;
        let said = format!("{}{}", answer.head, answer.body);
        assert!(!said.contains(cookie()) && !said.to_lowercase().contains("set-cookie"), "{path}");
    }
    erl.finish().await
}

#[tokio::test]
async fn idle_strangers_keep_nobody_out_for_long() -> Result<()> {
    let epmd = Epmd::start().await?;
    let erl = erl_with_scope(Otp::R29, &epmd).await?;
    let (mut cli, address) = join(&epmd, &[]).await?;
    let mut idle = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(address).await?;
        // One byte of a request, and no more. Most are closed by then.
        let _ = stream.write_all(b"G").await;
        idle.push(stream);
    }
    // The node hasn't noticed.
    cli.ask("join g").await?;
    let start = Instant::now();
    wait_for(address, "/healthz", SOON, |answer| answer.status == 200).await?;
    ensure!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // All of them are closed from over there.
    for mut stream in idle {
        let end = tokio::time::timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        ensure!(end.is_ok(), "still open");
    }
    erl.finish().await
}

#[tokio::test]
async fn other_hosts_and_taken_ports_are_refused_with_the_cure() -> Result<()> {
    let epmd = Epmd::start().await?;
    let join = ["join", "--name", "r@127.0.0.1", "--cookie", cookie()];
    let run = async |http: &[&str]| Cli::run(epmd.port(), &[&join[..], http].concat()).await;
    run(&["--http", "0.0.0.0:9568"]).await?.assert_failed(&["--http-public", "127.0.0.1:9568"]);
    run(&["--http", "localhost"]).await?.assert_failed(&["127.0.0.1:9568"]);
    run(&["--http-public"]).await?.assert_failed(&["--http"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    run(&["--http", &address]).await?.assert_failed(&[&address, "another port"]);
    Ok(())
}

//! `doctor`: what is wrong, at which step, and the cure.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use data_publisher::epmd::{Epmd as EpmdClient, NodeKind};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Cli, Ended};
use crate::publish::load;
use crate::support::{
    Certificates, Epmd, ErlNode, Otp, SOON, Security, cookie, free_port, wait_eval,
};
use crate::tls::allow_ends;

async fn doctor(epmd_port: u16, arguments: &[&str]) -> Result<Ended> {
    Cli::run(epmd_port, &[&["doctor", "--cookie", cookie()], arguments].concat()).await
}

impl Ended {
    /// Checks that it found this wrong at this step, told it in these words, and went no further.
    fn assert_found(&self, step: &str, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let failed: Vec<_> = self.out.iter().filter(|line| line.starts_with("FAILED")).collect();
        assert_eq!(failed.len(), 1, "{self:?}");
        assert!(failed[0].contains(step), "{self:?}");
        let cure = self.out.last().map_or("", String::as_str);
        assert!(cure.trim_start().starts_with("-> "), "{self:?}");
        let told = format!("{}\n{cure}", failed[0]);
        for word in words {
            assert!(told.contains(word), "no `{word}` in: {told}");
        }
    }

    fn assert_well(&self, lines: &[&str]) {
        assert_eq!((self.code, &self.err), (Some(0), &Vec::new()), "{self:?}");
        for line in lines {
            assert!(self.out.iter().any(|seen| seen.contains(line)), "no `{line}`: {self:#?}");
        }
    }
}

/// Two nodes of a release that see each other, with two members each.
async fn pair(otp: Otp) -> Result<(Epmd, [ErlNode; 2])> {
    let epmd = Epmd::start_of(otp).await?;
    let nodes = [ErlNode::start(otp, "a", &epmd).await?, ErlNode::start(otp, "b", &epmd).await?];
    for node in &nodes {
        node.eval("probe:start_scope(pg), probe:members(pg, g, 2), ok").await?;
    }
    nodes[0].eval("pong = net_adm:ping('b@127.0.0.1')").await?;
    for node in &nodes {
        wait_eval(node, "length(pg:get_members(pg, g))", "4", SOON).await?;
    }
    Ok((epmd, nodes))
}

async fn finish(nodes: [ErlNode; 2]) -> Result<()> {
    for node in nodes {
        node.finish().await?;
    }
    Ok(())
}

async fn finds_nothing(otp: Otp, dialect: &str) -> Result<()> {
    let (epmd, nodes) = pair(otp).await?;
    let ended = doctor(epmd.port(), &["a@127.0.0.1"]).await?;
    ended.assert_well(&[
        "a@127.0.0.1 is a long name (-name); 127.0.0.1 is 127.0.0.1",
        "knows a, b",
        "a is at port ",
        " takes connections",
        "atom cache, fragments",
        "each has proved that it knows it",
        "net_kernel answers in ",
        "its tick time is 60 s",
        "connected to b@127.0.0.1",
        dialect,
        "a@127.0.0.1 sees what we see: 1 group",
        "b@127.0.0.1 sees what we see: 1 group",
    ]);
    for node in &nodes {
        wait_eval(node, "length(nodes(connected))", "1", SOON).await?;
        wait_eval(node, "length(pg:get_members(pg, g))", "4", SOON).await?;
    }
    finish(nodes).await
}

#[tokio::test]
async fn nothing_is_wrong_otp_25() -> Result<()> {
    finds_nothing(Otp::R25, "pg speaks pg of OTP 23 to 28").await
}

#[tokio::test]
async fn nothing_is_wrong_otp_27() -> Result<()> {
    finds_nothing(Otp::R27, "pg speaks pg of OTP 23 to 28").await
}

#[tokio::test]
async fn nothing_is_wrong_otp_29() -> Result<()> {
    finds_nothing(Otp::R29, "pg speaks data_publisher of OTP 29, pg version 1").await
}

#[tokio::test]
async fn keys_and_values_are_compared_too() -> Result<()> {
    let epmd = Epmd::start().await?;
    let node = ErlNode::start(Otp::R29, "a", &epmd).await?;
    load(&node).await?;
    node.peek("{ok, _} = dp_kv:start(settings), dp_kv:put(settings, k, 1)").await?;
    let ended =
        doctor(epmd.port(), &["a@127.0.0.1", "--module", "kv", "--scope", "settings"]).await?;
    ended.assert_well(&["a@127.0.0.1 sees what we see: 1 key"]);
    node.finish().await
}

/// Nothing listens at the port: who had dialled would have said so.
#[tokio::test]
async fn what_it_cannot_compare_is_refused_before_it_dials() -> Result<()> {
    let arguments = ["a@127.0.0.1", "--module", "raw", "--scope", "s"];
    doctor(free_port()?, &arguments).await?.assert_failed(&["invalid value 'raw'", "pg, kv"]);
    Ok(())
}

/// An Elixir application has no `pg`, and nothing is wrong with it.
#[tokio::test]
async fn a_scope_is_missed_only_if_it_was_asked_for() -> Result<()> {
    let epmd = Epmd::start().await?;
    let node = ErlNode::start(Otp::R27, "a", &epmd).await?;
    let ended = doctor(epmd.port(), &["a@127.0.0.1"]).await?;
    ended.assert_well(&["skipped  scope      pg isn't started on a@127.0.0.1; --scope"]);
    let ended = doctor(epmd.port(), &["a@127.0.0.1", "--scope", "pg"]).await?;
    ended.assert_found("scope", &["no scope pg answers on a@127.0.0.1", "whereis(pg)"]);
    node.finish().await
}

#[tokio::test]
async fn a_scope_of_pg_is_not_greeted_as_one_of_kv() -> Result<()> {
    for otp in [Otp::R25, Otp::R27] {
        let (epmd, nodes) = pair(otp).await?;
        let arguments = ["a@127.0.0.1", "--module", "kv", "--scope", "pg"];
        let ended = doctor(epmd.port(), &arguments).await?;
        assert_ne!(ended.code, Some(0), "{ended:?}");
        nodes[0].eval("probe:start_scope(other), ok").await?;
        let arguments = ["a@127.0.0.1", "--module", "kv", "--scope", "other"];
        let ended = doctor(epmd.port(), &arguments).await?;
        ended.assert_found("scope", &["other on a@127.0.0.1 is a scope of pg", "--module kv"]);
        wait_eval(&nodes[0], "length(pg:get_members(pg, g))", "4", SOON).await?;
        // A crash there would fail this.
        finish(nodes).await?;
    }
    Ok(())
}

#[tokio::test]
async fn who_disagrees_is_named_with_the_group() -> Result<()> {
    let (epmd, nodes) = pair(Otp::R29).await?;
    // What no node does by itself.
    nodes[1]
        .eval("sys:replace_state(pg, fun(S) -> ets:insert(pg, {g, [self()], [self()]}), S end), ok")
        .await?;
    let ended = doctor(epmd.port(), &["a@127.0.0.1"]).await?;
    ended.assert_found("view", &["b@127.0.0.1 disagrees: on g: [", "] there, [", "] here"]);
    ensure!(
        ended.out.iter().any(|line| line.contains("a@127.0.0.1 sees what we see")),
        "{ended:?}"
    );
    finish(nodes).await
}

#[tokio::test]
async fn each_step_is_an_object_with_json() -> Result<()> {
    let (epmd, nodes) = pair(Otp::R27).await?;
    let ended = doctor(epmd.port(), &["a@127.0.0.1", "--json"]).await?;
    let steps: Vec<Value> =
        ended.out.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>()?;
    let names: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert_eq!(
        names,
        [
            "name",
            "epmd",
            "registered",
            "port",
            "handshake",
            "cookie",
            "alive",
            "ticks",
            "nodes",
            "scope",
            "scope",
            "view",
            "view"
        ]
    );
    assert!(steps.iter().all(|step| step["result"] == "ok" && step["ms"].is_number()), "{steps:?}");
    let ended = doctor(epmd.port(), &["nobody@127.0.0.1", "--json"]).await?;
    let last: Value = serde_json::from_str(ended.out.last().context("no line")?)?;
    assert_eq!((&last["step"], &last["result"]), (&"registered".into(), &"failed".into()));
    assert!(last["cure"].is_string() && ended.code == Some(1), "{ended:?}");
    finish(nodes).await
}

#[tokio::test]
async fn a_wrong_cookie() -> Result<()> {
    let (epmd, nodes) = pair(Otp::R29).await?;
    let arguments = ["doctor", "a@127.0.0.1", "--cookie", "s3cr3t-of-others"];
    let ended = Cli::run(epmd.port(), &arguments).await?;
    ended.assert_found("cookie", &["has another cookie", "erlang:get_cookie()"]);
    ended.assert_never_says("s3cr3t");
    finish(nodes).await
}

#[tokio::test]
async fn a_wrong_form_of_the_host() -> Result<()> {
    let (epmd, nodes) = pair(Otp::R29).await?;
    let ended = doctor(epmd.port(), &["a@localhost"]).await?;
    ended.assert_found("handshake", &["another node answered", "is called a@127.0.0.1", "-sname"]);
    let ended = doctor(epmd.port(), &["a@no-such-host.invalid"]).await?;
    ended.assert_found("name", &["no-such-host.invalid is unknown", "after the @"]);
    finish(nodes).await
}

#[tokio::test]
async fn no_epmd_and_no_such_name() -> Result<()> {
    let ended = doctor(free_port()?, &["a@127.0.0.1"]).await?;
    ended.assert_found("epmd", &["no EPMD at 127.0.0.1:", "--epmd-port"]);
    let (epmd, nodes) = pair(Otp::R25).await?;
    let ended = doctor(epmd.port(), &["c@127.0.0.1"]).await?;
    ended.assert_found("registered", &["EPMD doesn't know c, but a, b", "-name or -sname"]);
    finish(nodes).await
}

/// A queue that is full: what comes is dropped, as by a firewall.
#[tokio::test]
async fn a_port_whose_packets_are_dropped_or_refused() -> Result<()> {
    let epmd = Epmd::start().await?;
    let full = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    full.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    full.listen(0)?;
    let address = full.local_addr()?.as_socket().context("an address")?;
    let mut filling = Vec::new();
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let _ = socket.connect(&address.into());
        filling.push(socket);
    }
    let known = EpmdClient::new(epmd.port());
    let _one = known.register("dropped", address.port(), NodeKind::Visible).await?;
    let _other = known.register("refused", free_port()?, NodeKind::Visible).await?;
    let ended = doctor(epmd.port(), &["dropped@127.0.0.1"]).await?;
    ended.assert_found("port", &["doesn't answer within 5 s", "firewall", "inet_dist_listen_min"]);
    let ended = doctor(epmd.port(), &["refused@127.0.0.1"]).await?;
    ended.assert_found("port", &["refused", "nobody listens"]);
    Ok(())
}

/// A node that answers as OTP 25 would without two of the flags.
#[tokio::test]
async fn a_flag_that_is_missing() -> Result<()> {
    let epmd = Epmd::start().await?;
    let old = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let known = EpmdClient::new(epmd.port());
    let _registration = known.register("old", old.local_addr()?.port(), NodeKind::Visible).await?;
    let name = b"old@127.0.0.1";
    let mut challenge = vec![0, 3, b's', b'o', b'k', 0, 19 + name.len() as u8, b'N'];
    challenge.extend(0x107_0F94_u64.to_be_bytes());
    challenge.extend([1, 2, 3, 4, 0, 0, 0, 9, 0, name.len() as u8]);
    challenge.extend(name);
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = old.accept().await {
            let challenge = challenge.clone();
            tokio::spawn(async move {
                // Who only knocks says nothing.
                if socket.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {
                    let _ = socket.write_all(&challenge).await;
                    let _ = socket.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    let ended = doctor(epmd.port(), &["old@127.0.0.1"]).await?;
    ended.assert_found("handshake", &["doesn't offer UNLINK_ID, V4_NC", "OTP 25"]);
    serving.abort();
    Ok(())
}

/// An option file of ours with nothing wrong in it.
fn good_options(certificates: &Certificates) -> Result<String> {
    let mut options = certificates.here("options");
    options.set_extension("conf");
    let path = |name: &str| certificates.here(name).display().to_string();
    std::fs::write(&options, Security::good().optfile(path))?;
    Ok(options.display().to_string())
}

/// As a BEAM without TLS does in the end; who only knocks is gone before.
#[tokio::test]
async fn an_end_of_the_tls_handshake_without_a_word() -> Result<()> {
    let epmd = Epmd::start().await?;
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let known = EpmdClient::new(epmd.port());
    let port = plain.local_addr()?.port();
    let _registration = known.register("plain", port, NodeKind::Visible).await?;
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = plain.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
        }
    });
    let certificates = Certificates::new(Otp::R29).await?;
    let options = good_options(&certificates)?;
    let arguments = ["plain@127.0.0.1", "--tls-optfile", &options];
    let ended = doctor(epmd.port(), &arguments).await?;
    ended.assert_found(
        "tls",
        &["closed the connection", "-proto_dist inet_tls", "--tls options out"],
    );
    serving.abort();
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_has_expired_and_none() -> Result<()> {
    let otp = Otp::R29;
    let epmd = Epmd::start_of(otp).await?;
    let certificates = Certificates::new(otp).await?;
    let expired = Security::good().shows("expired");
    let node =
        ErlNode::options(otp, "a", epmd.port()).tls(&certificates, &expired)?.start().await?;
    allow_ends(&node);
    let options = good_options(&certificates)?;
    let ended = doctor(epmd.port(), &["a@127.0.0.1", "--tls-optfile", &options]).await?;
    ended.assert_found("tls", &["expired 10 days ago", "in their time"]);
    let ended = doctor(epmd.port(), &["a@127.0.0.1"]).await?;
    ended.assert_found("tls", &["TLS", "--tls-optfile"]);
    node.finish().await
}

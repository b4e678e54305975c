//! Meeting, staying, parting and meeting again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use data_publisher::node::{ConnectError, NodeEvent};
use data_publisher::term::NodeName;
use data_publisher::{Cookie, NodeConfig, atom};

use super::{BOTH, Seen, config, erl, on_each_release, rust_node, short_limits, wait_nodes};
use crate::support::{Epmd, ErlNode, Otp, SOON, cookie, wait_eval, wait_until};

on_each_release! {
    net_adm_ping_says_pong_and_nodes_shows_us
    a_quiet_and_a_one_way_connection_stay
    both_dialling_at_once_gives_one_connection_50_times
    we_are_back_within_2_s_of_kill_9
    a_dead_epmd_that_returns_has_us_registered_within_3_s
    a_wrong_cookie_and_a_missing_node_are_told_apart
}

async fn net_adm_ping_says_pong_and_nodes_shows_us(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    for seen in BOTH {
        let rust = rust_node("r", &epmd, seen).await?;
        assert_eq!(a.eval("net_adm:ping('r@127.0.0.1')").await?, "pong");
        wait_nodes(&rust, &["a@127.0.0.1"]).await?;
        let (shows, hides) =
            if seen == Seen::Visible { ("visible", "hidden") } else { ("hidden", "visible") };
        assert_eq!(a.eval(&format!("nodes({shows})")).await?, "['r@127.0.0.1']");
        assert_eq!(a.eval(&format!("nodes({hides})")).await?, "[]");
        rust.stop().await;
        wait_eval(&a, "nodes(connected)", "[]", SOON).await?;

        // And with us dialling.
        let rust = rust_node("r", &epmd, seen).await?;
        rust.connect("a@127.0.0.1").await?;
        // We have the last word of the handshake; the BEAM lists us a moment later.
        wait_eval(&a, &format!("nodes({shows})"), "['r@127.0.0.1']", SOON).await?;
        rust.stop().await;
        wait_eval(&a, "nodes(connected)", "[]", SOON).await?;
    }
    a.finish().await
}

/// `net_ticktime` is 8 s; three times that passes in each of four cases at once.
async fn a_quiet_and_a_one_way_connection_stay(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::options(otp, "a", epmd.port()).net_ticktime(8).start().await?;
    let mut rusts = Vec::new();
    for (name, seen) in [
        ("quiet", Seen::Visible),
        ("hidden", Seen::Hidden),
        ("talks", Seen::Visible),
        ("listens", Seen::Visible),
    ] {
        let config = config(name, &epmd)?.limits(short_limits()).mesh(false);
        let config = if seen == Seen::Hidden { config.hidden() } else { config };
        let node = data_publisher::start(config).await?;
        node.connect("a@127.0.0.1").await?;
        rusts.push(node);
    }
    let mut events = Vec::new();
    for rust in &rusts {
        events.push(rust.events());
    }
    let listener = rusts[3].spawn();
    rusts[3].register(atom!("listener"), listener.pid())?;
    a.eval(
        "Talk = spawn(fun F() -> {listener, 'listens@127.0.0.1'} ! tick, \
         receive stop -> ok after 50 -> F() end end), ok",
    )
    .await?;
    let talker = rusts[2].clone();
    let nowhere = (atom!("nobody"), NodeName::new("a@127.0.0.1")?);
    let talking = tokio::spawn(async move {
        loop {
            talker.send(nowhere.clone(), atom!("tick")).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        #[expect(unreachable_code, reason = "it names the type of the error")]
        Ok::<(), data_publisher::node::SendError>(())
    });

    // The time that passes is what this is about.
    tokio::time::sleep(Duration::from_secs(24)).await;

    ensure!(!talking.is_finished(), "the talking node lost its connection");
    talking.abort();
    let connected = "lists:sort(nodes(connected))";
    let all = "['hidden@127.0.0.1','listens@127.0.0.1','quiet@127.0.0.1','talks@127.0.0.1']";
    assert_eq!(a.eval(connected).await?, all);
    for (rust, events) in rusts.iter().zip(&mut events) {
        let up = events.next().await;
        assert!(matches!(up, Some(NodeEvent::Up { .. })), "{}: {up:?}", rust.name());
        let more = tokio::time::timeout(Duration::ZERO, events.next()).await;
        assert!(more.is_err(), "{}: {more:?}", rust.name());
    }
    a.eval("Talk ! stop").await?;
    a.finish().await
}

async fn both_dialling_at_once_gives_one_connection_50_times(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    // One name below the BEAM's, one above: who wins differs.
    for name in ["Z", "z"] {
        let rust = data_publisher::start(config(name, &epmd)?.mesh(false)).await?;
        for round in 0..50 {
            let mut events = rust.events();
            let connect = format!("net_kernel:connect_node('{}')", rust.name());
            let (there, back) = tokio::join!(rust.connect("a@127.0.0.1"), a.eval(&connect));
            there.with_context(|| format!("{name}, round {round}"))?;
            assert_eq!(back?, "true", "{name}, round {round}");
            assert_eq!(rust.nodes(), ["a@127.0.0.1".parse()?], "{name}, round {round}");
            assert_eq!(a.eval("nodes()").await?, format!("['{}']", rust.name()));
            // What is said over it arrives: both ends have the same connection.
            let ping = format!("net_adm:ping('{}')", rust.name());
            assert_eq!(a.eval(&ping).await?, "pong", "{name}, round {round}");

            rust.disconnect(&"a@127.0.0.1".parse()?);
            wait_eval(&a, "nodes()", "[]", SOON).await?;
            let up = events.next().await;
            assert!(matches!(up, Some(NodeEvent::Up { .. })), "{name}, round {round}: {up:?}");
            let down = events.next().await;
            assert!(matches!(down, Some(NodeEvent::Down { .. })), "{round}: {down:?}");
        }
        rust.stop().await;
    }
    a.finish().await
}

async fn we_are_back_within_2_s_of_kill_9(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    a.eval("probe:start_scope(pg), ok").await?;
    let arguments = |epmd: &Epmd| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_data-publisher"));
        command
            .args(["join", "a@127.0.0.1", "--name", "r@127.0.0.1", "--cookie", cookie()])
            .args(["--group", "w", "--epmd-port", &epmd.port().to_string()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true);
        command
    };
    let one = "[P] = pg:get_members(w), node(P)";
    // As text two starts of a node may have the same pid; as bytes there is the creation.
    let members = "case pg:get_members(w) of [] -> none; Pids -> term_to_binary(Pids) end";
    let mut killed = Vec::new();
    let mut rust = arguments(&epmd).spawn()?;
    wait_eval(&a, one, "'r@127.0.0.1'", SOON).await?;
    for _ in 0..3 {
        let before = a.peek(members).await?;
        rust.start_kill()?;
        let start = Instant::now();
        rust.wait().await?;
        rust = arguments(&epmd).spawn()?;
        wait_until("a new pid is the only member", SOON, async || match a.peek(members).await {
            Ok(now) if now != before && now != "none" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
        killed.push(start.elapsed());
    }
    ensure!(killed.iter().all(|took| *took <= Duration::from_secs(2)), "took {killed:?}");

    // And where the BEAM hasn't noticed that the old one is gone: stopped, not dead.
    let process = rustix::process::Pid::from_raw(rust.id().context("running")?.cast_signed())
        .context("a pid")?;
    rustix::process::kill_process(process, rustix::process::Signal::STOP)?;
    let before = a.peek(members).await?;
    let twin = NodeConfig::new("r@127.0.0.1")?.cookie(Cookie::new(cookie())?);
    // Another EPMD, for the name is taken in that of the stopped one; the port is the peer's.
    let elsewhere = Epmd::start().await?;
    let proxy = forget_old_name(&a, &elsewhere).await?;
    let twin = data_publisher::start(twin.epmd_port(elsewhere.port()).mesh(false)).await?;
    let start = Instant::now();
    twin.connect("a@127.0.0.1").await?;
    let took = start.elapsed();
    ensure!(took <= Duration::from_secs(2), "`alive` took {took:?}");
    wait_until("the old member is gone", SOON, async || match a.peek(members).await {
        Ok(now) if now != before => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    drop(proxy);
    rust.start_kill()?;
    a.finish().await
}

/// Registers the BEAM's port in another EPMD.
async fn forget_old_name(
    a: &ErlNode,
    elsewhere: &Epmd,
) -> Result<data_publisher::epmd::Registration> {
    let port = a.eval("{port, Port, _} = erl_epmd:port_please(\"a\", {127,0,0,1}), Port").await?;
    let epmd = data_publisher::epmd::Epmd::new(elsewhere.port());
    Ok(epmd.register("a", port.parse()?, data_publisher::epmd::NodeKind::Visible).await?)
}

async fn a_dead_epmd_that_returns_has_us_registered_within_3_s(otp: Otp) -> Result<()> {
    let mut epmd = Epmd::start_of(otp).await?;
    let _rust = data_publisher::start(config("r", &epmd)?).await?;
    let client = data_publisher::epmd::Epmd::new(epmd.port());
    let is_there = async || match client.names("127.0.0.1").await {
        Ok(names) if names.iter().any(|(name, _)| name == "r") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_until("registered", SOON, is_there).await?;
    epmd.kill();
    epmd.restart().await?;
    wait_until("registered again", Duration::from_secs(3), is_there).await
}

async fn a_wrong_cookie_and_a_missing_node_are_told_apart(otp: Otp) -> Result<()> {
    let (epmd, a) = erl(otp).await?;
    let wrong = config("wrong", &epmd)?.cookie(Cookie::new("another")?);
    let wrong = data_publisher::start(wrong).await?;
    let error = wrong.connect("a@127.0.0.1").await.unwrap_err();
    assert!(matches!(error, ConnectError::BadCookie { .. }), "{error}");
    assert_eq!(a.eval("net_kernel:connect_node('wrong@127.0.0.1')").await?, "false");

    let rust = data_publisher::start(config("r", &epmd)?).await?;
    let error = rust.connect("nobody@127.0.0.1").await.unwrap_err();
    assert!(matches!(error, ConnectError::NoSuchNode { .. }), "{error}");

    // A cookie for one peer, as erlang:set_cookie/2.
    a.eval("erlang:set_cookie('own@127.0.0.1', own)").await?;
    let own = config("own", &epmd)?.cookie_for("a@127.0.0.1".parse()?, Cookie::new("own")?);
    let own = data_publisher::start(own).await?;
    own.connect("a@127.0.0.1").await?;

    a.eval("net_kernel:allow(['friend@127.0.0.1'])").await?;
    let error = rust.connect("a@127.0.0.1").await.unwrap_err();
    assert!(matches!(error, ConnectError::NotAllowed { .. }), "{error}");
    a.finish().await
}

//! Nodes that like each other's certificates are nodes as over plain TCP.

use std::time::Duration;

use anyhow::{Result, ensure};
use data_publisher::node::{NodeEvent, TlsVersion};
use data_publisher::pg::Pg;
use data_publisher::term::{NodeName, Term};
use data_publisher::{atom, tuple};

use super::{erl, gone, rust};
use crate::otp::{
    BOTH, Seen, config, erlang_pid, on_each_release, short_limits, wait_members, wait_nodes,
};
use crate::support::{Certificates, Epmd, ErlNode, Otp, SOON, Security, wait_eval};

on_each_release! {
    ping_says_pong_in_each_version_whoever_dials
    groups_and_large_messages_go_both_ways_in_each_version
    keys_are_changed_in_the_middle_of_messages_in_tls_1_3
    a_stream_of_small_messages_is_read_as_fast_as_it_comes
    quiet_connections_stay
    a_server_checked_by_nobody_is_dialled_by_a_node_without_a_certificate
    an_address_in_a_certificate_is_enough_for_us_and_since_27_for_otp
}

const VERSIONS: [&[TlsVersion]; 4] = [
    &[TlsVersion::V1_2],
    &[TlsVersion::V1_3],
    &[TlsVersion::V1_3, TlsVersion::V1_2],
    // What the release has by default.
    &[],
];

async fn ping_says_pong_in_each_version_whoever_dials(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    for versions in VERSIONS {
        let (epmd, a) = erl(otp, &certificates, &Security::good().versions(versions)).await?;
        for seen in BOTH {
            let (shows, hides) = match seen {
                Seen::Visible => ("visible", "hidden"),
                Seen::Hidden => ("hidden", "visible"),
            };
            let security = Security::good();
            let node = rust("r", &epmd, &certificates, &security, seen).await?;
            assert_eq!(a.eval("net_adm:ping('r@127.0.0.1')").await?, "pong", "{versions:?}");
            wait_nodes(&node, &["a@127.0.0.1"]).await?;
            assert_eq!(a.eval(&format!("nodes({shows})")).await?, "['r@127.0.0.1']");
            assert_eq!(a.eval(&format!("nodes({hides})")).await?, "[]");
            node.stop().await;
            gone(&a).await?;

            let node = rust("r", &epmd, &certificates, &security, seen).await?;
            node.connect("a@127.0.0.1").await?;
            wait_eval(&a, &format!("nodes({shows})"), "['r@127.0.0.1']", SOON).await?;
            // OTP 27 logs a crash of a connection that ends before all of it knows of its start.
            assert_eq!(a.eval("net_adm:ping('r@127.0.0.1')").await?, "pong", "{versions:?}");
            node.stop().await;
            gone(&a).await?;
        }
        a.finish().await?;
    }
    Ok(())
}

/// 10 MB, with other messages before and after it.
async fn groups_and_large_messages_go_both_ways_in_each_version(otp: Otp) -> Result<()> {
    const SIZE: usize = 10_000_000;
    let certificates = Certificates::new(otp).await?;
    for versions in &VERSIONS[..2] {
        let security = Security::good().versions(versions);
        let (epmd, a) = erl(otp, &certificates, &security).await?;
        a.eval("probe:start_scope(pg), ok").await?;
        a.eval("M = spawn(fun() -> receive stop -> ok end end), pg:join(w, M), ok").await?;

        let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
        let pg = Pg::start(&node, atom!("pg"))?;
        let mut worker = node.spawn();
        pg.join(atom!("w"), worker.pid()).await?;
        node.connect("a@127.0.0.1").await?;
        wait_members(&pg, &atom!("w").into(), 2, SOON).await?;
        wait_eval(&a, "length(pg:get_members(w))", "2", SOON).await?;
        a.eval("M ! stop, ok").await?;
        wait_members(&pg, &atom!("w").into(), 1, SOON).await?;

        // The echo takes it apart and puts it together again.
        a.eval(
            "register(echo, spawn(fun F() -> receive {From, N, Bytes} -> \
             From ! {N, byte_size(Bytes), Bytes}, F() end end)), ok",
        )
        .await?;
        let echo = (atom!("echo"), NodeName::new("a@127.0.0.1")?);
        let bytes: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        for (n, bytes) in [(1, &b"small"[..]), (2, &bytes), (3, b"after")] {
            let message = tuple![worker.pid(), n, Term::binary_of(bytes)];
            node.send(echo.clone(), message).await?;
        }
        for (n, bytes) in [(1, &b"small"[..]), (2, &bytes), (3, b"after")] {
            let received = tokio::time::timeout(SOON, worker.receive()).await?;
            let received = received.expect("the process runs").into_term();
            let expected = tuple![n, i64::try_from(bytes.len())?, Term::binary_of(bytes)];
            ensure!(received == expected, "message {n} is another");
        }
        drop(worker);
        wait_eval(&a, "pg:get_members(w)", "[]", SOON).await?;
        node.stop().await;
        a.finish().await?;
    }
    Ok(())
}

/// A BEAM does it after so many bytes, 353 TB by default, and has us do it as well.
async fn keys_are_changed_in_the_middle_of_messages_in_tls_1_3(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let security = Security::good().versions(&[TlsVersion::V1_3]);
    let theirs = Security { more: ", {key_update_at, 100000}", ..security.clone() };
    let (epmd, a) = erl(otp, &certificates, &theirs).await?;
    let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
    let mut process = node.spawn();
    node.register(atom!("p"), process.pid())?;
    let echo = "register(echo, spawn(fun F() -> \
        receive Bytes -> {p, 'r@127.0.0.1'} ! Bytes, F() end end)), ok";
    a.eval(echo).await?;
    let mut events = node.events();
    let echo = (atom!("echo"), NodeName::new("a@127.0.0.1")?);
    for n in 0..20_u8 {
        let bytes = Term::binary_of(vec![n; 300_000]);
        node.send(echo.clone(), bytes.clone()).await?;
        let received = tokio::time::timeout(SOON, process.receive()).await?;
        ensure!(received.expect("the process runs").into_term() == bytes, "message {n} is another");
    }
    let up = events.next().await;
    assert!(matches!(up, Some(NodeEvent::Up { .. })), "{up:?}");
    let more = tokio::time::timeout(Duration::ZERO, events.next()).await;
    assert!(more.is_err(), "{more:?}");
    a.finish().await
}

/// Who sends a stream isn't kept waiting by how it's read; and what is said behind it is answered.
async fn a_stream_of_small_messages_is_read_as_fast_as_it_comes(otp: Otp) -> Result<()> {
    const MESSAGES: usize = 20_000;
    let certificates = Certificates::new(otp).await?;
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let security = Security::good().versions(&[version]);
        let (epmd, a) = erl(otp, &certificates, &security).await?;
        let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
        let mut process = node.spawn();
        node.register(atom!("p"), process.pid())?;
        node.connect("a@127.0.0.1").await?;
        let count = tokio::spawn(async move {
            let mut count = 0;
            while count < MESSAGES {
                process.receive().await?;
                count += 1;
            }
            Some(process)
        });
        let stream = format!(
            "B = binary:copy(<<7>>, 200), T = erlang:monotonic_time(millisecond), \
             [{{p, 'r@127.0.0.1'}} ! {{N, B}} || N <- lists:seq(1, {MESSAGES})], \
             yes = gen_server:call({{net_kernel, 'r@127.0.0.1'}}, {{is_auth, node()}}, 10000), \
             erlang:monotonic_time(millisecond) - T"
        );
        let took: u64 = a.eval(&stream).await?.parse()?;
        ensure!(took < 5_000, "{version:?}: {took} ms for {MESSAGES} messages");
        let all = tokio::time::timeout(SOON, count).await??;
        ensure!(all.is_some(), "some are lost");
        node.stop().await;
        a.finish().await?;
    }
    Ok(())
}

/// `net_ticktime` is 8 s; three times that passes.
async fn quiet_connections_stay(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let epmd = Epmd::start_of(otp).await?;
    let a = ErlNode::options(otp, "a", epmd.port())
        .tls(&certificates, &Security::good())?
        .net_ticktime(8)
        .start()
        .await?;
    let mut nodes = Vec::new();
    for (name, version, seen) in [
        ("old", TlsVersion::V1_2, Seen::Visible),
        ("new", TlsVersion::V1_3, Seen::Visible),
        ("shy", TlsVersion::V1_3, Seen::Hidden),
    ] {
        let tls = certificates.tls(&Security::good().versions(&[version]))?;
        let config = config(name, &epmd)?.tls(tls).limits(short_limits()).mesh(false);
        let config = if seen == Seen::Hidden { config.hidden() } else { config };
        let node = data_publisher::start(config).await?;
        node.connect("a@127.0.0.1").await?;
        let events = node.events();
        nodes.push((node, events));
    }

    // The time that passes is what this is about.
    tokio::time::sleep(Duration::from_secs(24)).await;

    let all = "['new@127.0.0.1','old@127.0.0.1','shy@127.0.0.1']";
    assert_eq!(a.eval("lists:sort(nodes(connected))").await?, all);
    for (node, events) in &mut nodes {
        let up = events.next().await;
        assert!(matches!(up, Some(NodeEvent::Up { .. })), "{}: {up:?}", node.name());
        let more = tokio::time::timeout(Duration::ZERO, events.next()).await;
        assert!(more.is_err(), "{}: {more:?}", node.name());
    }
    a.finish().await
}

/// `verify_none` all over, which is what many clusters have.
async fn a_server_checked_by_nobody_is_dialled_by_a_node_without_a_certificate(
    otp: Otp,
) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let nobody = Security {
        shows: "expired",
        shows_as_client: false,
        trusts: None,
        versions: vec![TlsVersion::V1_3, TlsVersion::V1_2],
        more: "",
    };
    let (epmd, a) = erl(otp, &certificates, &nobody).await?;
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let security = nobody.clone().versions(&[version]);
        let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
        node.connect("a@127.0.0.1").await?;
        let process = node.spawn();
        node.register(atom!("p"), process.pid())?;
        let theirs = format!("rpc:call(node(), erlang, node, [{}])", erlang_pid(process.pid()));
        assert_eq!(a.eval(&theirs).await?, "'r@127.0.0.1'");
        node.stop().await;
        gone(&a).await?;
        let node = rust("r", &epmd, &certificates, &security, Seen::Visible).await?;
        assert_eq!(a.eval("net_adm:ping('r@127.0.0.1')").await?, "pong");
        node.stop().await;
        gone(&a).await?;
    }
    a.finish().await
}

/// The host of a node's name is an address; in the certificate it's one as well, and not also a name.
async fn an_address_in_a_certificate_is_enough_for_us_and_since_27_for_otp(otp: Otp) -> Result<()> {
    let certificates = Certificates::new(otp).await?;
    let address = Security::good().shows("address");
    let (epmd, a) = erl(otp, &certificates, &address).await?;
    let node = rust("r", &epmd, &certificates, &address, Seen::Visible).await?;
    let connected = a.eval("net_kernel:connect_node('r@127.0.0.1')").await?;
    assert_eq!(connected, if otp == Otp::R25 { "false" } else { "true" });
    node.connect("a@127.0.0.1").await?;
    wait_eval(&a, "net_kernel:node_info('r@127.0.0.1', state)", "{ok,up}", SOON).await?;
    a.finish().await
}

//! Handshakes that go wrong, on purpose or for lack of the cookie.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use data_publisher::Cookie;
use data_publisher::epmd::{Epmd, NodeKind};
use data_publisher::node::{ConnectError, DownReason, NodeEvent};
use data_publisher::wire::Flags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::raw::{FLAGS, Raw, challenge_message, closed, hear, name_message, say};
use super::{VICTIM, Victim};
use crate::support::{SOON, cookie, wait_until};

async fn connect(victim: &Victim) -> Result<TcpStream> {
    Ok(TcpStream::connect(("127.0.0.1", victim.node.port())).await?)
}

/// No attacker ever came up.
fn assert_only_the_friend(victim: &Victim) {
    let others: Vec<_> = (victim.events().into_iter())
        .filter(
            |event| !matches!(event, NodeEvent::Up { node, .. } if node.as_str() == super::FRIEND),
        )
        .collect();
    assert_eq!(others, []);
}

#[tokio::test]
async fn without_the_cookie_there_is_no_digest_to_be_had() -> Result<()> {
    let victim = Victim::start().await?;
    for digest in [Cookie::new("guess")?.digest(1), [0; 16]] {
        let (mut socket, status) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
        assert_eq!(status.as_deref(), Some(&b"sok"[..]));
        hear(&mut socket).await?.context("a challenge")?;
        say(&mut socket, &[b"r", &4711_u32.to_be_bytes()[..], &digest].concat()).await?;
        assert_eq!(closed(&mut socket).await?, [0; 0], "not a byte for a wrong digest");
    }
    assert_only_the_friend(&victim);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn names_that_can_not_be_are_refused_each_in_its_way() -> Result<()> {
    let victim = Victim::start().await?;
    let missing = Flags::OFFERED.0 & !Flags::UNLINK_ID.0;
    for (name, flags, status) in [
        (&b"noat"[..], FLAGS.0, None),
        (b"two@at@127.0.0.1", FLAGS.0, None),
        (b"@127.0.0.1", FLAGS.0, None),
        (b"", FLAGS.0, None),
        (b"\xff\xfe@127.0.0.1", FLAGS.0, None),
        (VICTIM.as_bytes(), FLAGS.0, Some(&b"snok"[..])),
        (b"x@127.0.0.1", missing, Some(b"snot_allowed")),
        (b"x@127.0.0.1", 0, Some(b"snot_allowed")),
        (b"x@127.0.0.1", Flags::MANDATORY_25_DIGEST.0, Some(b"snot_allowed")),
    ] {
        let mut socket = connect(&victim).await?;
        say(&mut socket, &name_message(name, flags)).await?;
        let answer = hear(&mut socket).await?;
        assert_eq!(answer.as_deref(), status, "{}", name.escape_ascii());
        assert_eq!(closed(&mut socket).await?, [0; 0]);
    }
    assert_only_the_friend(&victim);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn malformed_handshakes_are_closed_at_once() -> Result<()> {
    let victim = Victim::start().await?;
    let cut = |length| name_message(b"x@127.0.0.1", FLAGS.0)[..length].to_vec();
    let mut old = name_message(b"x@127.0.0.1", FLAGS.0);
    old[0] = b'n';
    for message in [vec![], b"N".to_vec(), cut(12), cut(17), old, b"GET / HTTP/1.1".to_vec()] {
        let mut socket = connect(&victim).await?;
        let sent = Instant::now();
        say(&mut socket, &message).await?;
        assert_eq!(closed(&mut socket).await?, [0; 0]);
        assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    }
    // A length nobody needs is refused before its bytes are here.
    let mut socket = connect(&victim).await?;
    socket.write_all(&[0xff, 0xff, b'N']).await?;
    let sent = Instant::now();
    assert_eq!(closed(&mut socket).await?, [0; 0]);
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());

    // Frames before the handshake has ended are no frames.
    for frames in [&b"\0\0\0\0"[..], b"\0\0\0\x05\x70\x83\x68\x01\x61"] {
        let (mut socket, _) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
        hear(&mut socket).await?.context("a challenge")?;
        socket.write_all(frames).await?;
        let rest = closed(&mut socket).await?;
        assert_eq!(rest, [0; 0]);
    }
    assert_only_the_friend(&victim);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_trickled_handshake_ends_when_its_time_is_over() -> Result<()> {
    const TIME: Duration = Duration::from_millis(600);
    let victim = Victim::with_limits(|limits| limits.setup_time = TIME).await?;
    // One stops after the name's first bytes, one trickles for ever, one doesn't prove anything.
    let started = Instant::now();
    let trickle = async {
        let (mut read, mut write) = connect(&victim).await?.into_split();
        let message = name_message(&b"x".repeat(200), FLAGS.0);
        let bytes = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        let writing = async {
            for byte in bytes {
                if write.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = async { tokio::io::copy(&mut read, &mut tokio::io::sink()).await };
        tokio::select! {
            () = writing => {}
            _ = tokio::time::timeout(SOON, ended) => {}
        }
        anyhow::Ok(started.elapsed())
    };
    let half = async {
        let mut socket = connect(&victim).await?;
        socket.write_all(&[0, 40, b'N', 0]).await?;
        closed(&mut socket).await?;
        anyhow::Ok(started.elapsed())
    };
    let unproven = async {
        let (mut socket, _) = Raw::knock(victim.node.port(), "y@127.0.0.1").await?;
        hear(&mut socket).await?.context("a challenge")?;
        closed(&mut socket).await?;
        anyhow::Ok(started.elapsed())
    };
    let (trickle, half, unproven) = tokio::try_join!(trickle, half, unproven)?;
    for took in [trickle, half, unproven] {
        assert!(took >= TIME.mul_f64(0.9) && took < TIME * 2, "{trickle:?} {half:?} {unproven:?}");
    }
    assert_only_the_friend(&victim);
    // Its name isn't taken by that.
    victim.attacker("y@127.0.0.1").await?;
    victim.assert_unharmed().await
}

#[tokio::test]
async fn of_300_silent_connections_an_established_peer_notices_nothing() -> Result<()> {
    const TICK: Duration = Duration::from_millis(100);
    const MOST: usize = 128;
    let victim = Victim::with_limits(|limits| {
        limits.tick_interval = TICK;
        limits.setup_time = Duration::from_secs(2);
        assert_eq!(limits.handshakes, MOST);
    })
    .await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;

    let flooded = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(connect(&victim).await?);
    }
    // The newest are refused: closed at once.
    let mut refused = 0;
    for socket in &mut silent {
        let mut byte = [0];
        if tokio::time::timeout(Duration::from_millis(1), socket.peek(&mut byte)).await.is_ok() {
            refused += 1;
        }
    }
    assert!(flooded.elapsed() < Duration::from_secs(2), "too slow a machine for this test");
    assert_eq!(refused, 300 - MOST);
    assert!(
        Raw::knock(victim.node.port(), "y@127.0.0.1")
            .await
            .is_ok_and(|(_, status)| status.is_none())
    );

    // The established one gets its ticks, and is served.
    let mut gaps = Vec::new();
    while flooded.elapsed() < Duration::from_millis(2500) {
        let waiting = Instant::now();
        let frame = peer.next_frame(SOON).await?.context("closed")?;
        if frame.is_empty() {
            gaps.push(waiting.elapsed());
        }
        // It has something to say, too.
        peer.write(&[0; 4]).await?;
    }
    assert!(gaps.len() > 10, "{} ticks: {gaps:?}", gaps.len());
    assert!(gaps.iter().all(|gap| *gap < TICK * 5), "{gaps:?}");

    // After their time all are gone, and others are let in.
    for socket in &mut silent {
        assert_eq!(closed(socket).await?, [0; 0]);
    }
    let took = flooded.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    victim.attacker("y@127.0.0.1").await?;
    assert_eq!(victim.downs(peer.name()), []);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_by_not_allowed() -> Result<()> {
    let victim = Victim::with_limits(|limits| limits.connections = 3).await?;
    let first = victim.attacker("x1@127.0.0.1").await?;
    let _second = victim.attacker("x2@127.0.0.1").await?;

    let (mut socket, status) = Raw::knock(victim.node.port(), "x3@127.0.0.1").await?;
    assert_eq!(status.as_deref(), Some(&b"snot_allowed"[..]));
    assert_eq!(closed(&mut socket).await?, [0; 0]);
    victim.assert_unharmed().await?;

    // One leaves, and there is room.
    let gone = first.name().clone();
    drop(first);
    victim.down_reason(&gone).await?;
    victim.attacker("x3@127.0.0.1").await?;
    victim.assert_unharmed().await
}

/// D6: who connects while its connection is up is asked, and its answer is read.
#[tokio::test]
async fn a_second_connection_replaces_the_first_only_if_the_peer_says_so_and_has_the_cookie()
-> Result<()> {
    let victim = Victim::start().await?;
    let mut first = victim.attacker("x@127.0.0.1").await?;
    let name = first.name().clone();

    let (mut socket, status) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
    assert_eq!(status.as_deref(), Some(&b"salive"[..]));
    say(&mut socket, b"sfalse").await?;
    assert_eq!(closed(&mut socket).await?, [0; 0]);

    let (mut socket, _) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
    say(&mut socket, b"sperhaps").await?;
    assert_eq!(closed(&mut socket).await?, [0; 0]);

    // Anybody may say `true`; it means nothing without the cookie.
    let (mut socket, _) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
    say(&mut socket, b"strue").await?;
    hear(&mut socket).await?.context("a challenge")?;
    say(&mut socket, &[b"r", &[0; 20][..]].concat()).await?;
    assert_eq!(closed(&mut socket).await?, [0; 0]);
    assert_eq!(victim.downs(&name), []);

    let (mut socket, _) = Raw::knock(victim.node.port(), "x@127.0.0.1").await?;
    say(&mut socket, b"strue").await?;
    Raw::prove(&mut socket).await?;
    let _second = Raw::over(FLAGS, "x@127.0.0.1", socket)?;
    first.wait_closed().await?;
    assert_eq!(victim.down_reason(&name).await?, DownReason::Replaced);
    wait_until("up, down, up", SOON, async || {
        let events = victim.events();
        let ups: Vec<bool> = (events.iter())
            .filter_map(|event| match event {
                NodeEvent::Up { node, .. } if *node == name => Some(true),
                NodeEvent::Down { node, .. } if *node == name => Some(false),
                _ => None,
            })
            .collect();
        (ups == [true, false, true]).then_some(()).ok_or(format!("{events:?}"))
    })
    .await?;
    victim.assert_unharmed().await
}

/// A node that EPMD knows, and whose every answer is the test's.
async fn dialled_by<T>(
    victim: &Victim,
    name: &str,
    serve: impl AsyncFnOnce(&mut TcpStream) -> Result<T>,
) -> Result<(std::result::Result<(), ConnectError>, T)> {
    let fake = TcpListener::bind("127.0.0.1:0").await?;
    let epmd = Epmd::new(victim.epmd_port);
    let (short, _) = name.split_once('@').context("a full name")?;
    let port = fake.local_addr()?.port();
    let _registration = epmd.register(short, port, NodeKind::Visible).await?;
    let served = async {
        let (mut socket, _) = fake.accept().await?;
        let said = hear(&mut socket).await?.context("a name")?;
        assert!(said.starts_with(b"N") && said.ends_with(VICTIM.as_bytes()));
        let served = serve(&mut socket).await?;
        anyhow::Ok((socket, served))
    };
    // The socket stays until both ends are done.
    let (connected, served) = tokio::join!(victim.node.connect(name), served);
    let (_socket, served) = served?;
    Ok((connected, served))
}

#[tokio::test]
async fn a_node_that_answers_with_another_name_gets_no_proof() -> Result<()> {
    let victim = Victim::start().await?;
    let (connected, ()) = dialled_by(&victim, "x@127.0.0.1", async |socket| {
        say(socket, b"sok").await?;
        say(socket, &challenge_message("other@127.0.0.1", FLAGS.0, 1)).await?;
        assert_eq!(closed(socket).await?, [0; 0], "not a byte to a stranger");
        Ok(())
    })
    .await?;
    assert!(matches!(connected, Err(ConnectError::WrongName { .. })), "{connected:?}");
    assert_only_the_friend(&victim);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_node_that_does_not_know_the_cookie_is_none_we_connect_to() -> Result<()> {
    let victim = Victim::start().await?;
    for ack in [&[b'a'; 17][..], b"a"] {
        let (connected, ()) = dialled_by(&victim, "x@127.0.0.1", async |socket| {
            say(socket, b"sok").await?;
            say(socket, &challenge_message("x@127.0.0.1", FLAGS.0, 1)).await?;
            hear(socket).await?.context("a reply")?;
            say(socket, ack).await?;
            assert_eq!(closed(socket).await?, [0; 0]);
            Ok(())
        })
        .await?;
        assert!(connected.is_err());
        // EPMD must see the fake one end before the next.
        wait_until("the name is free", SOON, async || {
            match Epmd::new(victim.epmd_port).lookup("127.0.0.1", "x").await {
                Ok(None) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await?;
    }
    assert_only_the_friend(&victim);
    victim.assert_unharmed().await
}

/// D5: the status `alive` is answered, and as we have no connection the answer is `true`.
#[tokio::test]
async fn a_node_that_thinks_we_are_connected_is_told_that_we_are_not() -> Result<()> {
    let victim = Victim::start().await?;
    let (connected, ()) = dialled_by(&victim, "x@127.0.0.1", async |socket| {
        say(socket, b"salive").await?;
        assert_eq!(hear(socket).await?.as_deref(), Some(&b"strue"[..]));
        say(socket, &challenge_message("x@127.0.0.1", FLAGS.0, 7)).await?;
        let reply = hear(socket).await?.context("a reply")?;
        assert_eq!(reply[5..], Cookie::new(cookie())?.digest(7));
        let theirs = u32::from_be_bytes(reply[1..5].try_into()?);
        say(socket, &[b"a", &Cookie::new(cookie())?.digest(theirs)[..]].concat()).await?;
        Ok(())
    })
    .await?;
    assert!(connected.is_ok(), "{connected:?}");
    victim.assert_unharmed().await
}

/// D7, for the client of EPMD.
#[tokio::test]
async fn an_epmd_whose_answer_never_ends_is_given_up() -> Result<()> {
    let fake = TcpListener::bind("127.0.0.1:0").await?;
    let port = fake.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = fake.accept().await {
            tokio::spawn(async move {
                let _ = socket.write_all(&port.to_be_bytes()).await;
                while socket.write_all(&[b'n'; 4096]).await.is_ok() {}
            });
        }
    });
    let asked = Instant::now();
    let names = Epmd::new(port).names("127.0.0.1").await;
    assert!(names.is_err(), "{names:?}");
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    Ok(())
}

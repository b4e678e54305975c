//! What comes late, from an earlier start of a node or an earlier connection, and what comes in pieces.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_publisher::node::{NodeEvent, Received};
use data_publisher::term::{Creation, Pid, Term};
use data_publisher::wire::signal::{Signal, Target};
use data_publisher::{atom, tuple};
use tokio::time::{Instant, timeout};

use super::Victim;
use super::raw::{FLAGS, Raw, say};
use crate::support::{SOON, wait_until};

/// Race 10: a pid of an earlier start of ours is nobody's, whoever has its number now.
#[tokio::test]
async fn a_message_to_a_pid_of_an_earlier_start_reaches_nobody() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let mut process = victim.node.spawn();
    let pid = process.pid().clone();
    let earlier = Pid { creation: Creation(pid.creation.0 ^ 1), ..pid.clone() };
    peer.send(earlier.clone(), atom!("late")).await?;
    let reference = peer.reference(1);
    let (from, target) = (peer.pid(1), data_publisher::wire::signal::PidOrName::Pid(earlier));
    peer.signal(&Signal::Monitor { from, target, reference: reference.clone() }).await?;
    let reason = peer
        .expect("the end of the monitored", |signal| match signal {
            Signal::MonitorExit { reference: of, reason, .. } if *of == reference => {
                Some(reason.clone())
            }
            _ => None,
        })
        .await?;
    assert_eq!(reason, atom!("noproc"));
    peer.send(pid, atom!("now")).await?;
    let received = timeout(SOON, process.receive()).await?.context("it ended")?;
    let Received::Message { term, .. } = received else { anyhow::bail!("{received:?}") };
    assert_eq!(term, atom!("now"));
    victim.assert_unharmed().await
}

/// Race 33: what can't be read closes the connection it came over, and not the one after it.
#[tokio::test]
async fn what_an_old_connection_brought_does_not_close_the_new_one() -> Result<()> {
    const ROUNDS: usize = 20;
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let name = peer.name().clone();
    for round in 0..ROUNDS {
        let bad = peer.with_payload("pg", &[131, b'R', 0])?;
        let noise = tuple![atom!("update"), peer.pid(1), Term::NIL];
        let (mut socket, status) = Raw::knock(victim.node.port(), name.as_str()).await?;
        if status.as_deref() == Some(b"salive") {
            say(&mut socket, b"strue").await?;
        }
        // Much to be read before it, so that it's still unread when the new connection comes up.
        for _ in 0..100 * (round % 5) {
            peer.send_to_name("pg", noise.clone()).await?;
        }
        peer.write(&bad).await?;
        Raw::prove(&mut socket).await?;
        let second = Raw::over(FLAGS, name.as_str(), socket)?;
        peer.wait_closed().await?;
        peer = second;
        wait_until("the new connection is up", SOON, async || {
            let events = victim.events();
            let ups = events
                .iter()
                .filter(|event| matches!(event, NodeEvent::Up { node, .. } if *node == name));
            (ups.count() == round + 2).then_some(()).ok_or_else(|| format!("{events:?}"))
        })
        .await?;
        peer.round_trip(round as u32).await.with_context(|| format!("round {round}"))?;
        ensure!(victim.downs(&name).len() == round + 1, "{:?}", victim.downs(&name));
    }
    victim.assert_unharmed().await
}

/// Race 36, the way in: whoever is in the middle of a large frame is alive.
#[tokio::test]
async fn a_byte_of_a_frame_now_and_then_is_a_sign_of_life() -> Result<()> {
    const TICK_TIME: Duration = Duration::from_millis(400);
    let victim = Victim::with_limits(|limits| {
        limits.tick_time = TICK_TIME;
        limits.tick_interval = TICK_TIME / 4;
    })
    .await?;
    // The friend has the usual times, and so would be taken for dead.
    let mut target = victim.target("target")?;
    let mut peer = Raw::dial(victim.node.port(), "x@127.0.0.1").await?;
    let mut frame = Vec::new();
    let message = Signal::Send {
        from: Some(peer.pid(1)),
        to: Target::Name(atom!("target")),
        message: Term::binary_of([7; 10]),
    };
    data_publisher::wire::signal::encode(&message, FLAGS, &mut frame)?;
    let started = Instant::now();
    for byte in &frame {
        peer.write(&[*byte]).await?;
        tokio::time::sleep(TICK_TIME / 20).await;
    }
    ensure!(started.elapsed() > TICK_TIME * 3, "too fast: {:?}", started.elapsed());
    let received = timeout(SOON, target.receive()).await?.context("it ended")?;
    let Received::Message { term, .. } = received else { anyhow::bail!("{received:?}") };
    assert_eq!(term, Term::binary_of([7; 10]));
    assert_eq!(victim.downs(peer.name()), []);
    Ok(())
}

/// Race 36, the way out: ticks are due while a large frame is being written, and none is inside of it.
#[tokio::test]
async fn a_tick_never_splits_a_frame() -> Result<()> {
    const SIZE: usize = 12 << 20;
    let victim =
        Victim::with_limits(|limits| limits.tick_interval = Duration::from_millis(20)).await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let to = peer.pid(5);
    let bytes: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
    let (node, receiver, sent) = (victim.node.clone(), to.clone(), Term::binary_of(&bytes));
    let sending = tokio::spawn(async move {
        node.send(&receiver, sent).await?;
        node.send(&receiver, atom!("end")).await
    });

    // Read so slowly that many ticks are due meanwhile; one in the middle would break the frames.
    let (started, mut ticks, mut messages) = (Instant::now(), 0, Vec::new());
    while messages.len() < 2 {
        let frame = peer.next_frame_slowly(Duration::from_millis(40)).await?.context("closed")?;
        if frame.is_empty() {
            ticks += 1;
        } else if let Some(Signal::Send { to: Target::Pid(pid), message, .. }) =
            peer.read(&frame)?
            && pid == to
        {
            messages.push(message);
        }
    }
    sending.await??;
    ensure!(started.elapsed() > Duration::from_millis(400), "too fast: {:?}", started.elapsed());
    assert!(messages[0] == Term::binary_of(&bytes), "other bytes than were sent");
    assert_eq!(messages[1], atom!("end"));
    wait_until("a tick after the frames", SOON, async || {
        if ticks > 0 {
            return Ok(());
        }
        let frame = peer.next_frame(SOON).await.map_err(|error| error.to_string())?;
        ticks += usize::from(frame.is_some_and(|frame| frame.is_empty()));
        Err("none yet".to_owned())
    })
    .await?;
    assert_eq!(victim.downs(peer.name()), []);
    victim.assert_unharmed().await
}

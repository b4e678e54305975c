//! Frames that are none, terms that are none, floods.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use data_publisher::node::DownReason;
use data_publisher::term::{Creation, Pid, Term};
use data_publisher::wire::signal::{PidOrName, Signal};
use data_publisher::{atom, tuple};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use tokio::io::AsyncBufReadExt as _;

use crate::support::{cookie, free_port};

use super::Victim;
use super::raw::Raw;

/// What a malformed input may cost the node: the time until its connection is closed.
const QUICK: Duration = Duration::from_millis(10);

fn zlib(declared: u32, term: &[u8]) -> Result<Vec<u8>> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(term)?;
    Ok([&[131, 80][..], &declared.to_be_bytes()[..], &zlib.finish()?[..]].concat())
}

fn nested(unit: &[u8], levels: usize, last: &[u8]) -> Vec<u8> {
    [&[131], &unit.repeat(levels)[..], last].concat()
}

/// Terms that crash other decoders, numbered as in the list they were collected in.
fn bad_terms() -> Result<Vec<(&'static str, Vec<u8>)>> {
    const FF: [u8; 4] = [0xff; 4];
    let mut terms = vec![
        ("C1 an atom cache header", vec![131, 68]),
        ("C2 an atom cache reference", vec![131, 82]),
        ("C3 a list of 4 billion", [&[131, 108], &FF[..]].concat()),
        ("C4 a tuple of 4 billion", [&[131, 105], &FF[..]].concat()),
        ("C5 a binary of 4 GiB", [&[131, 109], &FF[..]].concat()),
        ("C6 a bit string of 4 GiB", [&[131, 77], &FF[..], &[1]].concat()),
        ("C7 a last byte of 0 bits", vec![131, 77, 0, 0, 0, 1, 0, 0xff]),
        ("C8 a last byte of 9 bits", vec![131, 77, 0, 0, 0, 1, 9, 0xff]),
        ("C9 an integer of 1 GiB", vec![131, 111, 0x40, 0, 0, 0, 0]),
        ("C9 an integer of 4 GiB", [&[131, 111], &FF[..], &[0]].concat()),
        (
            "C10 an old fun",
            [&[131, 117], &FF[..], &[103, 119, 1, 97], &[0; 9], &[119, 1, 97, 97, 0, 97, 0]]
                .concat(),
        ),
        (
            "C11 a fun that closes over 4 billion",
            [
                &[131, 112],
                &[0; 4][..],
                &[0],
                &[0; 16],
                &[0; 4],
                &FF,
                &[119, 1, 97, 97, 0, 97, 0, 103, 119, 1, 97],
                &[0; 9],
            ]
            .concat(),
        ),
        ("C12 tuples 1600 deep", nested(&[0x68, 1], 1600, &[0x6a])),
        ("C14 lists 1600 deep", nested(&[0x6c, 0, 0, 0, 1], 1600, &[])),
        ("C15 maps 1600 deep", nested(&[0x74, 0, 0, 0, 1], 1600, &[])),
        (
            "C16 a million tuples deep, compressed",
            zlib(2_000_001, &[&[0x68, 1].repeat(1_000_000)[..], &[0x6a]].concat())?,
        ),
        (
            "C17 8 MB that say to be 10 bytes",
            zlib(10, &[&[0x69, 0, 0x7a, 0x12, 0][..], &vec![0x6a; 8_000_000]].concat())?,
        ),
        (
            "C18 500 MB, compressed",
            zlib(500_000_005, &[&[0x6d, 0x1d, 0xcd, 0x65, 0][..], &vec![0; 4_000_000]].concat())?,
        ),
        ("C19 lists that claim 940 MB a level", nested(&[0x6c, 0, 0xff, 0xff, 0xff], 40, &[])),
        ("no term at all", vec![131]),
        ("a tag nobody knows", vec![131, 1]),
    ];
    for tag in [0x67, 0x58, 0x59, 0x5a, 0x65, 0x66, 0x71, 0x72, 0x78] {
        terms.push(("C13 a node that is a pid that has a node", nested(&[tag], 1600, &[])));
    }
    Ok(terms)
}

/// Whole frames, their length included, that aren't any.
fn bad_frames(peer: &Raw) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
    let pid = [&[0x58, 0x77, 1, 97][..], &[0; 12]].concat();
    Ok(vec![
        ("D1 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 0x70]),
        ("the length the BEAM closes on", vec![0xff, 0xff, 0xff, 0xf0]),
        ("D2 an atom cache reference as payload", peer.with_payload("target", &[131, 82, 0])?),
        ("D2 an atom cache header as payload", peer.with_payload("target", &[131, 68, 0])?),
        ("D3 a frame with an atom table", vec![0, 0, 0, 4, 131, 68, 0, 0]),
        ("a fragment", framed(&[131, 69, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("a kind nobody knows", framed(b"GET / HTTP/1.1\r\n\r\n")),
        ("a control message that is no tuple", framed(&[112, 131, 97, 1])),
        ("an empty control tuple", framed(&[112, 131, 104, 0])),
        ("no control message", framed(&[112])),
        ("op 4", framed(&[&[112, 131, 104, 3, 97, 4][..], &pid, &pid].concat())),
        ("op 5", framed(&[112, 131, 104, 1, 97, 5])),
        ("op 99", framed(&[&[112, 131, 104, 3, 97, 99][..], &pid, &pid].concat())),
        ("an op of 4 GiB", framed(&[112, 131, 104, 1, 111, 0xff, 0xff, 0xff, 0xff, 0])),
        ("a link with one end", framed(&[&[112, 131, 104, 2, 97, 1][..], &pid].concat())),
        (
            "a message without a payload",
            framed(&[112, 131, 104, 4, 97, 6, 106, 119, 0, 119, 2, b'p', b'g']),
        ),
    ])
}

#[tokio::test]
async fn each_malformed_input_closes_its_connection_and_no_other() -> Result<()> {
    let victim = Victim::start().await?;
    let _target = victim.target("target")?;
    let probe = victim.attacker("x0@127.0.0.1").await?;
    let mut inputs = bad_frames(&probe)?;
    for (what, payload) in bad_terms()? {
        // What is only beyond the limits, an ordinary process doesn't get; see `beyond`.
        if !data_publisher::wire::decode(&payload).is_err_and(|error| error.is_beyond_limits()) {
            inputs.push((what, probe.with_payload("target", &payload)?));
        }
        // The scope decodes before it knows what it got, too.
        inputs.push((what, probe.with_payload("pg", &payload)?));
    }
    for (number, (what, frame)) in inputs.iter().enumerate() {
        // The best of a few, since other tests have the machine as well.
        let mut best = Duration::MAX;
        for attempt in 1..=5 {
            let mut peer = victim.attacker(&format!("x{number}_{attempt}@127.0.0.1")).await?;
            let sent = Instant::now();
            // It may close before it has taken all.
            let _ = peer.write(frame).await;
            peer.wait_closed().await.context(*what)?;
            best = best.min(sent.elapsed());

            let reason = victim.down_reason(peer.name()).await?;
            let DownReason::BadFrame(said) = &reason else { panic!("{what}: {reason}") };
            assert!(!said.is_empty(), "{what}");
            if best <= QUICK {
                break;
            }
        }
        assert!(best <= QUICK, "{what}: took {best:?}");
    }
    assert!(victim.downs(probe.name()).is_empty(), "a bystander was disconnected");
    victim.assert_unharmed().await
}

#[tokio::test]
async fn what_is_legal_but_odd_closes_nothing() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;

    // C20: a million elements in a megabyte.
    let million = [&[131, 105, 0, 0x0f, 0x42, 0x40][..], &vec![0x6a; 1_000_000]].concat();
    let frame = peer.with_payload("target", &million)?;
    peer.write(&frame).await?;
    // D4: a frame in two halves, and the rest of it much later than a read.
    let frame = peer.with_payload("target", &[131, 97, 42])?;
    for half in frame.chunks(7) {
        peer.write(half).await?;
        tokio::task::yield_now().await;
    }
    // Bytes after the payload, ticks, names nobody has, pids of the dead and of others.
    let frame = peer.with_payload("target", &[131, 97, 43, 1, 2, 3])?;
    peer.write(&frame).await?;
    peer.write(&[0; 400]).await?;
    peer.send_to_name("nobody", atom!("x")).await?;
    let dead = Pid { id: 1 << 20, ..target.pid().clone() };
    let older = Pid { creation: Creation(5), ..target.pid().clone() };
    let foreign = peer.pid(9);
    for pid in [&dead, &older, &foreign] {
        peer.send(pid.clone(), atom!("x")).await?;
        for signal in [
            Signal::Exit { from: peer.pid(1), to: pid.clone(), reason: atom!("kill").into() },
            Signal::Exit2 {
                from: peer.pid(1),
                to: pid.clone().into(),
                reason: atom!("kill").into(),
            },
            Signal::GroupLeader { leader: peer.pid(1), to: pid.clone() },
            Signal::UnlinkAck { id: 9, from: peer.pid(1), to: pid.clone() },
            Signal::Demonitor {
                from: peer.pid(1),
                target: PidOrName::Pid(pid.clone()),
                reference: peer.reference(9),
            },
            Signal::MonitorExit {
                from: PidOrName::Pid(peer.pid(1)),
                to: pid.clone(),
                reference: peer.reference(9),
                reason: atom!("x").into(),
            },
            Signal::SpawnReply {
                reference: peer.reference(9),
                to: pid.clone(),
                flags: 0,
                result: PidOrName::Pid(peer.pid(2)),
            },
        ] {
            peer.signal(&signal).await?;
        }
    }
    // An exit of a link that isn't there ends nobody.
    let exit =
        Signal::Exit { from: peer.pid(1), to: target.pid().clone(), reason: atom!("x").into() };
    peer.signal(&exit).await?;
    peer.send_to_name("target", atom!("last")).await?;

    let mut next = async || {
        let received = tokio::time::timeout(crate::support::SOON, target.receive()).await?;
        anyhow::Ok(received.context("it was ended")?.into_term())
    };
    assert_eq!(next().await?.tuple_elements()?.len(), 1_000_000);
    assert_eq!(next().await?, Term::from(42));
    assert_eq!(next().await?, Term::from(43));
    assert!(next().await?.is_atom("last"));
    assert_eq!(victim.downs(peer.name()), []);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn half_a_frame_and_a_close_is_a_closed_connection() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let name = peer.name().clone();
    peer.write(&[0, 0, 0, 10, 0x70, 0x83]).await?;
    drop(peer);
    assert_eq!(victim.down_reason(&name).await?, DownReason::ConnectionClosed);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_link_in_the_name_of_another_node_closes() -> Result<()> {
    let victim = Victim::start().await?;
    let target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let link = Signal::Link { from: victim.friends_worker.pid().clone(), to: target.pid().clone() };
    peer.signal(&link).await?;
    peer.wait_closed().await?;
    let reason = victim.down_reason(peer.name()).await?;
    assert!(matches!(&reason, DownReason::BadFrame(what) if what.contains("friend")), "{reason}");
    assert_eq!(target.exit_reason(), None);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn floods_of_monitors_and_of_links_close() -> Result<()> {
    const MOST: usize = 100;
    let victim = Victim::with_limits(|limits| limits.watches = MOST).await?;
    let target = victim.target("target")?;

    let mut peer = victim.attacker("m@127.0.0.1").await?;
    for word in 0..=MOST as u32 {
        if word == MOST as u32 {
            peer.round_trip(1000).await?;
            assert_eq!(victim.downs(peer.name()), []);
        }
        let reference = peer.reference(word);
        let target = PidOrName::Pid(target.pid().clone());
        peer.signal(&Signal::Monitor { from: peer.pid(1), target, reference }).await?;
    }
    peer.wait_closed().await?;
    assert_eq!(victim.down_reason(peer.name()).await?, DownReason::TooManyWatches);

    let mut peer = victim.attacker("l@127.0.0.1").await?;
    for id in 0..=MOST as u32 {
        if id == MOST as u32 {
            peer.round_trip(1000).await?;
            assert_eq!(victim.downs(peer.name()), []);
        }
        peer.signal(&Signal::Link { from: peer.pid(id), to: target.pid().clone() }).await?;
    }
    peer.wait_closed().await?;
    assert_eq!(victim.down_reason(peer.name()).await?, DownReason::TooManyWatches);
    // `noconnection` came over each link, and nobody trapped it.
    assert_eq!(target.exit_reason(), Some(&atom!("noconnection").into()));
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_flood_to_a_process_that_does_not_receive_closes() -> Result<()> {
    const MOST: usize = 1 << 20;
    let victim = Victim::with_limits(|limits| limits.unhandled = MOST).await?;
    let mut target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let message = Term::binary_of(vec![7; 10_000]);
    let mut sent = 0;
    while sent < 2 * MOST && peer.send_to_name("target", message.clone()).await.is_ok() {
        sent += 10_000;
    }
    assert_eq!(victim.down_reason(peer.name()).await?, DownReason::Overrun);
    // What was taken before is still there, and no more of it than was allowed.
    let mut taken = 0;
    while target.try_receive().is_some() {
        taken += 10_000;
    }
    assert!(taken > MOST / 2 && taken <= MOST, "{taken} bytes");
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_message_in_the_name_of_another_node_s_scope_is_ignored() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let friends_scope = victim.friend_pg.peers().await?;
    assert_eq!(friends_scope.len(), 1);
    let peers = victim.pg.peers().await?;
    let (friend, _) = peers.first().context("the friend's scope is known")?.clone();
    let before = victim.pg.which_groups();
    assert!(!before.is_empty());

    let groups = |member: &Pid| {
        Term::list_of([tuple![atom!("spoofed"), Term::list_of([Term::from(member)])]])
    };
    let cast = |message: Term| tuple![atom!("$gen_cast"), message];
    let of_friend = victim.friends_worker.pid().clone();
    for message in [
        tuple![atom!("discover"), &friend],
        tuple![atom!("discover"), &friend, 1],
        cast(tuple![atom!("sync"), &friend, Term::NIL]),
        cast(tuple![atom!("sync"), &friend, groups(&of_friend)]),
        tuple![atom!("join"), &friend, atom!("spoofed"), &of_friend],
        tuple![atom!("leave"), &friend, &of_friend, Term::list_of(before.clone())],
        tuple![
            atom!("update"),
            &friend,
            Term::list_of([tuple![
                atom!("spoofed"),
                Term::list_of([Term::from(&of_friend)]),
                Term::NIL
            ]])
        ],
        cast(tuple![atom!("local_data"), &friend, 1, data_publisher::map! {}]),
        // In the victim's own name, and about nobody at all.
        cast(tuple![
            atom!("sync"),
            victim.node.whereis(&atom!("pg")).context("a scope")?,
            Term::NIL
        ]),
        tuple![atom!("discover"), atom!("nobody")],
        cast(tuple![atom!("local_data"), peer.pid(1), 1, Term::NIL]),
        tuple![atom!("update"), peer.pid(1), atom!("x")],
        atom!("nonsense").into(),
        tuple![atom!("DOWN"), peer.reference(1), atom!("process"), &friend, atom!("noproc")],
    ] {
        peer.send_to_name("pg", message).await?;
    }
    victim.assert_unharmed().await?;
    let after = victim.pg.which_groups();
    assert!(!after.contains(&atom!("spoofed").into()), "{after:?}");
    assert!(before.iter().all(|group| after.contains(group)), "{before:?} became {after:?}");
    assert_eq!(victim.pg.peers().await?, peers);
    Ok(())
}

/// Also where the user reads it: on stdout as an event, on stderr without asking for a log.
#[tokio::test]
async fn the_binary_tells_why_it_closed() -> Result<()> {
    let epmd_port = free_port()?;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_data-publisher"))
        .args(["join", "--json", "--name", "victim@127.0.0.1", "--cookie", cookie()])
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env_remove("RUST_LOG")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut out = tokio::io::BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let mut err = tokio::io::BufReader::new(child.stderr.take().context("a pipe")?).lines();
    let up: serde_json::Value = serde_json::from_str(&out.next_line().await?.context("up")?)?;
    let port = up["port"].as_u64().context("a port")? as u16;

    let mut peer = Raw::dial(port, "x@127.0.0.1").await?;
    peer.frame(&[131, 68, 0, 0]).await?;
    peer.wait_closed().await?;

    let told = async {
        loop {
            let line = out.next_line().await?.context("the end")?;
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if event["event"] == "node_down" {
                return anyhow::Ok(event);
            }
        }
    };
    let down = tokio::time::timeout(crate::support::SOON, told).await??;
    assert_eq!(down["node"], "x@127.0.0.1");
    let reason = down["reason"].as_str().context("text")?;
    assert!(reason.starts_with("bad_frame: ") && reason.contains("instead of 112"), "{reason}");
    let line = tokio::time::timeout(crate::support::SOON, err.next_line()).await??;
    let line = line.context("a log")?;
    assert!(
        line.contains("WARN") && line.contains("x@127.0.0.1") && line.contains(reason),
        "{line}"
    );
    Ok(())
}

/// What a peer writes to a socket that is gone resets the connection, and what it hasn't read is lost.
#[tokio::test]
async fn a_node_that_stops_listens_until_its_peers_have_closed() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let started = Instant::now();
    let stopping = tokio::spawn(victim.node.clone().stop());

    peer.wait_closed().await?;
    for _ in 0..3 {
        peer.write(&[0; 4]).await?;
    }
    drop(peer);

    stopping.await?;
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    Ok(())
}

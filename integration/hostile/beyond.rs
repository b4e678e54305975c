//! Terms that Erlang has and we don't receive. A peer that sends one keeps its connection, as it would
//! lose it again each time it comes back; but a caller must not wait for an answer that never comes.

use anyhow::{Context, Result};
use data_publisher::term::Term;
use data_publisher::wire::signal::{self, PidOrName, Signal};
use data_publisher::{atom, list, map, tuple};

use super::Victim;
use super::raw::{FLAGS, Raw};
use crate::support::{SOON, wait_until, warnings};

/// `{{{...}}}`, deeper than is read; and one that is an integer of more than 64 KiB.
fn beyond() -> [Vec<u8>; 2] {
    let deep = [[0x68, 1].repeat(300), vec![0x6a]].concat();
    let len = 70_000_u32;
    let long = [&[111][..], &len.to_be_bytes(), &[0], &[1].repeat(70_000)].concat();
    [deep, long]
}

/// The message with something else where it has the atom `here`.
fn with(message: &Term, something: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    data_publisher::wire::encode(message, &mut bytes)?;
    Ok(put(&bytes, something))
}

fn put(bytes: &[u8], something: &[u8]) -> Vec<u8> {
    let here = b"w\x04here";
    let at = bytes.windows(here.len()).position(|part| part == here).expect("it has it once");
    [&bytes[..at], something, &bytes[at + here.len()..]].concat()
}

async fn see_members(victim: &Victim, count: usize) -> Result<()> {
    wait_until(&format!("{count} members are seen"), SOON, async || {
        let members = victim.pg.get_members(&atom!("theirs").into());
        (members.len() == count).then_some(()).ok_or(format!("{members:?}"))
    })
    .await
}

async fn say(peer: &mut Raw, name: &str, payload: &[u8]) -> Result<()> {
    let frame = peer.with_payload(name, payload)?;
    peer.write(&frame).await
}

#[tokio::test]
async fn a_peer_whose_data_is_beyond_the_limits_is_asked_again_and_stays() -> Result<()> {
    let victim = Victim::start().await?;
    for (number, something) in beyond().iter().enumerate() {
        let mut peer = victim.attacker(&format!("x{number}@127.0.0.1")).await?;
        let scope = peer.pid(50);
        let data = |name: &str| {
            let pids = Term::list_of([Term::from(peer.pid(60))]);
            let groups = map! { atom!("theirs") => &pids, name.parse::<Term>()? => &pids };
            anyhow::Ok(tuple![atom!("$gen_cast"), tuple![atom!("local_data"), &scope, 1, groups]])
        };
        let (readable, unreadable) = (data("fine")?, with(&data("here")?, something)?);
        let change = tuple![atom!("here"), Term::list_of([Term::from(peer.pid(61))]), Term::NIL];
        let update = tuple![atom!("update"), &scope, Term::list_of([change])];
        let update = with(&update, something)?;

        peer.send_to_name("pg", tuple![atom!("discover"), &scope, 1]).await?;
        peer.send_to_name("pg", readable.clone()).await?;
        see_members(&victim, 1).await?;
        say(&mut peer, "pg", &update).await?;
        // What follows builds on what wasn't understood.
        see_members(&victim, 0).await?;
        peer.send_to_name("pg", readable.clone()).await?;
        see_members(&victim, 1).await?;
        say(&mut peer, "pg", &unreadable).await?;
        see_members(&victim, 0).await?;
        peer.send_to_name("pg", readable).await?;
        see_members(&victim, 1).await?;
        assert_eq!(victim.downs(peer.name()), []);
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_peer_whose_data_is_beyond_the_limits_is_logged_once_a_minute() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("loud@127.0.0.1").await?;
    let scope = peer.pid(50);
    let data = |group: &Term| {
        let groups = map! { group => Term::list_of([Term::from(peer.pid(60))]) };
        tuple![atom!("$gen_cast"), tuple![atom!("local_data"), &scope, 1, groups]]
    };
    let (unreadable, readable) = (data(&atom!("here").into()), data(&atom!("theirs").into()));
    let unreadable = with(&unreadable, &beyond()[0])?;

    peer.send_to_name("pg", tuple![atom!("discover"), &scope, 1]).await?;
    for _ in 0..20 {
        say(&mut peer, "pg", &unreadable).await?;
    }
    peer.send_to_name("pg", readable).await?;
    see_members(&victim, 1).await?;

    let warnings = warnings("loud@127.0.0.1");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_caller_who_asks_beyond_the_limits_loses_its_connection_rather_than_wait() -> Result<()> {
    let victim = Victim::start().await?;
    let _target = victim.target("target")?;
    for (number, something) in beyond().iter().enumerate() {
        for name in ["pg", "target"] {
            let mut peer = victim.attacker(&format!("{name}{number}@127.0.0.1")).await?;
            let from = tuple![peer.pid(50), atom!("tag")];
            let call = with(&tuple![atom!("$gen_call"), from, atom!("here")], something)?;

            say(&mut peer, name, &call).await?;

            peer.wait_closed().await?;
        }
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_message_beyond_the_limits_is_dropped_and_nothing_else_is() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    for something in beyond() {
        for message in [
            tuple![atom!("hello"), atom!("here")],
            tuple![atom!("$gen_cast"), atom!("here")],
            tuple![atom!("x"), peer.pid(50), atom!("here")],
            tuple![atom!("$gen_call"), atom!("here")],
        ] {
            say(&mut peer, "target", &with(&message, &something)?).await?;
        }
        peer.send_to_name("target", atom!("last")).await?;

        let next = tokio::time::timeout(SOON, target.receive()).await?;
        assert!(next.context("it was ended")?.into_term().is_atom("last"));
    }
    assert_eq!(victim.downs(peer.name()), []);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn what_nobody_gets_is_not_read() -> Result<()> {
    let victim = Victim::start().await?;
    let mut target = victim.target("target")?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let from = tuple![peer.pid(50), atom!("tag")];
    let call = tuple![atom!("$gen_call"), from, atom!("here")];
    for something in [&beyond()[0], &vec![1]] {
        say(&mut peer, "nobody", &with(&call, something)?).await?;
    }
    peer.send_to_name("target", atom!("last")).await?;
    let next = tokio::time::timeout(SOON, target.receive()).await?;
    assert!(next.context("it was ended")?.into_term().is_atom("last"));
    assert_eq!(victim.downs(peer.name()), []);
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_spawn_request_beyond_the_limits_is_answered() -> Result<()> {
    let victim = Victim::start().await?;
    for (number, something) in beyond().iter().enumerate() {
        let mut peer = victim.attacker(&format!("x{number}@127.0.0.1")).await?;
        let request = Signal::SpawnRequest {
            reference: peer.reference(7),
            from: peer.pid(1),
            group_leader: peer.pid(1),
            mfa: (atom!("m"), atom!("f"), 1),
            options: Term::NIL,
            args: list![atom!("here")],
        };
        let mut frame = Vec::new();
        signal::encode(&request, FLAGS, &mut frame)?;
        peer.frame(&put(&frame[4..], something)).await?;
        let result = peer.expect("a reply", |signal| match signal {
            Signal::SpawnReply { result, .. } => Some(result.clone()),
            _ => None,
        });
        assert_eq!(result.await?, PidOrName::Name(atom!("badarg")));
        assert_eq!(victim.downs(peer.name()), []);
    }
    victim.assert_unharmed().await
}

//! Terms that Erlang has and we don't receive. A peer whose data has one keeps its connection: it
//! would lose it again each time it comes back.

use anyhow::Result;
use data_publisher::term::Term;
use data_publisher::{atom, map, tuple};

use super::Victim;
use super::raw::Raw;
use crate::support::{SOON, wait_until};

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
    let here = b"w\x04here";
    let at = bytes.windows(here.len()).position(|part| part == here).expect("it has it once");
    Ok([&bytes[..at], something, &bytes[at + here.len()..]].concat())
}

async fn see_members(victim: &Victim, count: usize) -> Result<()> {
    wait_until(&format!("{count} members are seen"), SOON, async || {
        let members = victim.pg.get_members(&atom!("theirs").into());
        (members.len() == count).then_some(()).ok_or(format!("{members:?}"))
    })
    .await
}

async fn say(peer: &mut Raw, payload: &[u8]) -> Result<()> {
    let frame = peer.with_payload("pg", payload)?;
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
        say(&mut peer, &update).await?;
        // What follows builds on what wasn't understood.
        see_members(&victim, 0).await?;
        peer.send_to_name("pg", readable.clone()).await?;
        see_members(&victim, 1).await?;
        say(&mut peer, &unreadable).await?;
        see_members(&victim, 0).await?;
        peer.send_to_name("pg", readable).await?;
        see_members(&victim, 1).await?;
        assert_eq!(victim.downs(peer.name()), []);
    }
    victim.assert_unharmed().await
}

#[tokio::test]
async fn a_caller_who_asks_beyond_the_limits_loses_its_connection_rather_than_wait() -> Result<()> {
    let victim = Victim::start().await?;
    for (number, something) in beyond().iter().enumerate() {
        let mut peer = victim.attacker(&format!("x{number}@127.0.0.1")).await?;
        let from = tuple![peer.pid(50), atom!("tag")];
        let call = with(&tuple![atom!("$gen_call"), from, atom!("here")], something)?;

        say(&mut peer, &call).await?;

        peer.wait_closed().await?;
    }
    victim.assert_unharmed().await
}

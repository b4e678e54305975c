//! What a Rust node says to a scope of which it knows little: nothing that could crash it.

use anyhow::Result;
use data_publisher::engine::Version;
use data_publisher::pg::is_allowed_shape;
use data_publisher::term::{Pid, Term};
use data_publisher::wire::signal::{Signal, Target};
use data_publisher::{atom, tuple};

use super::Victim;
use super::raw::Raw;

/// The words of all messages to the fake scope so far; each must be one that its version survives.
struct Heard {
    scope: Pid,
    version: Option<Version>,
    words: Vec<String>,
}

impl Heard {
    /// Reads until this word has come.
    async fn until(&mut self, peer: &mut Raw, word: &str) -> Result<Term> {
        let (scope, version) = (Target::Pid(self.scope.clone()), self.version.clone());
        let words = &mut self.words;
        peer.expect(&format!("{word} after {words:?}"), |signal| {
            let Signal::Send { to, message, .. } = signal else { return None };
            if *to != scope && *to != Target::Name(atom!("pg")) {
                return None;
            }
            assert!(is_allowed_shape(version.as_ref(), message), "{version:?} gets {message}");
            let inner = match message.tagged("$gen_cast") {
                Some([cast]) => cast,
                _ => message,
            };
            let tag = inner.tuple_elements().ok().and_then(|elements| elements.first());
            let tag = tag.map(ToString::to_string).unwrap_or_default();
            words.push(tag.clone());
            (tag == word).then(|| message.clone())
        })
        .await
    }
}

#[tokio::test]
async fn the_first_word_to_an_unknown_scope_is_discover_with_two_elements() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let mut heard = Heard { scope: peer.pid(50), version: None, words: Vec::new() };

    let first = heard.until(&mut peer, "discover").await?;

    let pid = victim.node.whereis(&atom!("pg")).map_or(Term::NIL, Term::from);
    assert_eq!(first, tuple![atom!("discover"), pid]);
    // And nothing else, whatever happens here, for as long as it doesn't answer.
    let worker = victim.node.spawn();
    victim.pg.join(atom!("g"), worker.pid()).await?;
    victim.pg.leave(atom!("g"), worker.pid()).await?;
    victim.assert_unharmed().await?;
    peer.send_to_name(
        "net_kernel",
        tuple![atom!("$gen_call"), tuple![peer.pid(1), atom!("t")], atom!("x")],
    )
    .await?;
    peer.expect("an answer of another process", |signal| match signal {
        Signal::Send { to: Target::Pid(to), .. } if to.id == 1 => Some(()),
        Signal::Send { to, message, .. } => {
            let to_scope =
                *to == Target::Name(atom!("pg")) || *to == Target::Pid(heard.scope.clone());
            assert!(!to_scope, "{message}");
            None
        }
        _ => None,
    })
    .await
}

/// All kinds of changes there are, seen by a scope that greeted like this.
async fn everything_that_happens(
    victim: &Victim,
    peer: &mut Raw,
    version: Option<u8>,
) -> Result<Vec<String>> {
    let scope = peer.pid(50);
    let mut heard = Heard { scope: scope.clone(), version: None, words: Vec::new() };
    heard.until(peer, "discover").await?;
    let early = victim.node.spawn();
    victim.pg.join(atom!("early"), &[early.pid().clone(), early.pid().clone()][..]).await?;

    let (greeting, data, state, change) = match version {
        None => {
            let group = tuple![atom!("theirs"), Term::list_of([Term::from(peer.pid(60))])];
            let sync = tuple![atom!("sync"), &scope, Term::list_of([group])];
            (tuple![atom!("discover"), &scope], sync, "sync", ["join", "leave"])
        }
        Some(version) => {
            let groups = data_publisher::map! {
                atom!("theirs") => Term::list_of([Term::from(peer.pid(60))])
            };
            let data = tuple![atom!("local_data"), &scope, version, groups];
            (tuple![atom!("discover"), &scope, version], data, "local_data", ["update", "update"])
        }
    };
    heard.version = Some(Version(Term::from(version.unwrap_or(0))));
    peer.send_to_name("pg", greeting.clone()).await?;
    heard.until(peer, state).await?;
    peer.send_to_name("pg", tuple![atom!("$gen_cast"), data]).await?;
    crate::support::wait_until("their member is seen", crate::support::SOON, async || {
        let members = victim.pg.get_members(&atom!("theirs").into());
        (members.len() == 1).then_some(()).ok_or(format!("{members:?}"))
    })
    .await?;

    // One pid, several, one several times, groups of every kind; leaving so, too.
    let workers: Vec<_> = (0..3).map(|_| victim.node.spawn()).collect();
    let pids: Vec<Pid> = workers.iter().map(|worker| worker.pid().clone()).collect();
    let groups = [
        atom!("g").into(),
        Term::NIL,
        tuple![atom!("room"), 15, Term::binary_of("x")],
        Term::from(victim.node.make_ref()),
    ];
    for group in &groups {
        victim.pg.join(group.clone(), &pids[0]).await?;
        heard.until(peer, change[0]).await?;
        victim.pg.join(group.clone(), &[&pids[..], &pids[..1]].concat()[..]).await?;
        heard.until(peer, change[0]).await?;
        victim.pg.leave(group.clone(), &pids[0]).await?;
        heard.until(peer, change[1]).await?;
        victim.pg.leave(group.clone(), &pids[..2]).await?;
        heard.until(peer, change[1]).await?;
    }
    // What nobody notices isn't said: leaving what one isn't in.
    let stranger = victim.node.spawn();
    let _ = victim.pg.leave(atom!("nowhere"), stranger.pid()).await;
    // A member of several groups, several times, ends.
    drop(workers);
    heard.until(peer, change[1]).await?;
    // It greets again, by name and by pid, and as one whose data is known.
    peer.send_to_name("pg", greeting.clone()).await?;
    heard.until(peer, state).await?;
    // The last word of all: what is sent while the scope ends.
    victim.pg.join(atom!("last"), early.pid()).await?;
    heard.until(peer, change[0]).await?;
    drop(early);
    heard.until(peer, change[1]).await?;
    victim.assert_unharmed().await?;
    Ok(heard.words)
}

#[tokio::test]
async fn a_scope_of_version_0_gets_only_what_pg_of_otp_25_survives() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let words = everything_that_happens(&victim, &mut peer, None).await?;
    for word in ["discover", "sync", "join", "leave"] {
        assert!(words.iter().any(|heard| heard == word), "no {word} in {words:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_scope_of_version_1_gets_only_what_pg_of_otp_29_survives() -> Result<()> {
    let victim = Victim::start().await?;
    let mut peer = victim.attacker("x@127.0.0.1").await?;
    let words = everything_that_happens(&victim, &mut peer, Some(1)).await?;
    for word in ["discover", "local_data", "update"] {
        assert!(words.iter().any(|heard| heard == word), "no {word} in {words:?}");
    }
    Ok(())
}

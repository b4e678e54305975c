//! A rolling upgrade: five nodes, one after the other from version 1 to version 2, under constant
//! updates.
//!
//! With OTP 29 in it there is one node of that release: two of them get it wrong between themselves
//! while their versions differ, see [`versions`](super::versions).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use super::load;
use super::versions::{
    Release, RustNames, all_of, assert_nothing_was_untranslated, at_rest, beam_with_names,
    start_names,
};
use crate::publishers::names::Op;
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_of_all_releases_are_upgraded_one_by_one() -> Result<()> {
    upgrade(&[Otp::R25, Otp::R27, Otp::R29], 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_rust_nodes_and_one_of_otp_29_are_upgraded_one_by_one() -> Result<()> {
    upgrade(&[Otp::R29], 4).await
}

/// Names a node adds until it starts to take back the oldest.
const HELD: i64 = 20;

/// Updates that go on at all nodes until this is dropped or stopped.
struct Updates(Vec<JoinHandle<()>>);

impl Updates {
    /// Rust nodes are updated by a task here; BEAM nodes update themselves until told to stop.
    async fn start(beam: &[ErlNode], rust: &[RustNames], round: i64) -> Result<Self> {
        for node in beam.iter().filter(|node| node.process_id().is_some()) {
            start_updates_of(node, round).await?;
        }
        let tasks = rust.iter().map(|names| {
            let scope = names.scope.clone();
            tokio::spawn(async move {
                let name = |count: i64| data_publisher::tuple![round, count];
                for count in 0.. {
                    let mut update = Op::set(name(count), 3);
                    if count >= HELD {
                        update.extend(Op::remove(name(count - HELD)));
                    }
                    if scope.update(update).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            })
        });
        Ok(Self(tasks.collect()))
    }

    async fn stop(self, beam: &[ErlNode]) -> Result<()> {
        for node in beam.iter().filter(|node| node.process_id().is_some()) {
            stop_updates_of(node).await?;
        }
        for task in self.0 {
            task.abort();
            let _ = task.await;
        }
        Ok(())
    }
}

async fn start_updates_of(node: &ErlNode, round: i64) -> Result<()> {
    node.peek(&format!(
        "register(updates, spawn(fun() -> (fun F(I) -> \
             dp_names:add(names, {{{round}, I}}, 3), \
             I >= {HELD} andalso dp_names:remove(names, {{{round}, I - {HELD}}}), \
             receive {{stop, P}} -> P ! stopped after 2 -> F(I + 1) end \
         end)(0) end)), ok"
    ))
    .await?;
    Ok(())
}

async fn stop_updates_of(node: &ErlNode) -> Result<()> {
    node.peek("updates ! {stop, self()}, receive stopped -> ok end").await?;
    Ok(())
}

async fn upgrade(releases: &[Otp], rust_nodes: usize) -> Result<()> {
    let epmd = Epmd::start().await?;
    let mut beam = Vec::new();
    for (place, otp) in releases.iter().enumerate() {
        let node = beam_with_names(*otp, &format!("b{place}"), &epmd).await?;
        start_names(&node, Release::Old).await?;
        beam.push(node);
    }
    let mut rust = Vec::new();
    for place in 0..rust_nodes {
        rust.push(RustNames::start(&format!("r{place}"), &epmd, Release::Old).await?);
    }
    connect(&beam, &rust).await?;

    // The first round upgrades nobody.
    for step in 0..=beam.len() + rust.len() {
        let round = i64::try_from(step)?;
        let updates = Updates::start(&beam, &rust, round).await?;
        // All of them are seen to be under way before anything else happens.
        under_way(&beam, &rust, round).await?;
        // One node after the other ends and returns as new, while the others go on.
        if let Some(place) = step.checked_sub(1) {
            if place < beam.len() {
                let node = &mut beam[place];
                assert_nothing_was_untranslated(node).await?;
                node.kill().await?;
                node.restart().await?;
                load(node).await?;
                node.load("erlang/test/dp_names.erl").await?;
                start_names(node, Release::New).await?;
                start_updates_of(node, round).await?;
            } else {
                let place = place - beam.len();
                let old = rust.remove(place);
                old.assert_all_was_read()?;
                old.node.stop().await;
                let name = format!("r{place}");
                let new = RustNames::start(&name, &epmd, Release::New).await?;
                rust.insert(place, new);
            }
            connect(&beam, &rust).await?;
        }
        updates.stop(&beam).await?;
        let (beam, rust): (Vec<_>, Vec<_>) = (beam.iter().collect(), rust.iter().collect());
        at_rest(&beam, &rust, &[]).await.with_context(|| format!("after step {step}"))?;
    }
    for names in &rust {
        let peers = names.scope.peers().await?;
        let new = peers.iter().filter(|(_, version)| *version == 2.into()).count();
        ensure!(new == beam.len() + rust.len() - 1, "{}: {peers:?}", names.node.name());
    }
    drop(rust);
    for node in beam {
        node.finish().await?;
    }
    Ok(())
}

/// Connects each with each.
async fn connect(beam: &[ErlNode], rust: &[RustNames]) -> Result<()> {
    for (place, one) in beam.iter().enumerate() {
        for other in &beam[..place] {
            one.peek(&format!("pong = net_adm:ping('{}')", other.name())).await?;
        }
    }
    for (place, names) in rust.iter().enumerate() {
        for node in beam {
            names.node.connect(node.name()).await?;
        }
        for other in &rust[..place] {
            names.node.connect(other.node.name()).await?;
        }
    }
    Ok(())
}

/// Waits until the first node sees names of this round of all others.
async fn under_way(beam: &[ErlNode], rust: &[RustNames], round: i64) -> Result<()> {
    let nodes = beam.len() + rust.len();
    wait_until("updates of all nodes", SOON, async || {
        let seen = match beam.first() {
            Some(node) => all_of(node).await.map_err(|error| format!("{error:#}"))?,
            None => rust[0].all(),
        };
        let of_round = format!("{{{round},");
        let count = seen.split("; ").filter(|node| node.contains(&of_round)).count();
        if count == nodes { Ok(()) } else { Err(seen) }
    })
    .await
}

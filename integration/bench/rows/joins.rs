//! P5 and P6: local joins, and when others see them.

use anyhow::Result;
use data_publisher::term::Term;

use super::micros_each;
use crate::crowd::Role;
use crate::plot::Plot;
use crate::stage::{Bench, Crowd, Kind};
use crate::table::{Line, percentile};

const PEERS: [u32; 3] = [1, 4, 16];

/// Joins awaited one after another. One peer is the driver's, the others are the crowd's.
pub(super) async fn published(bench: &Bench) -> Result<Vec<Line>> {
    let joins = bench.count(200_000);
    let line = |peers: u32, goal| {
        let what = match peers {
            1 => format!("{joins} local joins, published to one peer"),
            _ => format!("the same to {peers} peers"),
        };
        Line::new("P5", what, "us CPU", goal).at(Plot::Joins, peers)
    };
    let goals = ["<= 2; aim 1", "<= 3; aim 1.5", "<= 6; aim 3"];
    let mut lines: Vec<_> = PEERS.into_iter().zip(goals).map(|(n, goal)| line(n, goal)).collect();
    lines.push(Line::new("P10", "of that, each further peer", "us CPU", "<= 0.3"));
    bench
        .in_turns(lines, async |kind| {
            let mut values = Vec::new();
            for peers in PEERS {
                values.push(to_peers(bench, kind, joins, peers).await?);
            }
            let further = (values[2] - values[0]) / f64::from(PEERS[2] - PEERS[0]);
            values.push(further);
            Ok(values)
        })
        .await
}

async fn to_peers(bench: &Bench, kind: Kind, joins: u32, peers: u32) -> Result<f64> {
    /// So few before all peers have heard of them that none falls behind for long, nor is shed.
    const AT_ONCE: u32 = 10_000;
    let stage = bench.stage(kind, 0, 0).await?;
    let mut crowd = match peers {
        1 => None,
        _ => Some(Crowd::start(&stage, Role::Peers, peers - 1).await?),
    };
    stage.settle().await?;
    let join = async {
        for from in (0..joins).step_by(AT_ONCE as usize) {
            let to = (from + AT_ONCE).min(joins);
            stage.call("joins", &format!("[bench, {from}, {}]", to - 1)).await?;
            bench.ask(&format!("dp_bench:heard(bench, {to})")).await?;
            if let Some(crowd) = &mut crowd {
                crowd.heard(to).await?;
            }
        }
        Ok(())
    };
    let nanos = stage.cpu_of(join).await?;
    stage.assert_view(joins, 1).await?;
    if let Some(crowd) = crowd {
        crowd.end().await?;
    }
    stage.end().await?;
    Ok(micros_each(nanos, joins))
}

/// A join every millisecond or two; from just before it until the peer's process has the update.
pub(super) async fn until_visible(bench: &Bench) -> Result<Vec<Line>> {
    let joins = bench.count(2_000);
    let lines = vec![
        Line::new("P6", "join to visible at a BEAM peer, idle, half within", "us", "<= 60"),
        Line::new("P6", "99 of 100 within", "us", "<= 150"),
    ];
    bench
        .in_turns(lines, async |kind| {
            let stage = bench.stage(kind, 0, 0).await?;
            stage.call("stamped_joins", &format!("[bench, {joins}]")).await?;
            bench.ask(&format!("dp_bench:heard(bench, {joins})")).await?;
            let delays: Term = bench.ask("dp_bench:delays(bench)").await?.parse()?;
            let mut micros = Vec::new();
            for delay in delays.list()?.iter() {
                micros.push(delay.integer()? as f64 / 1e3);
            }
            stage.assert_view(joins, 1).await?;
            stage.end().await?;
            Ok([50, 99].into_iter().filter_map(|percent| percentile(&micros, percent)).collect())
        })
        .await
}

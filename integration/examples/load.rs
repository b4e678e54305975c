//! Each node publishes its load, a number; every node sees the load of all.
//!
//! ```text
//! cargo run --example load -- r@127.0.0.1 COOKIE [a@127.0.0.1]
//! ```
//!
//! Each number on stdin is our load from then on; each line on stdout is a node and its load. EPMD's port
//! is `ERL_EPMD_PORT`, else 4369. On the BEAM `erlang/examples/load.erl` is the same.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to its user")]

use std::collections::BTreeMap;

use data_publisher::engine::{DataPublisher, Effects};
use data_publisher::scope::Notice;
use data_publisher::term::{Atom, NodeName};
use data_publisher::{Cookie, NodeConfig, Scope, atom};
use tokio::io::{AsyncBufReadExt, BufReader};

struct Load;

#[rustfmt::skip] // the README shows it
impl DataPublisher for Load {
    type LocalData = i64;
    type Update = i64; // the new value replaces the old
    type GlobalView = BTreeMap<NodeName, i64>;
    type Subscription = ();
    type Initial = BTreeMap<NodeName, i64>;
    type Event = (NodeName, i64);

    fn init_local_data(&self) -> i64 { 0 } // and what a node that is gone falls to
    fn init_global_view(&mut self, _: &Atom) -> Self::GlobalView { BTreeMap::new() }
    fn update_local_data(&self, load: i64, data: &mut i64) -> Option<i64> {
        (std::mem::replace(data, load) != load).then_some(load)
    }
    fn data_diff(&self, old: &i64, new: &i64) -> Option<i64> { (old != new).then_some(*new) }
    fn update_global_view_and_notify(
        &self, node: &NodeName, load: &i64, view: &mut Self::GlobalView, effects: &mut Effects<'_, Self>,
    ) {
        view.insert(node.clone(), *load);
        effects.notify(&(), &(node.clone(), *load));
    }
    fn new_subscription(&self, (): &(), view: &Self::GlobalView) -> Self::Initial { view.clone() }
    data_publisher::serde_terms!();
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(cookie)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: load NAME@HOST COOKIE [PEER]")
    };
    let config = NodeConfig::new(&name)?.cookie(Cookie::new(&cookie)?);
    let node = data_publisher::start(config).await?;
    for peer in arguments {
        node.connect(&*peer).await?;
    }

    let load = Scope::start(&node, atom!("load"), Load)?;
    let (all, mut changes) = load.subscribe(()).await?;
    for (node, load) in all {
        println!("{node} {load}");
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Notice::Event((node, load))) => println!("{node} {load}"),
                Some(Notice::Lagged(all)) => println!("all anew: {all:?}"),
                None => anyhow::bail!("the scope has ended"),
            },
            line = lines.next_line() => match line?.map(|line| line.trim().parse()) {
                Some(Ok(number)) => _ = load.update(number).await?,
                Some(Err(error)) => eprintln!("{error}"),
                None => break,
            },
        }
    }
    node.stop().await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use data_publisher::testing::{Cluster, Random, shake};

    use super::*;

    fn cluster() -> Cluster<Load> {
        // A node that is gone has no load where it was known, and isn't there where it wasn't.
        let loads = |view: &BTreeMap<NodeName, i64>| {
            let mut loads = view.clone();
            loads.retain(|_, load| *load != 0);
            loads
        };
        let hear = |seen: &mut BTreeMap<NodeName, i64>, (node, load)| _ = seen.insert(node, load);
        Cluster::new(["a", "b", "c"], |_| Load).compare(loads).follow((), hear)
    }

    #[test]
    fn the_load_of_a_node_that_is_gone_is_0() {
        let mut cluster = cluster();
        let a = cluster.name("a").clone();
        cluster.connect_all();
        let (_, mut heard) = cluster.subscribe("b", ());
        cluster.update("a", 7);
        cluster.settle();
        cluster.kill("a");
        assert_eq!(cluster.view("b")[&a], 0);
        assert_eq!(heard.take(), [(a.clone(), 7), (a, 0)]);
    }

    #[test]
    fn whatever_happens_all_see_the_same() {
        shake(
            0..200,
            |_| cluster(),
            |cluster, node, random: &mut Random| {
                cluster.update(node, *random.pick(&[0, 1, 2, 3, 4]));
            },
        );
    }
}

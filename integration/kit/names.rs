//! The publisher in two formats, of which each node gets what it reads, whatever is upgraded when.

use std::collections::BTreeMap;

use data_publisher::term::Term;
use data_publisher::testing::{Cluster, Random, shake};

use crate::publishers::names::{Event, Format, Initial, Names, Op, Shown, Subscription};

/// Any mixture to begin with, and the newer one to upgrade to.
fn cluster(random: &mut Random) -> Cluster<Names> {
    let newer: BTreeMap<&str, bool> = ["a", "b", "c"].map(|node| (node, random.chance(30))).into();
    let names = newer.keys().copied().collect::<Vec<_>>();
    let first = move |node: &str| match newer.get(node) {
        Some(true) => Names::new(Format::Two, 2),
        _ => Names::new(Format::One, 1),
    };
    Cluster::new(names, first)
        .release(|_| Names::new(Format::Two, 2))
        // Without the weights, which an older one doesn't know.
        .compare(Shown::names)
        .follow(Subscription::All, |seen, event| {
            let Initial::All(all) = seen else { panic!("{seen:?} of all") };
            match event {
                Event::Add { node, name } => {
                    assert!(all.entry(node).or_default().insert(name.clone()), "{name} is there");
                }
                Event::Remove { node, name } => {
                    let gone = all.get_mut(&node).is_some_and(|names| names.remove(&name));
                    assert!(gone, "{name} isn't there");
                    all.retain(|_, names| !names.is_empty());
                }
            }
        })
}

#[test]
fn whatever_is_upgraded_when_all_see_the_same_names() {
    shake(0..300, cluster, |cluster, node, random| {
        let has_weights = *cluster.engine(node).version() == 2.into();
        let ops = (0..=random.below(2)).flat_map(|_| {
            let name = Term::Integer(*random.pick(&[0, 1, 2]));
            match *random.pick(&[0, 1, 2, 3]) {
                0 | 1 => Op::remove(name),
                weight if has_weights => Op::set(name, weight),
                _ => Op::add(name),
            }
        });
        cluster.update(node, ops.collect());
    });
}

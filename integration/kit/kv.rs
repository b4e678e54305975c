//! `kv`.

use std::collections::BTreeMap;

use data_publisher::kv::{Change, Event, Initial, KvPublisher, Owners, Subscription};
use data_publisher::term::Term;
use data_publisher::testing::{Cluster, Random, shake};
use data_publisher::{atom, map, tuple};

fn cluster() -> Cluster<KvPublisher> {
    Cluster::new(["a", "b", "c"], |_| KvPublisher)
        .compare(|view| view.all().clone())
        .follow(Subscription::All, hear)
        .follow(Subscription::Key(1.into()), hear)
}

/// What a reader makes of an event.
fn hear(seen: &mut Initial, event: Event) {
    match (seen, event) {
        (Initial::All(all), Event::Put { node, key, value }) => {
            all.entry(key).or_default().insert(node, value);
        }
        (Initial::All(all), Event::Delete { node, key }) => {
            let gone = all.get_mut(&key).and_then(|owners| owners.remove(&node));
            assert!(gone.is_some(), "{node} deletes {key} without having it");
            all.retain(|_, owners| !owners.is_empty());
        }
        (Initial::Key(owners), Event::Put { node, value, .. }) => _ = owners.insert(node, value),
        (Initial::Key(owners), Event::Delete { node, .. }) => _ = owners.remove(&node),
    }
}

#[test]
fn whatever_happens_all_see_the_same_keys() {
    shake(
        0..300,
        |_| cluster(),
        |cluster, node, random: &mut Random| {
            let float = |value| Term::float_of(value).expect("finite");
            let keys = [1.into(), float(1.0), float(-0.0), atom!("k").into()];
            let changes = (0..=random.below(2)).map(|_| {
                let key = random.pick(&keys);
                match *random.pick(&[0, 1, 2, 3]) {
                    0 => Change::delete(key),
                    value => Change::put(key, Term::from(value)),
                }
            });
            cluster.update(node, changes.collect());
        },
    );
}

#[test]
fn a_process_gets_what_dp_kv_would_send_it() {
    let mut cluster = cluster();
    cluster.connect_all();
    cluster.update("a", vec![Change::put(&1.into(), 2.into())]);
    cluster.settle();
    let process = cluster.spawn("c");
    let key = tuple![atom!("subscribe"), tuple![atom!("key"), 1]];
    let reply = cluster.call(&process, "b", key);
    let [reference, owners] = reply.tuple().expect("a pair");
    let a = cluster.name("a").clone();
    assert_eq!(*owners, map![&a => 2]);
    cluster.kill("a");
    cluster.settle();
    assert_eq!(cluster.received(&process), [tuple![reference, atom!("delete"), &a, 1]]);
    assert_eq!(*cluster.view("b").all(), BTreeMap::<Term, Owners>::new());
}

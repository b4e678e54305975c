//! Tests of `kv`: its publisher, and what needs the task of its scope.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::engine::{DataPublisher, Wire};
use crate::node::{Cookie, NodeConfig};
use crate::scope::Notice;
use crate::{atom, list, map, tuple};

/// Far above what anything here takes; only a broken test waits so long.
const LIMIT: Duration = Duration::from_secs(20);

fn key(name: &str) -> Term {
    Term::Atom(name.parse().unwrap())
}

fn me() -> Pid {
    let node = NodeName::new("me@h").unwrap();
    Pid { node, id: 1, serial: 0, creation: crate::term::Creation(4) }
}

async fn node_with(name: &str, epmd_port: u16) -> Node {
    let config = NodeConfig::new(name).unwrap().cookie(Cookie::new("c").unwrap());
    Node::start(config.epmd_port(epmd_port)).await.unwrap()
}

/// A free port, for an EPMD that the first node runs.
fn epmd_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn node() -> Node {
    node_with("a@127.0.0.1", epmd_port()).await
}

#[test]
fn an_update_is_this_term_and_is_read_from_it() {
    let update = vec![Change::put(&key("k"), 1.into()), Change::delete(&key("l"))];
    let term = list![tuple![atom!("put"), atom!("k"), 1], tuple![atom!("delete"), atom!("l")]];
    let written = KvPublisher.translate_update(&me(), &1.into(), &update);
    assert_eq!(written, Wire::Term(term.clone()));
    assert_eq!(KvPublisher.read_update(&term).unwrap(), update);
    for bad in [
        list![tuple![atom!("put"), atom!("k")]],
        list![atom!("delete")],
        tuple![atom!("delete"), atom!("k")],
        list![tuple![atom!("put"), 1, 2, 3]],
    ] {
        assert!(KvPublisher.read_update(&bad).is_err(), "{bad}");
    }
}

#[test]
fn local_data_is_a_map_both_ways() {
    let data: BTreeMap<Term, Term> = [(key("k"), 1.into()), (2.into(), key("v"))].into();
    let term = map! { atom!("k") => 1, 2 => atom!("v") };
    let written = KvPublisher.translate_local_data(&me(), &1.into(), &data);
    assert_eq!(written, Wire::Term(term.clone()));
    assert_eq!(KvPublisher.read_local_data(&term).unwrap(), data);
}

#[test]
fn only_what_makes_a_difference_goes_on() {
    let mut data = BTreeMap::from([(key("k"), Term::from(1))]);
    let same = vec![Change::put(&key("k"), 1.into()), Change::delete(&key("l"))];
    assert_eq!(KvPublisher.update_local_data(same, &mut data), None);
    let twice = vec![Change::put(&key("k"), 2.into()), Change::put(&key("k"), 2.into())];
    let once = vec![Change::put(&key("k"), 2.into())];
    assert_eq!(KvPublisher.update_local_data(twice, &mut data), Some(once));
}

#[test]
fn the_difference_leads_from_one_to_the_other() {
    let old = BTreeMap::from([(key("a"), Term::from(1)), (key("b"), 2.into())]);
    let new = BTreeMap::from([(key("b"), Term::from(3)), (key("c"), 4.into())]);
    let mut data = old.clone();
    let changes = KvPublisher.data_diff(&old, &new).unwrap();
    KvPublisher.update_local_data(changes, &mut data);
    assert_eq!(data, new);
    assert_eq!(KvPublisher.data_diff(&new, &new), None);
}

#[tokio::test]
async fn own_values_are_seen_at_once_and_by_subscribers() {
    let node = node().await;
    let kv = Kv::start(&node, atom!("kv")).unwrap();
    let (all, mut changes) = kv.subscribe().await.unwrap();
    let (_, mut of_k) = kv.subscribe_key(atom!("k")).await.unwrap();
    assert!(all.is_empty());

    assert!(kv.put(atom!("l"), 0).await.unwrap());
    assert!(kv.put_all([(atom!("k"), 1), (atom!("m"), 2)]).await.unwrap());
    assert!(!kv.put(atom!("k"), 1).await.unwrap());
    assert_eq!(kv.get(atom!("k")), Owners::from([(node.name().clone(), 1.into())]));
    assert_eq!(kv.get_of(node.name(), atom!("m")), Some(2.into()));
    assert!(kv.delete(atom!("l")).await.unwrap() && !kv.delete(atom!("l")).await.unwrap());
    assert_eq!(kv.get_all().into_keys().collect::<Vec<_>>(), [key("k"), key("m")]);

    let us = || node.name().clone();
    let put = |name, value: i64| Event::Put { node: us(), key: key(name), value: value.into() };
    let gone = Event::Delete { node: us(), key: key("l") };
    for event in [put("l", 0), put("k", 1), put("m", 2), gone] {
        assert_eq!(timeout(LIMIT, changes.next()).await.unwrap(), Some(Notice::Event(event)));
    }
    assert_eq!(of_k.next().await, Some(Notice::Event(put("k", 1))));
}

#[tokio::test]
async fn zeros_in_keys_are_positive() {
    let node = node().await;
    let kv = Kv::start(&node, atom!("kv")).unwrap();
    let zero = |zero: f64| tuple![atom!("z"), Term::float_of(zero).unwrap()];
    kv.put(zero(-0.0), 1).await.unwrap();
    assert_eq!(kv.get_all().into_keys().collect::<Vec<_>>(), [zero(0.0)]);
    assert_eq!(kv.get(zero(-0.0)).len(), 1);
    assert!(kv.delete(zero(-0.0)).await.unwrap());
}

#[tokio::test]
async fn a_scope_that_restarts_puts_its_values_anew_however_it_ended() {
    let epmd = epmd_port();
    let node = node_with("a@127.0.0.1", epmd).await;
    let other = node_with("b@127.0.0.1", epmd).await;
    node.connect(other.name()).await.unwrap();
    let seen = Kv::start(&other, atom!("kv")).unwrap();
    let (_, mut changes) = seen.subscribe().await.unwrap();
    let mut kv = Kv::start(&node, atom!("kv")).unwrap();
    kv.put(atom!("k"), 1).await.unwrap();
    seen.put(atom!("k"), 2).await.unwrap();
    for politely in [true, false, true] {
        if politely {
            kv.stop().await;
        } else {
            node.exit(&node.spawn(), kv.scope.pid(), atom!("kill"));
            let ended = async { while kv.peers().await.is_ok() {} };
            timeout(LIMIT, ended).await.unwrap();
        }
        assert!(node.whereis(&atom!("kv")).is_none());
        kv = Kv::start(&node, atom!("kv")).unwrap();
        kv.ready().await.unwrap();
        let both = [(node.name().clone(), 1.into()), (other.name().clone(), 2.into())];
        assert_eq!(kv.get(atom!("k")), Owners::from(both));
    }
    // The other end saw it come back each time, too.
    let mut puts = 0;
    while puts < 4 {
        let change = timeout(LIMIT, changes.next()).await.unwrap().unwrap();
        if let Notice::Event(Event::Put { node: of, .. }) = change {
            puts += usize::from(of == *node.name());
        }
    }
    assert_eq!(seen.get_of(node.name(), atom!("k")), Some(1.into()));
}

#[tokio::test]
async fn another_publisher_of_the_same_name_inherits_nothing() {
    let node = node().await;
    let kv = Kv::start(&node, atom!("s")).unwrap();
    kv.put(atom!("k"), 1).await.unwrap();
    kv.stop().await;
    let pg = crate::Pg::start(&node, atom!("s")).unwrap();
    pg.ready().await.unwrap();
    assert!(pg.which_groups().is_empty());
}

#[tokio::test]
async fn readers_see_nothing_of_a_scope_that_has_stopped() {
    let node = node().await;
    let kv = Kv::start(&node, atom!("kv")).unwrap();
    kv.put(atom!("k"), 1).await.unwrap();
    let reader = kv.clone();
    kv.stop().await;
    assert!(reader.get(atom!("k")).is_empty() && reader.get_all().is_empty());
}

#[cfg(feature = "serde")]
mod typed {
    use ::serde::{Deserialize, Serialize};

    use super::*;
    use crate::serde::Manners;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    #[serde(rename = "MyApp.Limit")]
    struct Limit {
        per_second: u32,
        burst: Option<u32>,
    }

    #[tokio::test]
    async fn values_of_a_type_are_put_and_read_and_others_are_errors_at_their_place() {
        let node = node().await;
        let kv = Kv::start(&node, atom!("kv")).unwrap();
        let limits = kv.typed::<String, Limit>();
        let limit = || Limit { per_second: 10, burst: None };
        let (_, mut changes) = kv.subscribe().await.unwrap();
        assert!(limits.put("up", &limit()).await.unwrap());
        assert!(!limits.put("up", &limit()).await.unwrap());
        let term = map! { atom!("per_second") => 10, atom!("burst") => atom!("undefined") };
        assert_eq!(kv.get_of(node.name(), Term::binary_of("up")), Some(term));
        assert_eq!(limits.get("up").unwrap()[node.name()], Ok(limit()));
        let Some(Notice::Event(event)) = changes.next().await else { panic!("an event") };
        assert_eq!(limits.read(&event).unwrap().value, Some(limit()));

        kv.put(Term::binary_of("down"), 7).await.unwrap();
        kv.put(7, 7).await.unwrap();
        assert!(limits.get("down").unwrap()[node.name()].is_err());
        let all = limits.get_all();
        let good: Vec<_> = all.iter().filter_map(|entry| entry.as_ref().ok()).collect();
        assert_eq!((good.len(), good[0].key.as_str(), all.len()), (1, "up", 3));
        assert!(limits.delete("up").await.unwrap());
        assert_eq!(limits.get_all().iter().filter(|entry| entry.is_ok()).count(), 0);
    }

    #[tokio::test]
    async fn elixir_reads_a_struct() {
        let node = node().await;
        let kv = Kv::start(&node, atom!("kv")).unwrap();
        let limits = kv.typed_by::<String, Limit>(Manners::Elixir);
        let limit = Limit { per_second: 10, burst: None };
        limits.put_all([(&"up".to_owned(), &limit)]).await.unwrap();
        let term = map! {
            atom!("__struct__") => atom!("Elixir.MyApp.Limit"),
            atom!("per_second") => 10, atom!("burst") => atom!("nil")
        };
        assert_eq!(kv.get_of(node.name(), Term::binary_of("up")), Some(term));
        assert_eq!(limits.get("up").unwrap()[node.name()], Ok(limit));
    }
}

#[tokio::test]
async fn the_name_of_pg_is_not_for_keys_and_values() {
    let refused = Kv::start(&node().await, atom!("pg")).unwrap_err();
    assert!(matches!(refused, RegisterError::Reserved { .. }), "{refused}");
}

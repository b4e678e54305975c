//! The cluster itself: what happens in it, and when; by the smallest publisher there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Cluster, Random, replay, shake};
use crate::engine::{DataPublisher, Effects, Version, Wire};
use crate::term::{Atom, BadTerm, NodeName, Pid, Reference, Term};
use crate::{atom, list, tuple};

/// Each node owns words; version 2 writes `{words, List}` where version 1 wrote `List`.
#[derive(Clone, Copy)]
struct Words(i64);

type View = BTreeMap<NodeName, BTreeSet<Term>>;

impl DataPublisher for Words {
    type LocalData = BTreeSet<Term>;
    type Update = BTreeSet<Term>;
    type GlobalView = View;
    type Subscription = ();
    type Initial = View;
    type Event = (NodeName, BTreeSet<Term>);

    fn version(&self) -> Version {
        self.0.into()
    }
    fn init_local_data(&self) -> BTreeSet<Term> {
        BTreeSet::new()
    }
    fn init_global_view(&mut self, _scope: &Atom) -> View {
        View::new()
    }
    fn update_local_data(
        &self,
        words: BTreeSet<Term>,
        data: &mut BTreeSet<Term>,
    ) -> Option<BTreeSet<Term>> {
        (*data != words).then(|| data.clone_from(&words)).map(|()| words)
    }
    fn update_global_view_and_notify(
        &self,
        origin: &NodeName,
        words: &BTreeSet<Term>,
        view: &mut View,
        effects: &mut Effects<'_, Self>,
    ) {
        if words.is_empty() {
            view.remove(origin);
        } else {
            view.insert(origin.clone(), words.clone());
        }
        effects.notify(&(), &(origin.clone(), words.clone()));
    }
    fn data_diff(&self, old: &BTreeSet<Term>, new: &BTreeSet<Term>) -> Option<BTreeSet<Term>> {
        (old != new).then(|| new.clone())
    }
    fn new_subscription(&self, _key: &(), view: &View) -> View {
        view.clone()
    }
    fn translate_update(&self, _me: &Pid, peer: &Version, words: &BTreeSet<Term>) -> Wire {
        let list = Term::list_of(words.iter().cloned());
        Wire::Term(if *peer < 2.into() { list } else { tuple![atom!("words"), list] })
    }
    fn translate_local_data(&self, me: &Pid, peer: &Version, words: &BTreeSet<Term>) -> Wire {
        self.translate_update(me, peer, words)
    }
    fn read_update(&self, term: &Term) -> Result<BTreeSet<Term>, BadTerm> {
        match term.tagged("words") {
            Some([words]) if self.0 >= 2 => Ok(words.list()?.iter().cloned().collect()),
            _ => Ok(term.list()?.iter().cloned().collect()),
        }
    }
    fn read_local_data(&self, term: &Term) -> Result<BTreeSet<Term>, BadTerm> {
        self.read_update(term)
    }
    fn read_subscription(&self, term: &Term) -> Result<(), BadTerm> {
        if term.is_atom("all") { Ok(()) } else { Err(BadTerm::new("all", term)) }
    }
    fn initial_term(&self, view: &View) -> Term {
        Term::Integer(i64::try_from(view.len()).unwrap())
    }
    fn event_term(&self, reference: &Reference, (node, words): &Self::Event) -> Term {
        tuple![reference, node, Term::list_of(words.iter().cloned())]
    }
}

fn words<const N: usize>(words: [&str; N]) -> BTreeSet<Term> {
    words.iter().map(|word| Term::Atom(word.parse().unwrap())).collect()
}

fn cluster() -> Cluster<Words> {
    hears_all(Cluster::new(["a", "b", "c"], |_| Words(1)))
}

fn hears_all(cluster: Cluster<Words>) -> Cluster<Words> {
    cluster.compare(View::clone).follow((), |seen, (node, words)| {
        if words.is_empty() {
            seen.remove(&node);
        } else {
            seen.insert(node, words);
        }
    })
}

fn seen(cluster: &Cluster<Words>, by: &str) -> Vec<String> {
    let view = cluster.view(by);
    view.iter().map(|(node, words)| format!("{} {words:?}", node.short())).collect()
}

#[test]
fn nothing_arrives_before_it_is_delivered_and_then_in_order() {
    let mut cluster = cluster();
    cluster.connect("a", "b");
    cluster.settle();
    assert!(cluster.update("a", words(["one"])) && cluster.update("a", words(["two"])));
    assert!(!cluster.update("a", words(["two"])));
    let me = cluster.engine("a").me().clone();
    let update =
        |word: &str| tuple![atom!("update"), &me, list![Term::Atom(word.parse().unwrap())]];
    assert_eq!(cluster.in_flight("a", "b"), [update("one"), update("two")]);
    assert!(seen(&cluster, "b").is_empty());

    assert!(cluster.deliver("a", "b"));
    assert_eq!(seen(&cluster, "b"), ["a {one}"]);
    assert!(cluster.deliver("a", "b") && !cluster.deliver("a", "b"));
    assert_eq!(seen(&cluster, "b"), ["a {two}"]);
}

#[test]
fn what_is_on_its_way_is_lost_with_the_connection_and_comes_with_the_next() {
    let mut cluster = cluster();
    cluster.connect_all();
    cluster.update("a", words(["one"]));
    cluster.settle();
    cluster.update("a", words(["two"]));
    cluster.cut("a", "b");
    cluster.settle();
    assert_eq!((seen(&cluster, "b").len(), seen(&cluster, "c")), (0, vec!["a {two}".to_owned()]));
    cluster.connect("b", "a");
    cluster.settle();
    assert_eq!(seen(&cluster, "b"), ["a {two}"]);
}

#[test]
fn a_scope_hands_its_data_on_and_a_killed_node_does_not() {
    let mut cluster = cluster();
    cluster.connect_all();
    cluster.update("a", words(["one"]));
    cluster.stop("a");
    cluster.settle();
    assert!(!cluster.runs("a") && seen(&cluster, "b").is_empty());
    cluster.start("a");
    cluster.settle();
    assert_eq!(seen(&cluster, "b"), ["a {one}"]);

    cluster.kill("a");
    assert!(seen(&cluster, "b").is_empty());
    cluster.start("a");
    cluster.connect_all();
    cluster.settle();
    assert_eq!((seen(&cluster, "a").len(), seen(&cluster, "b").len()), (0, 0));
}

#[test]
fn the_clock_moves_when_it_is_told_to() {
    let mut cluster = cluster();
    cluster.stop("b");
    cluster.connect("a", "b");
    cluster.settle();
    assert_eq!(cluster.now(), Duration::ZERO);
    // Greeted after 0 s and after 1, 3 and 7 more; nobody is there to hear it.
    cluster.advance(Duration::from_secs(6));
    assert_eq!(cluster.engine("a").counters().unknown, 0);
    assert!(cluster.in_flight("a", "b").is_empty());
    assert_eq!(cluster.now(), Duration::from_secs(6));
    // Who starts greets those that are connected.
    cluster.start("b");
    cluster.settle();
    assert_eq!(cluster.engine("a").peers().count(), 1);
}

#[test]
fn processes_call_subscribe_and_end() {
    let mut cluster = cluster();
    cluster.connect_all();
    cluster.settle();
    let process = cluster.spawn("c");
    let reply = cluster.call(&process, "a", tuple![atom!("subscribe"), atom!("all")]);
    let [reference, count] = reply.tuple().unwrap();
    assert_eq!(*count, Term::Integer(0));
    let update = tuple![atom!("update"), list![atom!("one")]];
    assert_eq!(cluster.call(&process, "a", update), Term::Atom(atom!("ok")));
    let event = tuple![reference, cluster.name("a"), list![atom!("one")]];
    assert_eq!((cluster.received(&process), cluster.received(&process)), (vec![event], vec![]));

    assert_eq!(cluster.engine("a").subscriber_count(), 2);
    cluster.exit(&process);
    cluster.settle();
    assert_eq!(cluster.engine("a").subscriber_count(), 1);
    let other = cluster.spawn("a");
    assert_eq!(
        cluster.call(&other, "a", atom!("x").into()),
        tuple![atom!("error"), atom!("badarg")]
    );
}

#[test]
fn a_subscriber_hears_what_comes_after() {
    let mut cluster = cluster();
    cluster.connect_all();
    cluster.update("a", words(["one"]));
    cluster.settle();
    let (initial, mut heard) = cluster.subscribe("b", ());
    assert_eq!(initial.len(), 1);
    cluster.kill("a");
    assert_eq!(heard.take(), [(cluster.name("a").clone(), words([]))]);
    assert_eq!(heard.take(), []);
}

#[test]
fn an_upgraded_node_speaks_to_each_in_its_version() {
    let cluster = Cluster::new(["a", "b", "c"], |_| Words(1)).release(|_| Words(2));
    let mut cluster = hears_all(cluster);
    cluster.connect_all();
    cluster.settle();
    for (count, node) in ["a", "b", "c"].into_iter().enumerate() {
        cluster.upgrade(node);
        cluster.settle();
        cluster.update(node, words(["new"]));
        cluster.settle();
        assert_eq!(seen(&cluster, "c").len(), count + 1);
    }
}

fn act(cluster: &mut Cluster<Words>, node: &str, random: &mut Random) {
    let all = ["one", "two", "three"];
    cluster.update(node, (0..random.below(3)).flat_map(|_| words([*random.pick(&all)])).collect());
}

#[test]
fn random_runs_of_a_right_publisher_end_well_with_all_versions() {
    let make = |random: &mut Random| {
        let newer = random.below(4);
        let first = move |node: &str| Words(if node.len() > newer { 1 } else { 2 });
        hears_all(
            Cluster::new(["a", "bb", "ccc"], first).release(|_| Words(2)).release(|_| Words(3)),
        )
    };
    shake(0..300, make, act);
    replay("cluster 1\nconnect a bb # so\nact a 3f\nkill a\n", make, act);
}

/// What a run tells, for the same seed, is the same.
#[test]
fn the_same_seed_is_the_same_run() {
    let failing = || {
        let fail = |cluster: &mut Cluster<Words>, node: &str, random: &mut Random| {
            act(cluster, node, random);
            assert!(!cluster.runs("a") || seen(cluster, "a").len() < 3, "as it should");
        };
        let run = std::panic::AssertUnwindSafe(|| shake(0..100, |_| cluster(), fail));
        *std::panic::catch_unwind(run).unwrap_err().downcast::<String>().unwrap()
    };
    let report = failing();
    assert!(report.starts_with("as it should\n\nseed "), "{report}");
    assert_eq!(report, failing());
}

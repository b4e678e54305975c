//! `pg`, whose members are processes that end.

use std::collections::BTreeMap;

use data_publisher::pg::{Bag, Change, Event, Initial, PgPublisher, Subscription, View};
use data_publisher::term::{Pid, Term};
use data_publisher::testing::{Cluster, Random, shake};

fn members(view: &View) -> BTreeMap<Term, Bag> {
    let all = view.members().all().into_iter();
    all.map(|(group, pids)| (group, pids.iter().cloned().collect())).collect()
}

fn cluster() -> Cluster<PgPublisher> {
    Cluster::new(["a", "b", "c"], |_| PgPublisher::new()).compare(members)
}

fn act(cluster: &mut Cluster<PgPublisher>, node: &str, random: &mut Random) {
    let group = Term::Integer(*random.pick(&[0, 1, 2]));
    let processes = cluster.processes(node);
    match random.below(10) {
        0 if !processes.is_empty() => cluster.exit(random.pick(&processes)),
        1..4 if !processes.is_empty() => {
            let pids = [(); 2].map(|()| random.pick(&processes).clone());
            cluster.update(node, vec![Change::leave(&group, pids)]);
        }
        4..7 if !processes.is_empty() => {
            let pids = vec![random.pick(&processes).clone(); 1 + random.below(2)];
            cluster.update(node, vec![Change::join(&group, pids)]);
        }
        _ => {
            let pid = cluster.spawn(node);
            cluster.update(node, vec![Change::join(&group, [pid])]);
        }
    }
}

#[test]
fn whatever_happens_all_see_the_same_members() {
    shake(0..300, |_| cluster(), act);
}

#[test]
fn a_member_that_ends_leaves_all_its_groups_everywhere() {
    let mut cluster = cluster();
    cluster.connect_all();
    let pid = cluster.spawn("a");
    let join = |group: i64, pid: &Pid| Change::join(&group.into(), [pid.clone()]);
    cluster.update("a", vec![join(1, &pid), join(2, &pid)]);
    cluster.settle();
    let (initial, mut heard) = cluster.subscribe("b", Subscription::Group(2.into()));
    assert_eq!(initial, Initial::Group([pid.clone()].into()));
    cluster.exit(&pid);
    cluster.settle();
    assert_eq!(heard.take(), [Event::Leave { group: 2.into(), pids: [pid].into() }]);
    assert!(members(&cluster.view("c")).is_empty());
}

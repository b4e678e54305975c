//! Bags, groups and the view beside naive models of them, and readers beside a writer.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use rustc_hash::FxHasher;

use super::bag::{Bag, SEARCHED};
use super::{Groups, Members, Origin};
use crate::atom;
use crate::term::{Creation, NodeName, Pid, Term};

fn pid(id: u32) -> Pid {
    Pid { node: NodeName::new("a@h").unwrap(), id, serial: 0, creation: Creation(4) }
}

/// What a bag is: how often each pid is in it.
type Counts = BTreeMap<u32, usize>;

fn counts<'a>(pids: impl IntoIterator<Item = &'a Pid>) -> Counts {
    let mut counts = Counts::new();
    pids.into_iter().for_each(|pid| *counts.entry(pid.id).or_default() += 1);
    counts
}

fn take(counts: &mut Counts, id: u32) -> bool {
    let Some(count) = counts.get_mut(&id) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(&id);
    }
    true
}

/// Adds and removes: mostly of few pids, so that they repeat, and enough to pass every threshold.
fn steps() -> impl Strategy<Value = Vec<(bool, u32)>> {
    let step = |joins: u32, most: u32| (prop::bool::weighted(f64::from(joins) / 10.0), 0..most);
    prop_oneof![
        prop::collection::vec(step(5, 4), 0..60),
        (prop::collection::vec(step(9, 60), 0..120), prop::collection::vec(step(1, 60), 0..300))
            .prop_map(|(up, down)| [up, down].concat()),
    ]
}

proptest! {
    #[test]
    fn a_bag_counts_as_a_map_of_counts_does(begin in 0..40_u32, steps in steps()) {
        let mut bag: Bag = (0..begin).map(pid).collect();
        let mut model = counts(&(0..begin).map(pid).collect::<Vec<_>>());
        for (is_add, id) in steps {
            if is_add {
                bag.add(pid(id));
                *model.entry(id).or_default() += 1;
            } else {
                prop_assert_eq!(bag.remove(&pid(id)), take(&mut model, id));
            }
            prop_assert_eq!(bag.count(&pid(id)), model.get(&id).copied().unwrap_or(0));
            prop_assert_eq!(bag.len(), model.values().sum::<usize>());
            prop_assert_eq!(bag.is_empty(), model.is_empty());
        }
        prop_assert_eq!(counts(bag.iter()), model.clone());
        prop_assert_eq!(bag.iter().cloned().collect::<Vec<_>>(), bag.list().to_vec());
    }

    #[test]
    fn what_is_missing_from_a_bag_makes_it_equal(one in steps(), other in steps()) {
        let bag = |steps: Vec<(bool, u32)>| {
            let mut bag = Bag::default();
            for (is_add, id) in steps {
                if is_add { bag.add(pid(id)) } else { let _ = bag.remove(&pid(id)); }
            }
            bag
        };
        let (mut one, other) = (bag(one), bag(other));
        prop_assert_eq!(one == other, counts(one.iter()) == counts(other.iter()));
        let (more, less) = (one.missing_from(&other), other.missing_from(&one));
        for pid in &less {
            prop_assert!(one.remove(pid));
        }
        for pid in more {
            one.add(pid);
        }
        prop_assert_eq!(&one, &other);
        let mut back: Vec<Pid> = one.iter().cloned().collect();
        back.reverse();
        prop_assert_eq!(&one, &back.into_iter().collect::<Bag>());
    }

    #[test]
    fn groups_are_a_map_of_bags_in_the_same_order_for_the_same_history(
        steps in prop::collection::vec((prop::bool::weighted(0.6), 0..12_i64, 0..5_u32), 0..300)
    ) {
        let mut twins = [Groups::default(), Groups::with_capacity(100)];
        let mut model: BTreeMap<i64, Counts> = BTreeMap::new();
        for (is_add, name, id) in steps {
            let group = Term::from(name);
            let bag = model.entry(name).or_default();
            if is_add {
                for groups in &mut twins {
                    groups.add(&group, pid(id));
                }
                *bag.entry(id).or_default() += 1;
            } else {
                let expected = take(bag, id);
                for groups in &mut twins {
                    prop_assert_eq!(groups.remove(&group, &pid(id)), expected);
                }
            }
            model.retain(|_, bag| !bag.is_empty());
            let [groups, twin] = &twins;
            prop_assert_eq!(groups.len(), model.len());
            let bag = groups.get(&group).map(|bag| counts(bag.iter()));
            prop_assert_eq!(bag.as_ref(), model.get(&name));
            let names = |groups: &Groups| -> Vec<Term> {
                groups.iter().map(|(group, _)| group.clone()).collect()
            };
            prop_assert_eq!(names(groups), names(twin));
        }
        let [groups, twin] = twins;
        prop_assert_eq!(&groups, &twin);
        let sorted = groups.sorted().into_iter().map(|(group, _)| group.clone());
        prop_assert!(sorted.eq(model.keys().copied().map(Term::from)));
    }

    /// Members of two kinds in three groups; those that leave are there.
    #[test]
    fn the_view_is_the_sum_of_here_and_elsewhere(
        steps in prop::collection::vec(
            (any::<bool>(), 0..2_i64, prop::bool::weighted(0.7), 1..7_usize, 0..30_u32, 0..9_u32),
            0..80,
        )
    ) {
        let members = Members::default();
        let mut model: BTreeMap<(i64, bool), Vec<Pid>> = BTreeMap::new();
        for (is_local, name, is_join, count, first, how) in steps {
            let group = Term::from(name);
            let origin = if is_local { Origin::Local } else { Origin::Remote };
            let there = model.entry((name, is_local)).or_default();
            let remove: Vec<Pid> = if is_join && how > 0 {
                Vec::new()
            } else {
                there.drain(..count.min(there.len())).collect()
            };
            let add: Arc<[Pid]> = (first..first + count as u32)
                .filter(|_| is_join)
                .map(|id| Pid { serial: u32::from(is_local), ..pid(id) })
                .collect();
            there.extend_from_slice(&add);
            if remove.is_empty() && how > 3 {
                members.join(origin, &group, &add);
            } else {
                members.change(origin, &group, &add, &remove);
            }

            let of = |is_local| model.get(&(name, is_local)).into_iter().flatten();
            let sorted = |pids: &mut dyn Iterator<Item = &Pid>| {
                let mut pids: Vec<_> = pids.map(|pid| (pid.serial, pid.id)).collect();
                pids.sort_unstable();
                pids
            };
            // Sometimes nobody asks between two changes.
            if how % 3 > 0 {
                let all = members.get_members(&group);
                prop_assert_eq!(
                    sorted(&mut all.iter()),
                    sorted(&mut of(true).chain(of(false)))
                );
                let local = members.get_local_members(&group);
                prop_assert_eq!(sorted(&mut local.iter()), sorted(&mut of(true)));
            }
            for pid in &*add {
                let expected = of(true).filter(|known| *known == pid).count();
                prop_assert_eq!(members.local_count(&group, pid), expected);
            }
        }
        let names = |only_local: bool| -> Vec<Term> {
            let mut names: Vec<i64> = model
                .iter()
                .filter(|((_, is_local), pids)| (*is_local || !only_local) && !pids.is_empty())
                .map(|((name, _), _)| *name)
                .collect();
            names.dedup();
            names.into_iter().map(Term::from).collect()
        };
        prop_assert_eq!(members.which_groups(), names(false));
        prop_assert_eq!(members.which_local_groups(), names(true));
        let all: Vec<_> = members.all().into_iter().map(|(name, _)| name).collect();
        prop_assert_eq!(all, names(false));
        members.clear();
        prop_assert!(members.which_groups().is_empty());
    }
}

#[test]
fn a_bag_removes_as_often_as_it_added_small_or_large() {
    for size in [1, 4, 5, SEARCHED as u32, SEARCHED as u32 + 1, 100] {
        let mut bag: Bag = (0..size).chain(0..size).map(pid).collect();
        assert_eq!(bag.len(), 2 * size as usize);
        for id in (0..size).chain((0..size).rev()) {
            assert!(bag.remove(&pid(id)));
        }
        assert!(bag.is_empty());
        assert!(!bag.remove(&pid(0)));
    }
}

#[test]
fn bags_are_equal_in_any_order() {
    let up: Bag = (0..40).map(pid).collect();
    let down: Bag = (0..40).rev().map(pid).collect();
    assert_eq!(up, down);
    assert_ne!(up, (1..41).map(pid).collect());
}

#[test]
fn names_made_to_collide_cost_no_more_than_others() {
    /// What `FxHasher` multiplies by; `a * FACTOR * FACTOR + b` is all it keeps of a pair.
    const FACTOR: i64 = 0xf135_7aea_2e62_a9c5_u64.cast_signed();
    let name =
        |a: i64| crate::tuple![a, a.wrapping_mul(FACTOR).wrapping_mul(FACTOR).wrapping_neg()];
    let hash = |term: &Term| {
        let mut hasher = FxHasher::default();
        term.hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!(hash(&name(1)), hash(&name(2)), "the attack needs another formula");

    let (start, mut groups) = (std::time::Instant::now(), Groups::default());
    let (members, pids) = (Members::default(), Arc::from([pid(1)]));
    for a in 0..100_000 {
        groups.add(&name(a), pid(1));
        members.join(Origin::Remote, &name(a), &pids);
    }
    assert_eq!((groups.len(), members.which_groups().len()), (100_000, 100_000));
    // With a known hash it was five minutes.
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn a_reader_sees_each_change_and_shares_the_list_between_them() {
    let members = Members::default();
    let group = Term::from(atom!("g"));
    members.change(Origin::Local, &group, &[pid(1)], &[]);
    members.change(Origin::Remote, &group, &[pid(2)], &[]);
    let first = members.get_members(&group);
    assert_eq!(*first, [pid(1), pid(2)]);
    assert!(Arc::ptr_eq(&first, &members.get_members(&group)));
    assert_eq!(*members.get_local_members(&group), [pid(1)]);

    members.change(Origin::Local, &group, &[], &[pid(1)]);
    assert_eq!(*members.get_members(&group), [pid(2)]);
    assert!(members.which_local_groups().is_empty());

    members.change(Origin::Remote, &group, &[], &[pid(2)]);
    assert!(members.which_groups().is_empty());
}

#[test]
fn a_list_that_came_as_one_is_held_once() {
    let group = Term::from(atom!("g"));
    let list: Arc<[Pid]> = (0..100).map(pid).collect();
    let (mut groups, members) = (Groups::default(), Members::default());
    groups.add_list(&group, &list);
    members.join(Origin::Remote, &group, &groups.get(&group).unwrap().list());
    assert!(Arc::ptr_eq(&list, &members.get_members(&group)));
    assert_eq!(Arc::strong_count(&list), 3);
}

/// One thread changes a group, from nobody to `most` and back, each time in one change the next
/// number in and, on the way back, the last one out. Another reads it all the while.
fn read_beside_a_writer(most: u32) {
    let members = Members::default();
    let group = Term::from(atom!("g"));
    let (is_over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let pids = members.get_members(&group);
                // Always the first so many, however far the writer is.
                let counts = counts(&*pids);
                assert_eq!(counts.len(), pids.len());
                assert_eq!(counts.keys().next_back().map_or(0, |id| id + 1) as usize, pids.len());
                reads.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut rounds = 0;
        while !reader.is_finished() && (rounds < 100 || reads.load(Ordering::Relaxed) < 100) {
            for id in 0..most {
                members.change(Origin::Remote, &group, &[pid(id)], &[]);
                assert_eq!(members.get_members(&group).len(), id as usize + 1);
            }
            for id in (0..most).rev() {
                members.change(Origin::Remote, &group, &[], &[pid(id)]);
                if id % 3 == 0 {
                    assert_eq!(members.get_members(&group).len(), id as usize);
                }
            }
            rounds += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reader_beside_the_writer_sees_a_small_group_as_it_is_between_changes() {
    read_beside_a_writer(10);
}

#[test]
fn a_reader_beside_the_writer_sees_a_large_group_as_it_is_between_changes() {
    read_beside_a_writer(60);
}

/// The table grows and shrinks meanwhile, and each change of a group takes its entry out and puts another in.
#[test]
fn a_group_that_is_there_is_found_and_listed_whatever_else_happens() {
    const STAY: i64 = 100;
    let members = Members::default();
    let name = |number: i64| crate::tuple![atom!("g"), number];
    let join = |number, id| members.change(Origin::Remote, &name(number), &[pid(id)], &[]);
    let leave = |number, id| members.change(Origin::Remote, &name(number), &[], &[pid(id)]);
    (0..STAY).for_each(|number| join(number, 1));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let readers = [0, 1].map(|_| {
            threads.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for number in 0..STAY {
                        let found = members.get_members(&name(number)).len();
                        assert!((1..=2).contains(&found), "{found} members of {number}");
                    }
                }
            })
        });
        let lister = threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let listed = members.which_groups();
                assert!(listed.windows(2).all(|two| two[0] < two[1]), "listed twice");
                for number in 0..STAY {
                    assert!(listed.binary_search(&name(number)).is_ok(), "{number} isn't listed");
                }
            }
        });
        for round in 0..20 {
            let others = || STAY..STAY + 300 * (round + 1);
            for other in others() {
                join(other, 1);
                join(other % STAY, 2);
                leave(other % STAY, 2);
            }
            others().for_each(|other| leave(other, 1));
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().is_ok()));
        assert!(lister.join().is_ok());
    });
}

/// While others read: a table that waits for them to look away keeps ever more of what is gone.
#[test]
fn names_that_come_and_go_leave_nothing_behind() {
    const MANY: i64 = 100_000;
    /// Each part of the table has room for some.
    const FEW: usize = 64 * 112;
    let members = Members::default();
    let join = |number: i64| members.change(Origin::Local, &number.into(), &[pid(1)], &[]);
    let leave = |number: i64| members.change(Origin::Local, &number.into(), &[], &[pid(1)]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                members.get_members(&7.into());
            }
        });
        for number in 0..MANY {
            join(number);
            leave(number);
        }
        assert!(members.capacity() <= FEW, "room for {}", members.capacity());
        (0..MANY).for_each(join);
        assert!(members.capacity() >= MANY as usize);
        (0..MANY).for_each(leave);
        assert!(members.capacity() <= FEW, "room for {}", members.capacity());
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(members.which_groups().is_empty());
}

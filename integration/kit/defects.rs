//! Each planted defect is found, and the report says what it is and how to see it again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use data_publisher::testing::{Cluster, Random, replay, shake};

use crate::keys::{Defect, Keys, Table};

/// Of version 1, and with a newer release; in some the last node has that from the start.
fn cluster(defect: Defect, random: &mut Random) -> Cluster<Keys> {
    let mixed = random.chance(50);
    let first = move |node: &str| Keys { version: 1 + i64::from(mixed && node == "c"), defect };
    Cluster::new(["a", "b", "c"], first)
        .release(move |_| Keys { version: 2, defect })
        .compare(Table::clone)
        .follow((), |seen, (node, name, number)| {
            match number {
                Some(number) => _ = seen.entry(name).or_default().insert(node, number),
                None => _ = seen.get_mut(&name).and_then(|owners| owners.remove(&node)),
            }
            seen.retain(|_, owners| !owners.is_empty());
        })
}

fn act(cluster: &mut Cluster<Keys>, node: &str, random: &mut Random) {
    let changes = (0..=random.below(2)).map(|_| {
        let name = (*random.pick(&["k", "l", "m"])).to_owned();
        (name, [None, Some(1), Some(2), Some(3)][random.below(4)])
    });
    cluster.update(node, changes.collect());
}

fn report(run: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(run)).expect_err("found").downcast().expect("a text")
}

#[test]
fn without_a_defect_all_is_well() {
    shake(0..300, |random| cluster(Defect::None, random), act);
}

/// The report has to begin so, and to show in few operations how to see it again.
#[track_caller]
fn is_found(defect: Defect, said: &str) {
    let make = |random: &mut Random| cluster(defect, random);
    let found = report(|| shake(0..300, make, act));
    let (why, rest) = found.split_once("\n\nseed ").expect("the seed");
    assert!(why.starts_with(said), "{found}");
    let (_, text) = rest.split_once("\n\n").expect("the operations");
    let is_op = |line: &&str| !line.trim_start().starts_with('#') && !line.is_empty();
    let ops = text.lines().filter(is_op).count() - 1;
    assert!(ops <= 6, "{ops} operations\n{found}");
    assert_eq!(report(|| replay(text, make, act)), format!("{why}\n\n{text}"));
}

#[test]
fn a_difference_that_leaves_out_what_is_gone_is_found() {
    is_found(
        Defect::DiffForgetsRemovals,
        "a: data_diff from #{<<\"m\">> => 3} to #{} finds no difference, and [{<<\"m\">>,3}] in the \
         other direction",
    );
}

#[test]
fn a_difference_between_equals_is_found() {
    is_found(Defect::DiffOfEquals, "b: data_diff finds a difference between #{} and itself: []");
}

#[test]
fn an_update_that_adds_where_the_difference_replaces_is_found() {
    is_found(
        Defect::UpdateAdds,
        "a: data_diff from #{<<\"m\">> => 2} to #{<<\"m\">> => 5} is [{<<\"m\">>,5}], and applying that \
         leads to #{<<\"m\">> => 7}",
    );
}

#[test]
fn a_view_that_counts_twice_is_found() {
    is_found(
        Defect::ViewAdds,
        "the view of a isn't what is made of its own data and of that of its peers, when made anew:\n  \
         only the view   \"m\": { a@test: 5\n  only made anew  \"m\": { a@test: 3",
    );
}

#[test]
fn what_is_left_in_a_view_of_what_is_gone_is_found() {
    is_found(
        Defect::ViewKeepsNames,
        "the view of a isn't what is made of its own data and of that of its peers, when made anew:\n  \
         only the view   \"k\": {}",
    );
}

#[test]
fn a_view_that_drops_what_another_node_owns_is_found() {
    is_found(
        Defect::ViewHasOneOwner,
        "at a, who followed () from the start knows something else than who subscribes now:\n  \
         only who followed  \"k\": { b@test: 1",
    );
}

#[test]
fn an_event_that_is_not_told_is_found() {
    is_found(
        Defect::RemovalNotTold,
        "at a, who followed () from the start knows something else than who subscribes now:\n  \
         only who followed  \"k\": { a@test: 2",
    );
}

#[test]
fn a_change_that_is_said_to_be_none_is_found() {
    is_found(
        Defect::ChangeDenied,
        "a: an update that said to change nothing did; from one to the other it's [{<<\"m\">>,3}], and \
         back [{<<\"m\">>,undefined}]",
    );
}

#[test]
fn a_format_the_peer_does_not_read_is_found() {
    is_found(
        Defect::NotTranslated,
        "b (version 1) can't read what a (version 1) sent it, {'$gen_cast',{local_data,<a@test.1.0>,1,\
         {numbers,#{}}}}: expected a map, found {numbers,#{}}",
    );
}

#[test]
fn a_translation_that_loses_a_name_is_found() {
    is_found(
        Defect::TranslationLosesName,
        "nothing is on its way, and the views of a (version 1) and c (version 2) differ:\n  \
         only c  \"l\": { c@test: 1",
    );
}

#[test]
fn local_data_that_lose_what_updates_tell_are_found() {
    is_found(
        Defect::SnapshotLosesName,
        "nothing is on its way, and the views of a (version 1) and c (version 2) differ:\n  \
         only c  \"l\": { c@test: 1",
    );
}

#[test]
fn local_data_that_are_not_read_as_they_are_written_are_found() {
    is_found(
        Defect::ReadLosesName,
        "c reads its own local data, #{<<\"l\">> => 1}, otherwise than it wrote it; from one to the other \
         it's [{<<\"l\">>,undefined}], and back [{<<\"l\">>,1}]",
    );
}

#[test]
fn an_update_that_is_read_from_its_bytes_as_another_is_found() {
    is_found(
        Defect::TakenOtherwise,
        "b (version 1) knows #{<<\"k\">> => 3} of a (version 1), whose local data it would read as \
         #{<<\"k\">> => 3,<<\"l\">> => 3}; from one to the other it's [{<<\"l\">>,3}], and back \
         [{<<\"l\">>,undefined}]",
    );
}

#[test]
fn a_callback_that_panics_is_found() {
    is_found(Defect::Panics, "l is too much");
}

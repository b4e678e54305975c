//! The engine of a `pg` scope: an update of a peer, own ones for so many peers, and what readers read.

use std::hint::black_box;

use data_publisher::engine::{Action, CallerId, Engine, EngineOptions, Input};
use data_publisher::pg::{Change, PgPublisher};
use data_publisher::term::{Pid, Term};
use data_publisher::wire::inbound::Incoming;
use data_publisher::{atom, map, tuple};
use divan::Bencher;

use super::{frame, group, inbound, peer, pid, update};

/// As many different groups as are taken in turns.
const GROUPS: u32 = 10_000;

/// An engine that knows so many peers, of version 1 and without members.
fn engine(peers: u32) -> Engine<PgPublisher> {
    let me = pid("r@127.0.0.1", 7);
    let mut engine = Engine::new(atom!("bench"), me, PgPublisher::new(), EngineOptions::default());
    let mut actions = Vec::new();
    for peer in (0..peers).map(peer) {
        engine.handle(Input::NodeUp(peer.node.clone()), &mut actions);
        let local_data = tuple![atom!("local_data"), &peer, 1, map! {}];
        let hello = tuple![atom!("discover"), &peer, 1];
        for message in [hello, tuple![atom!("$gen_cast"), local_data]] {
            let from = peer.node.clone();
            engine.handle(Input::Message { from, message }, &mut actions);
        }
    }
    assert!(engine.peers().filter(|peer| peer.synced).count() == peers as usize);
    engine
}

/// A member of a peer joins all groups, one after another, then leaves them.
fn updates(peer: &Pid) -> impl Iterator<Item = Term> {
    let member = [Pid { id: 1001, ..peer.clone() }];
    let joins = (0..GROUPS).map({
        let member = member.clone();
        move |number| update(peer, group(number), &member, &[])
    });
    joins.chain((0..GROUPS).map(move |number| update(peer, group(number), &[], &member)))
}

/// From a term.
#[divan::bench]
fn update_of_a_peer(bencher: Bencher<'_, '_>) {
    let (mut engine, peer, mut actions) = (engine(1), peer(0), Vec::new());
    let messages: Vec<_> = updates(&peer).collect();
    let mut messages = messages.iter().cycle();
    bencher.bench_local(|| {
        let message = messages.next().expect("it has no end").clone();
        engine.handle(Input::Message { from: peer.node.clone(), message }, &mut actions);
        assert!(actions.is_empty());
    });
}

/// From the bytes of a frame: all of P1 but the socket and the tasks.
#[divan::bench]
fn update_of_a_peer_from_bytes(bencher: Bencher<'_, '_>) {
    let (mut engine, peer, mut actions) = (engine(1), peer(0), Vec::new());
    let (mut inbound, frames) =
        (inbound(), updates(&peer).map(|message| frame(&peer, message)).collect::<Vec<_>>());
    let mut frames = frames.iter().cycle();
    bencher.bench_local(|| {
        let frame = frames.next().expect("it has no end");
        let Ok(Some(Incoming::Message(message))) = inbound.incoming(frame) else {
            panic!("it's a message")
        };
        let mut pieces = message.payload.pieces().expect("its first byte is 131");
        assert!(engine.handle_pieces(&peer.node, &mut pieces, &mut actions));
        assert!(actions.is_empty());
    });
}

/// A member of ours joins and leaves, and each peer is told: once a `Publish`, whatever their number.
#[divan::bench(args = [0, 1, 4, 16, 64])]
fn own_update(bencher: Bencher<'_, '_>, peers: u32) {
    let mut engine = engine(peers);
    let member = Pid { id: 1001, ..engine.me().clone() };
    let groups: Vec<Term> = (0..GROUPS).map(group).collect();
    let (mut groups, mut actions) = (groups.iter().cycle(), Vec::new());
    bencher.bench_local(|| {
        let group = groups.next().expect("it has no end");
        for change in
            [Change::join(group, [member.clone()]), Change::leave(group, [member.clone()])]
        {
            let input = Input::Update { update: vec![change], caller: CallerId(1) };
            engine.handle(input, &mut actions);
        }
        let told = actions.iter().filter(|action| matches!(action, Action::Publish { .. }));
        assert_eq!(told.count(), if peers > 0 { 2 } else { 0 });
        actions.clear();
    });
}

/// As `pg:get_members/2`, which crosses no task.
#[divan::bench(args = [1, 10, 100])]
fn get_members(bencher: Bencher<'_, '_>, members: u32) {
    let (mut engine, mut actions) = (engine(0), Vec::new());
    for number in 0..GROUPS / members {
        let pids = (0..members).map(|id| Pid { id: 1001 + id, ..engine.me().clone() });
        let update = vec![Change::join(&group(number), pids)];
        engine.handle(Input::Update { update, caller: CallerId(1) }, &mut actions);
    }
    let (readers, group) = (engine.publisher().members().clone(), group(0));
    bencher.bench(|| readers.get_members(black_box(&group)));
}

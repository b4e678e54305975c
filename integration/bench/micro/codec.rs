//! The 96 bytes of an update: to a term, to the publisher's type, and from a term.

use std::hint::black_box;

use data_publisher::engine::DataPublisher;
use data_publisher::pg::PgPublisher;
use data_publisher::term::{Pieces, Term};
use data_publisher::wire::{self, inbound::Incoming};
use divan::Bencher;

use super::{frame, group, inbound, pid, update};

fn term() -> Term {
    let (scope, member) = (pid("a@127.0.0.1", 92), pid("a@127.0.0.1", 1001));
    update(&scope, group(1), &[member], &[])
}

fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(&term(), &mut bytes).expect("it's no large one");
    assert_eq!(bytes.len(), 96);
    bytes
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let bytes = bytes();
    bencher.bench(|| wire::decode(black_box(&bytes)));
}

/// Without a term in between, as the scope reads it.
#[divan::bench]
fn decode_typed(bencher: Bencher<'_, '_>) {
    let (publisher, mut inbound) = (PgPublisher::new(), inbound());
    let frame = frame(&pid("a@127.0.0.1", 92), term());
    let Ok(Some(Incoming::Message(message))) = inbound.incoming(&frame) else {
        panic!("it's a message")
    };
    bencher.bench_local(|| {
        let mut pieces = message.payload.pieces().expect("its first byte is 131");
        let _ = black_box((pieces.tuple(), pieces.word("update"), pieces.pid()));
        publisher.take_update(&mut pieces).expect("nothing unusual")
    });
}

#[divan::bench]
fn decode_eetf(bencher: Bencher<'_, '_>) {
    let bytes = bytes();
    bencher.bench(|| eetf::Term::decode(black_box(&*bytes)));
}

#[divan::bench]
fn decode_erltf(bencher: Bencher<'_, '_>) {
    let bytes = bytes();
    bencher.bench(|| erltf::decode(black_box(&bytes)));
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (term, mut out) = (term(), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        wire::encode(black_box(&term), &mut out)
    });
}

#[divan::bench]
fn encode_eetf(bencher: Bencher<'_, '_>) {
    let term = eetf::Term::decode(&*bytes()).expect("it reads it, too");
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&term).encode(&mut out)
    });
}

#[divan::bench]
fn encode_erltf(bencher: Bencher<'_, '_>) {
    let term = erltf::decode(&bytes()).expect("it reads it, too");
    bencher.bench_local(|| erltf::encode(black_box(&term)));
}

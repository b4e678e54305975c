//! One update for many peers: encoded once, and a frame around it for each connection.

use data_publisher::wire::outbound::Order;
use data_publisher::wire::{self, Flags, Outbound, Target};
use divan::Bencher;
use divan::counter::ItemsCount;

use super::{group, peer, pid, update};

#[divan::bench(args = [1, 4, 16, 64])]
fn frames(bencher: Bencher<'_, '_>, peers: u32) {
    let (scope, member) = (pid("r@127.0.0.1", 7), pid("r@127.0.0.1", 1001));
    let message = update(&scope, group(1), &[member], &[]);
    let connection = |number| {
        (Outbound::new(Flags::OFFERED), Target::Pid(peer(number)), Vec::with_capacity(1 << 10))
    };
    let mut connections: Vec<_> = (0..peers).map(connection).collect();
    let mut encoded = Vec::new();
    bencher.counter(ItemsCount::new(peers)).bench_local(|| {
        encoded.clear();
        wire::encode(&message, &mut encoded).expect("it's no large one");
        for (outbound, to, out) in &mut connections {
            out.clear();
            let payload = &encoded[outbound.payload_start()..];
            let head = outbound.send_head(&scope, to, payload.len(), Order::Kept, out);
            head.expect("it's no large one");
            out.extend_from_slice(payload);
        }
    });
}

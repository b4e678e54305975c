//! A bag of pids, over its size.

use data_publisher::pg::Bag;
use divan::Bencher;

use super::pid;

const SIZES: [u32; 4] = [1, 10, 1_000, 100_000];

fn bag(size: u32) -> Bag {
    (0..size).map(|id| pid("a@127.0.0.1", id)).collect()
}

/// One leaves and comes back.
#[divan::bench(args = SIZES)]
fn leave_and_join(bencher: Bencher<'_, '_>, size: u32) {
    let mut bag = bag(size);
    let members: Vec<_> = bag.iter().cloned().collect();
    let mut next = 0;
    bencher.bench_local(|| {
        // A prime, so that it's each one's turn, in no order.
        next = (next + 7919) % members.len();
        assert!(bag.remove(&members[next]));
        bag.add(members[next].clone());
    });
}

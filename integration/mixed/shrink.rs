//! What is left of a sequence of operations that fails, when all is taken away that it doesn't need.
//!
//! What operations meet on the network isn't the same each time, so one that ends well has its chance three times.

use std::time::{Duration, Instant};

/// How often a shorter sequence may end well before it counts as one that does.
const TRIES: usize = 3;

/// So long others are tried; what is left by then is told.
const PATIENCE: Duration = Duration::from_secs(180);

/// Tries to do with less. `fails` has a sequence happen.
pub(super) async fn shrunk<T: Clone>(
    mut plan: Vec<T>,
    mut fails: impl AsyncFnMut(&[T]) -> bool,
) -> Vec<T> {
    let end = Instant::now() + PATIENCE;
    let mut size = plan.len().div_ceil(2);
    while size > 0 {
        let (before, mut start) = (plan.len(), 0);
        while start < plan.len() {
            let mut shorter = plan.clone();
            shorter.drain(start..(start + size).min(plan.len()));
            let mut is_enough = false;
            for _ in 0..TRIES {
                if Instant::now() >= end {
                    return plan;
                }
                is_enough = fails(&shorter).await;
                if is_enough {
                    break;
                }
            }
            if is_enough {
                plan = shorter;
            } else {
                start += size;
            }
        }
        if plan.len() == before || size > 1 {
            size /= 2;
        }
    }
    plan
}

#[tokio::test]
async fn what_is_left_is_what_it_takes_to_fail_now_and_then() {
    let mut times = 0;
    let fails = async |plan: &[u32]| {
        times += 1;
        // Two operations, and even those only every other time.
        [17, 42].iter().all(|op| plan.contains(op)) && times % 2 == 0
    };
    assert_eq!(shrunk((0..200).collect(), fails).await, [17, 42]);
}

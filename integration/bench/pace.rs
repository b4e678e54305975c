//! Joins and leaves at a steady pace, how long each took, and how long they were under way.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_publisher::node::Process;
use data_publisher::pg::{Event, Pg};
use data_publisher::rpc::Exception;
use data_publisher::term::Term;
use data_publisher::{Node, atom, tuple};
use tokio::time::MissedTickBehavior;

use crate::clock;

/// Nanoseconds, of which percentiles are asked.
type Times = Arc<Mutex<Vec<u64>>>;

/// Allows:
///
/// - `dp_bench:paced(bench, Rate, Milliseconds)`: a process joins a group named by the time at which it does,
///   and leaves it, so that there are `Rate` of both in a second; `{Count, P50, P99, Longest}` of how long each
///   took.
/// - `dp_bench:watch(bench)`, and `dp_bench:watched(bench)`: the same of how long joins of others were under way
///   since.
pub(crate) fn allow(node: &Node, pg: &Pg, member: &Arc<Process>) {
    let (rpc, module) = (node.rpc(), || atom!("dp_bench"));
    let (scope, process) = (pg.clone(), member.clone());
    rpc.allow(module(), atom!("paced"), 3, move |arguments| {
        let (pg, member) = (scope.clone(), process.clone());
        async move {
            let (rate, millis) = (arguments[1].integer()?, arguments[2].integer()?);
            let (rate, millis) = (rate.unsigned_abs() as usize, millis.unsigned_abs());
            let times = paced(&pg, &member, rate, millis).await;
            let times =
                times.map_err(|error| Exception::error(Term::binary_of(error.to_string())))?;
            Ok(percentiles(times))
        }
    });
    let times = Times::default();
    let (scope, seen) = (pg.clone(), times.clone());
    rpc.allow(module(), atom!("watch"), 1, move |_| {
        let (pg, times) = (scope.clone(), seen.clone());
        async move {
            let monitor = pg.monitor_scope().await;
            let (_, mut events) = monitor.map_err(|_| Exception::error(atom!("stopped")))?;
            // Ends with the scope.
            tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    if let Event::Join { group: Term::Integer(stamp), .. } = event {
                        let delay = clock::now().saturating_sub(stamp).max(0).cast_unsigned();
                        times.lock().unwrap_or_else(PoisonError::into_inner).push(delay);
                    }
                }
            });
            Ok(atom!("ok").into())
        }
    });
    rpc.allow(module(), atom!("watched"), 1, move |_| {
        let times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
        async move { Ok(percentiles(times)) }
    });
}

async fn paced(
    pg: &Pg,
    member: &Process,
    rate: usize,
    millis: u64,
) -> Result<Vec<u64>, data_publisher::pg::JoinError> {
    let (mut times, start) = (Vec::new(), Instant::now());
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Duration::from_millis(millis);
    let mut last = 0;
    while start.elapsed() < end {
        tick.tick().await;
        // What is due by now, whatever ticks came late.
        let due = start.elapsed().min(end).as_micros() as usize * rate / 1_000_000;
        while times.len() < due {
            // Two joins in one nanosecond would be one group.
            last = clock::now().max(last + 1);
            let before = Instant::now();
            pg.join(last, member.pid()).await?;
            times.push(before.elapsed().as_nanos() as u64);
            let before = Instant::now();
            pg.leave(last, member.pid()).await?;
            times.push(before.elapsed().as_nanos() as u64);
        }
    }
    Ok(times)
}

/// `{Count, P50, P99, Longest}`
fn percentiles(mut times: Vec<u64>) -> Term {
    times.sort_unstable();
    let at = |percent| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    tuple![times.len() as u64, at(50), at(99), times.last().copied().unwrap_or_default()]
}

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

/// How many times were how long: sixteen steps from each power of two nanoseconds to the next. It takes the same
/// memory however many there are.
struct Histogram {
    steps: [u64; 64 << STEPS],
    longest: u64,
}

/// Of sixteen steps, in bits.
const STEPS: u32 = 4;

impl Histogram {
    const EMPTY: Self = Self { steps: [0; 64 << STEPS], longest: 0 };

    fn add(&mut self, nanos: u64) {
        let exponent = nanos.checked_ilog2().unwrap_or_default().max(STEPS);
        let step = nanos >> (exponent - STEPS) & ((1 << STEPS) - 1);
        self.steps[((exponent << STEPS) + step as u32) as usize] += 1;
        self.longest = self.longest.max(nanos);
    }

    /// The least that so many of a hundred don't exceed, up to a step.
    fn percentile(&self, percent: u64) -> u64 {
        let mut left = self.count() * percent / 100;
        for (place, count) in self.steps.iter().enumerate() {
            if left < *count {
                let (exponent, step) = (place as u32 >> STEPS, place as u64 & ((1 << STEPS) - 1));
                return ((1 << STEPS) + step + 1) << (exponent - STEPS.min(exponent));
            }
            left -= count;
        }
        0
    }

    fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// `{Count, P50, P99, Longest}`
    fn term(&self) -> Term {
        tuple![self.count(), self.percentile(50), self.percentile(99), self.longest]
    }
}

type Times = Arc<Mutex<Histogram>>;

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
            Ok(times.term())
        }
    });
    let times = Times::new(Mutex::new(Histogram::EMPTY));
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
                        times.lock().unwrap_or_else(PoisonError::into_inner).add(delay);
                    }
                }
            });
            Ok(atom!("ok").into())
        }
    });
    rpc.allow(module(), atom!("watched"), 1, move |_| {
        let seen = times.lock().unwrap_or_else(PoisonError::into_inner).term();
        async move { Ok(seen) }
    });
}

async fn paced(
    pg: &Pg,
    member: &Process,
    rate: usize,
    millis: u64,
) -> Result<Box<Histogram>, data_publisher::pg::JoinError> {
    let (mut times, start) = (Box::new(Histogram::EMPTY), Instant::now());
    let mut done = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = Duration::from_millis(millis);
    let mut last = 0;
    while start.elapsed() < end {
        tick.tick().await;
        // What is due by now, whatever ticks came late.
        let due = start.elapsed().min(end).as_micros() as usize * rate / 1_000_000;
        while done < due {
            // Two joins in one nanosecond would be one group.
            last = clock::now().max(last + 1);
            let before = Instant::now();
            pg.join(last, member.pid()).await?;
            times.add(before.elapsed().as_nanos() as u64);
            let before = Instant::now();
            pg.leave(last, member.pid()).await?;
            times.add(before.elapsed().as_nanos() as u64);
            done += 2;
        }
    }
    Ok(times)
}

//! Rates: what changed from one second to the next, and the last two minutes of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use data_publisher::node::NodeStats;
use data_publisher::scope::ScopeStats;
use data_publisher::term::NodeName;

/// Samples that are kept, one a second.
pub(crate) const KEPT: usize = 120;

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// Bytes a second from all nodes, and to them.
    pub(crate) bytes_in: f64,
    pub(crate) bytes_out: f64,
    /// Updates a second of peers, and of our own.
    pub(crate) updates_in: f64,
    pub(crate) updates_out: f64,
    /// Bytes in all queues.
    pub(crate) queued_bytes: usize,
    /// The longest and the middle one of the last round trips to each node.
    pub(crate) slowest: Option<Duration>,
    pub(crate) median: Option<Duration>,
}

/// Bytes a second over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) bytes_in: f64,
    pub(crate) bytes_out: f64,
}

/// What was counted the last time, and what came of it.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<Counts>,
    pub(super) samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Counts {
    at: Instant,
    bytes: BTreeMap<NodeName, (u64, u64)>,
    updates: (u64, u64),
}

impl History {
    /// Takes the next sample; the rates of each connection. A connection that is new, or another than last time, counts
    /// from zero.
    pub(super) fn take(
        &mut self,
        at: Instant,
        node: &NodeStats,
        scope: Option<&ScopeStats>,
        mut round_trips: Vec<Duration>,
    ) -> BTreeMap<NodeName, Rates> {
        let bytes: BTreeMap<_, _> = node
            .connections
            .iter()
            .map(|up| (up.node.clone(), (up.received.bytes, up.sent.bytes)))
            .collect();
        let before = self.last.take();
        let updates = match (scope, &before) {
            (Some(scope), _) => (scope.exchanged.updates_in, scope.exchanged.updates_out),
            // Unknown: nothing has changed.
            (None, Some(before)) => before.updates,
            (None, None) => (0, 0),
        };
        let now = Counts { at, bytes, updates };
        let mut rates = BTreeMap::new();
        let mut sample = Sample { queued_bytes: node.queued_bytes, ..Sample::default() };
        if let Some(before) = before {
            let seconds = at.duration_since(before.at).as_secs_f64().max(0.001);
            let per_second = |now, before| since(now, before) as f64 / seconds;
            for (node, (received, sent)) in &now.bytes {
                let (r, s) = before.bytes.get(node).copied().unwrap_or_default();
                let rate =
                    Rates { bytes_in: per_second(*received, r), bytes_out: per_second(*sent, s) };
                sample.bytes_in += rate.bytes_in;
                sample.bytes_out += rate.bytes_out;
                rates.insert(node.clone(), rate);
            }
            sample.updates_in = per_second(now.updates.0, before.updates.0);
            sample.updates_out = per_second(now.updates.1, before.updates.1);
        }
        round_trips.sort_unstable();
        sample.slowest = round_trips.last().copied();
        sample.median = round_trips.get(round_trips.len() / 2).copied();
        self.last = Some(now);
        self.samples.push_back(sample);
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
        rates
    }
}

/// How much a counter has grown. One that is smaller than before has started anew.
fn since(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_starts_anew_counts_from_zero() {
        assert_eq!(since(7, 5), 2);
        assert_eq!(since(3, 5), 3);
    }
}

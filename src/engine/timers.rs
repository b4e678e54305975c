//! What the engine means to do later.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::{Action, TimerId};
use super::publisher::DataPublisher;
use crate::term::{NodeName, Pid};

/// A node without a known peer is greeted again after 1, 2, 4 ... 30 s.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) attempt: u32,
    pub(super) timer: TimerId,
}

#[derive(Debug)]
pub(super) enum Due {
    /// Greet this node by name.
    Greet(NodeName),
    /// Ask this peer for its data, if it's still missing.
    Retry(Pid),
    /// Send this peer our data, if it still hasn't asked.
    Answer(Pid),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    pub(super) running: BTreeMap<TimerId, Due>,
    used: u64,
}

impl Timers {
    /// Nothing is to happen any more. Whoever keeps the clock isn't told, and fires in vain.
    pub(super) fn stop(&mut self, timer: Option<TimerId>) {
        if let Some(timer) = timer {
            self.running.remove(&timer);
        }
    }

    pub(super) fn is_running(&self, timer: TimerId) -> bool {
        self.running.contains_key(&timer)
    }

    pub(super) fn start<P: DataPublisher>(
        &mut self,
        delay: Duration,
        due: Due,
        actions: &mut Vec<Action<P>>,
    ) -> TimerId {
        self.used += 1;
        let timer = TimerId(self.used);
        self.running.insert(timer, due);
        actions.push(Action::After { delay, timer });
        timer
    }
}

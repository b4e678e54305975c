//! The processes that joined through this node, and the groups each of them is in.
//!
//! Those are asked for once, when a process ends. Until then they're only added to, and so a process has a log of
//! what it joined and left, without an index of the names; when most of the log is about what it has left again,
//! it's made anew.

use hashbrown::HashMap;

use super::members::{ByName, Name, Secret};
use crate::engine::MonitorId;
use crate::term::{Pid, Term};

/// A log up to so long is left as it is.
const SHORT: usize = 16;

/// The processes, each with the monitor that watches it.
#[derive(Debug, Default)]
pub(super) struct Watched(HashMap<Pid, Log, Secret>);

impl Watched {
    /// A process joins a group; `monitor` starts to watch one that is in no other.
    pub(super) fn join(&mut self, pid: &Pid, group: &Term, monitor: impl FnOnce() -> MonitorId) {
        let log = self.0.entry(pid.clone()).or_insert_with(|| Log::new(monitor()));
        log.joined += 1;
        log.add(group, Step::Joined);
    }

    /// A process leaves a group it's in. Gives the monitor that has nothing to watch any more.
    pub(super) fn leave(&mut self, pid: &Pid, group: &Term) -> Option<MonitorId> {
        let log = self.0.get_mut(pid)?;
        log.joined -= 1;
        if log.joined == 0 {
            return self.0.remove(pid).map(|log| log.monitor);
        }
        log.add(group, Step::Left);
        None
    }

    /// The groups a process is in that this monitor watches, and how often in each; in term order.
    pub(super) fn groups(&self, pid: &Pid, monitor: MonitorId) -> Option<Vec<(Term, usize)>> {
        let log = self.0.get(pid).filter(|log| log.monitor == monitor)?;
        let counts = log.counts();
        let mut groups: Vec<_> =
            counts.iter().map(|(name, count)| (name.term().clone(), *count)).collect();
        groups.retain(|(_, count)| *count > 0);
        groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(groups)
    }
}

#[derive(Debug)]
struct Log {
    monitor: MonitorId,
    /// How often it's in any group.
    joined: usize,
    steps: Vec<(Term, Step)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Joined,
    Left,
}

impl Log {
    fn new(monitor: MonitorId) -> Self {
        Self { monitor, joined: 0, steps: Vec::new() }
    }

    /// A step that `joined` has in it already.
    fn add(&mut self, group: &Term, step: Step) {
        if self.steps.len() >= 2 * self.joined + SHORT {
            let counts = self.counts();
            let all = counts.iter().flat_map(|(name, count)| {
                std::iter::repeat_n((name.term().clone(), Step::Joined), *count)
            });
            self.steps = all.collect();
        }
        self.steps.push((group.clone(), step));
    }

    /// How often it's in each group, as far as the log goes.
    fn counts(&self) -> ByName<usize> {
        let mut counts = ByName::default();
        for (group, step) in &self.steps {
            let name = Name::of(group);
            let place = counts.find_name(&name).unwrap_or_else(|| {
                counts.add(name, 0);
                counts.len() - 1
            });
            match step {
                Step::Joined => *counts.at_mut(place) += 1,
                Step::Left => *counts.at_mut(place) -= 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONITOR: MonitorId = MonitorId(7);

    proptest! {
        #[test]
        fn a_log_tells_what_a_model_tells_and_is_no_longer_than_twice_that(
            steps in proptest::collection::vec((0..20_i64, any::<bool>()), 0..400),
        ) {
            let (mut watched, mut model) = (Watched::default(), std::collections::BTreeMap::new());
            let node = crate::term::NodeName::new("a@h").unwrap();
            let pid = Pid { node, id: 1, serial: 0, creation: crate::term::Creation(1) };
            for (number, joins) in steps {
                let group = Term::from(number);
                if joins {
                    watched.join(&pid, &group, || MONITOR);
                    *model.entry(group).or_insert(0) += 1;
                } else if let Some(count) = model.get_mut(&group) {
                    *count -= 1;
                    if *count == 0 {
                        model.remove(&group);
                    }
                    let unwatched = watched.leave(&pid, &group);
                    prop_assert_eq!(unwatched, model.is_empty().then_some(MONITOR));
                }
                let expected: Vec<_> = model.iter().map(|(group, count)| (group.clone(), *count)).collect();
                let seen = watched.groups(&pid, MONITOR);
                prop_assert_eq!(seen, (!expected.is_empty()).then_some(expected));
                prop_assert_eq!(watched.groups(&pid, MonitorId(8)), None);
                let (joined, steps) = watched.0.get(&pid).map_or((0, 0), |log| (log.joined, log.steps.len()));
                prop_assert!(steps <= 2 * joined + SHORT + 2, "{steps} for {joined}");
            }
        }
    }
}

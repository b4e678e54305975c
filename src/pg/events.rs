//! What [`Pg::monitor`](super::Pg::monitor) gives: every change, none twice, none left out.
//!
//! A subscriber that falls far behind gets a fresh snapshot from the scope; here it's turned into the
//! changes that lead to it, so that whoever adds up the events always arrives at the truth.

use std::collections::VecDeque;

use super::members::Groups;
use super::publisher::{Event, Initial, PgPublisher};
use crate::engine::DataPublisher as _;
use crate::scope::{self, Notice};
use crate::term::Term;

/// The changes of a group or a scope; a stream that ends with the scope. Dropping it ends the
/// monitoring.
#[derive(Debug)]
pub struct Events {
    changes: scope::Subscription<PgPublisher>,
    /// The group that is monitored, if it's one.
    group: Option<Term>,
    /// What the subscriber has been told so far.
    told: Groups,
    /// What it's still to be told after a fresh snapshot.
    due: VecDeque<Event>,
}

impl Events {
    pub(super) fn new(
        initial: &Initial,
        group: Option<Term>,
        changes: scope::Subscription<PgPublisher>,
    ) -> Self {
        let told = groups(initial, group.as_ref());
        Self { changes, group, told, due: VecDeque::new() }
    }

    /// The next change; `None` when the scope has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        futures::StreamExt::next(self).await
    }

    fn tell(&mut self, event: Event) -> Event {
        match &event {
            Event::Join { group, pids } => {
                pids.iter().for_each(|pid| self.told.add(group, pid.clone()));
            }
            Event::Leave { group, pids } => pids.iter().for_each(|pid| {
                self.told.remove(group, pid);
            }),
        }
        event
    }

    fn catch_up(&mut self, initial: &Initial) {
        let now = groups(initial, self.group.as_ref());
        let changes = PgPublisher::new().data_diff(&self.told, &now).unwrap_or_default();
        for change in changes {
            let group = change.group;
            if !change.remove.is_empty() {
                self.due.push_back(Event::Leave { group: group.clone(), pids: change.remove });
            }
            if !change.add.is_empty() {
                self.due.push_back(Event::Join { group, pids: change.add });
            }
        }
    }
}

impl futures::Stream for Events {
    type Item = Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Some(self.tell(event)).into();
            }
            let changes = std::pin::Pin::new(&mut self.changes);
            match std::task::ready!(changes.poll_next(context)) {
                Some(Notice::Event(event)) => return Some(self.tell(event)).into(),
                Some(Notice::Lagged(initial)) => self.catch_up(&initial),
                None => return None.into(),
            }
        }
    }
}

fn groups(initial: &Initial, group: Option<&Term>) -> Groups {
    let mut groups = Groups::default();
    match (initial, group) {
        (Initial::Scope(all), _) => {
            for (group, pids) in all {
                pids.iter().for_each(|pid| groups.add(group, pid.clone()));
            }
        }
        (Initial::Group(pids), Some(group)) => {
            pids.iter().for_each(|pid| groups.add(group, pid.clone()));
        }
        (Initial::Group(_), None) => {}
    }
    groups
}

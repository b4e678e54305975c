//! Links: pairs of processes that end together, one side of each ours.
//!
//! Taking a link to another node back needs an answer (`UNLINK_ID`, `UNLINK_ID_ACK`): until it is
//! here, an exit signal of that link may be on its way and must not count. Source: *Distribution
//! Protocol*, section "Link Protocol".
//!
//! As with monitors, nothing is sent under the lock.

use std::collections::hash_map::Entry;
use std::sync::Mutex;

use rustc_hash::FxHashMap;

use super::connection::ConnectionId;
use crate::term::Pid;

/// All links of a node's processes: ours, then the other end.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_pid: FxHashMap<Pid, FxHashMap<Pid, Link>>,
    /// How many links go over each connection.
    counts: FxHashMap<ConnectionId, usize>,
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The connection it goes over; `None` between processes of this node.
    over: Option<ConnectionId>,
    /// Taken back by us under this id and not yet acknowledged: exit signals don't count.
    unlinking: Option<u64>,
}

impl Links {
    /// We link `ours` to `other`; `false` if they were linked already. A link that is being taken back
    /// is one again: what the other end acknowledges of that is of no account.
    pub(crate) fn link(&self, ours: &Pid, other: &Pid, over: Option<ConnectionId>) -> bool {
        let mut tables = self.tables();
        let before = tables.take(ours, other);
        let link = Link { over, unlinking: None };
        tables.by_pid.entry(ours.clone()).or_default().insert(other.clone(), link);
        if let Some(connection) = over {
            *tables.counts.entry(connection).or_default() += 1;
        }
        before.is_none_or(|link| link.unlinking.is_some())
    }

    /// The other end links itself to `ours`. Nothing changes if there's a link, nor if we are taking it
    /// back: the other end hasn't heard of that yet, and takes back this one when it does.
    pub(crate) fn link_by_peer(&self, ours: &Pid, other: &Pid, over: ConnectionId) {
        let mut tables = self.tables();
        let links = tables.by_pid.entry(ours.clone()).or_default();
        if let Entry::Vacant(free) = links.entry(other.clone()) {
            free.insert(Link { over: Some(over), unlinking: None });
            *tables.counts.entry(over).or_default() += 1;
        }
    }

    /// The other end takes a link back, as was said over this connection. If we are taking it back, too,
    /// that goes on until it's acknowledged.
    pub(crate) fn unlink_by_peer(&self, ours: &Pid, other: &Pid, over: ConnectionId) {
        let mut tables = self.tables();
        let link = tables.by_pid.get(ours).and_then(|links| links.get(other));
        if link.is_some_and(|link| link.over == Some(over) && link.unlinking.is_none()) {
            tables.take(ours, other);
        }
    }

    /// How many links go over a connection.
    pub(crate) fn count(&self, connection: ConnectionId) -> usize {
        self.tables().counts.get(&connection).copied().unwrap_or_default()
    }

    /// Takes back a link between processes of this node, or one that the other end took back over
    /// the connection it goes over. `true` if there was such a link.
    pub(crate) fn remove(&self, ours: &Pid, other: &Pid, over: Option<ConnectionId>) -> bool {
        self.tables().take_over(ours, other, over).is_some()
    }

    /// Takes back a link to another node; the id must be acknowledged. Returns the connection to
    /// say so over; `None` if there is no such link.
    pub(crate) fn start_unlink(&self, ours: &Pid, other: &Pid, id: u64) -> Option<ConnectionId> {
        let mut tables = self.tables();
        let link = tables.by_pid.get_mut(ours)?.get_mut(other)?;
        if link.unlinking.is_some() {
            return None;
        }
        link.unlinking = Some(id);
        link.over
    }

    /// The other node has acknowledged that a link is gone.
    pub(crate) fn unlink_acknowledged(&self, ours: &Pid, other: &Pid, id: u64) {
        let mut tables = self.tables();
        let link = tables.by_pid.get(ours).and_then(|links| links.get(other));
        if link.is_some_and(|link| link.unlinking == Some(id)) {
            tables.take(ours, other);
        }
    }

    /// The other end of a link ended, as was said over this connection. `true` if that concerns our
    /// end.
    pub(crate) fn broken(&self, ours: &Pid, other: &Pid, over: Option<ConnectionId>) -> bool {
        let taken = self.tables().take_over(ours, other, over);
        taken.is_some_and(|link| link.unlinking.is_none())
    }

    /// One of our processes has ended: the other ends of its links, each owed an exit signal over
    /// the connection of the link.
    pub(crate) fn process_ended(&self, pid: &Pid) -> Vec<(Pid, Option<ConnectionId>)> {
        let mut tables = self.tables();
        let links = tables.by_pid.remove(pid).unwrap_or_default();
        for link in links.values() {
            tables.uncount(*link);
        }
        let mut others: Vec<_> = (links.into_iter())
            .filter(|(_, link)| link.unlinking.is_none())
            .map(|(other, link)| (other, link.over))
            .collect();
        others.sort_unstable();
        others
    }

    /// A connection has closed: the links that went over it, ours and the other end.
    pub(crate) fn connection_closed(&self, connection: ConnectionId) -> Vec<(Pid, Pid)> {
        let mut broken = Vec::new();
        let mut tables = self.tables();
        tables.by_pid.retain(|ours, links| {
            links.retain(|other, link| {
                let lost = link.over == Some(connection);
                if lost && link.unlinking.is_none() {
                    broken.push((ours.clone(), other.clone()));
                }
                !lost
            });
            !links.is_empty()
        });
        tables.counts.remove(&connection);
        broken.sort_unstable();
        broken
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Tables {
    /// Only a link that goes over this very connection: nobody ends another node's links, nor a
    /// connection of the past those of the present.
    fn take_over(&mut self, ours: &Pid, other: &Pid, over: Option<ConnectionId>) -> Option<Link> {
        let link = self.by_pid.get(ours)?.get(other)?;
        if link.over == over { self.take(ours, other) } else { None }
    }

    fn take(&mut self, ours: &Pid, other: &Pid) -> Option<Link> {
        let links = self.by_pid.get_mut(ours)?;
        let link = links.remove(other)?;
        if links.is_empty() {
            self.by_pid.remove(ours);
        }
        self.uncount(link);
        Some(link)
    }

    fn uncount(&mut self, link: Link) {
        if let Some(Entry::Occupied(mut count)) = link.over.map(|over| self.counts.entry(over)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::{Creation, NodeName};

    fn pid(id: u32) -> Pid {
        Pid { node: NodeName::new("a@b").unwrap(), id, serial: 0, creation: Creation(9) }
    }

    #[test]
    fn an_exit_signal_after_unlink_does_not_count() {
        let links = Links::default();
        links.link(&pid(1), &pid(2), None);
        links.start_unlink(&pid(1), &pid(2), 7);
        assert!(!links.broken(&pid(1), &pid(2), None));
    }

    #[test]
    fn an_acknowledgement_of_an_older_unlink_changes_nothing() {
        let links = Links::default();
        links.link(&pid(1), &pid(2), None);
        links.start_unlink(&pid(1), &pid(2), 7);
        links.link(&pid(1), &pid(2), None);
        links.unlink_acknowledged(&pid(1), &pid(2), 7);
        assert!(links.broken(&pid(1), &pid(2), None));
    }

    #[test]
    fn a_link_of_the_peer_does_not_bring_back_what_we_are_taking_back() {
        let links = Links::default();
        let over = ConnectionId(1);
        links.link(&pid(1), &pid(2), Some(over));
        links.start_unlink(&pid(1), &pid(2), 7);
        // Both are sent before the peer has heard of our unlink.
        links.unlink_by_peer(&pid(1), &pid(2), over);
        links.link_by_peer(&pid(1), &pid(2), over);
        assert_eq!(links.start_unlink(&pid(1), &pid(2), 8), None, "it's a link again");
        assert_eq!(links.connection_closed(over), []);

        links.link(&pid(1), &pid(2), Some(over));
        links.start_unlink(&pid(1), &pid(2), 9);
        links.link_by_peer(&pid(1), &pid(2), over);
        links.unlink_acknowledged(&pid(1), &pid(2), 9);
        assert_eq!(links.count(over), 0);
        links.link_by_peer(&pid(1), &pid(2), over);
        links.link_by_peer(&pid(1), &pid(2), over);
        assert_eq!(links.count(over), 1);
        assert!(links.broken(&pid(1), &pid(2), Some(over)));
    }

    #[test]
    fn a_link_ends_only_over_the_connection_it_goes_over() {
        let links = Links::default();
        let (over, other) = (Some(ConnectionId(2)), Some(ConnectionId(1)));
        links.link(&pid(1), &pid(2), over);
        assert!(!links.broken(&pid(1), &pid(2), other));
        assert!(!links.remove(&pid(1), &pid(2), other));
        assert!(links.broken(&pid(1), &pid(2), over));
    }

    #[test]
    fn a_closed_connection_breaks_only_its_links() {
        let links = Links::default();
        links.link(&pid(1), &pid(2), Some(ConnectionId(1)));
        links.link(&pid(1), &pid(3), Some(ConnectionId(2)));
        assert_eq!(links.connection_closed(ConnectionId(1)), [(pid(1), pid(2))]);
        assert!(links.broken(&pid(1), &pid(3), Some(ConnectionId(2))));
    }
}

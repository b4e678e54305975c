//! Allocation of pids and references: never the same one twice in one start of a node.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::term::{Creation, NodeName, Pid, Reference};

/// Where new pids and references come from.
#[derive(Debug)]
pub(crate) struct Ids {
    node: NodeName,
    creation: Creation,
    next_pid: AtomicU64,
    next_reference: AtomicU64,
}

impl Ids {
    /// Ids of one start of a node.
    pub(crate) fn new(node: NodeName, creation: Creation) -> Self {
        // References start anywhere, so that one of an earlier start is never taken for ours even
        // by a peer that ignores creations.
        let first_reference = u64::from(rand::random::<u32>()) << 18;
        Self {
            node,
            creation,
            next_pid: AtomicU64::new(1),
            next_reference: AtomicU64::new(first_reference),
        }
    }

    /// A creation no earlier start had, as far as chance goes; above 3, which old nodes used.
    pub(crate) fn new_creation() -> Creation {
        Creation(rand::random::<u32>().max(4))
    }

    pub(crate) fn creation(&self) -> Creation {
        self.creation
    }

    pub(crate) fn pid(&self) -> Pid {
        let number = self.next_pid.fetch_add(1, Ordering::Relaxed);
        Pid {
            node: self.node.clone(),
            // 28 bits, so that it stays readable as `<node.id.serial>` and legal everywhere.
            id: (number & 0x0fff_ffff) as u32,
            serial: (number >> 28) as u32,
            creation: self.creation,
        }
    }

    pub(crate) fn reference(&self) -> Reference {
        let number = self.next_reference.fetch_add(1, Ordering::Relaxed);
        // The first word of a reference has 18 bits on the BEAM.
        let words = [(number & 0x3_ffff) as u32, (number >> 18) as u32, (number >> 50) as u32];
        Reference::new(self.node.clone(), self.creation, &words).expect("three words")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_start_differ() {
        let ids = Ids::new(NodeName::new("a@b").unwrap(), Ids::new_creation());
        assert_ne!(ids.pid(), ids.pid());
        assert_ne!(ids.reference(), ids.reference());
        assert!(ids.creation().0 >= 4);
    }
}

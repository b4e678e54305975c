//! The nodes that are looked for and aren't connected, for those who wait for them.
//!
//! The search for nodes writes it after each step; nothing here decides whom to dial, or when.

use std::sync::Mutex;
use std::time::Instant;

use super::ConnectError;
use crate::term::NodeName;

/// A node that is looked for: a seed, one that was connected, or one that another node or a source has named.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sought {
    /// The node.
    pub node: NodeName,
    /// Whether it's a seed, which is never given up.
    pub seed: bool,
    /// Why it couldn't be reached the last time; `None` when it hasn't been tried in vain since it was
    /// connected last.
    pub last: Option<ConnectError>,
    /// When it is dialled next; `None` while it is being dialled.
    pub next: Option<Instant>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct AllSought(Mutex<Vec<Sought>>);

impl AllSought {
    pub(crate) fn set(&self, all: Vec<Sought>) {
        *self.0.lock().expect("no panic under this lock") = all;
    }

    pub(crate) fn get(&self) -> Vec<Sought> {
        self.0.lock().expect("no panic under this lock").clone()
    }
}

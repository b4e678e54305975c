//! Registered names: an atom for a process of this node.

use std::collections::hash_map::Entry;
use std::sync::RwLock;

use rustc_hash::FxHashMap;

use crate::term::{Atom, Pid};

/// The names of a node's processes, each process under any number of them.
#[derive(Debug, Default)]
pub(crate) struct Registry(RwLock<FxHashMap<Atom, Pid>>);

/// A name couldn't be registered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another process has the name; a name has one process.
    #[error("the name {name} is taken by {holder}")]
    Taken {
        /// The name.
        name: Atom,
        /// Who has it.
        holder: Pid,
    },
    /// The process has ended or lives on another node.
    #[error("{pid} is no living process of this node")]
    NoProcess {
        /// The process.
        pid: Pid,
    },
}

impl Registry {
    pub(crate) fn register(&self, name: &Atom, pid: &Pid) -> Result<(), RegisterError> {
        match self.0.write().expect("no panic under this lock").entry(name.clone()) {
            Entry::Occupied(held) => {
                Err(RegisterError::Taken { name: name.clone(), holder: held.get().clone() })
            }
            Entry::Vacant(free) => {
                free.insert(pid.clone());
                Ok(())
            }
        }
    }

    pub(crate) fn unregister(&self, name: &Atom) -> bool {
        self.0.write().expect("no panic under this lock").remove(name).is_some()
    }

    pub(crate) fn whereis(&self, name: &Atom) -> Option<Pid> {
        self.0.read().expect("no panic under this lock").get(name).cloned()
    }

    /// Forgets the names of a process that ended.
    pub(crate) fn forget(&self, pid: &Pid) {
        self.0.write().expect("no panic under this lock").retain(|_, holder| holder != pid);
    }
}

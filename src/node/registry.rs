//! Registered names: an atom for a process of this node. And what each who had a name left to the
//! next.

use std::any::Any;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, RwLock};

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::term::{Atom, Pid};

/// The names of a node's processes, each process under any number of them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: RwLock<FxHashMap<Atom, Pid>>,
    legacies: Mutex<FxHashMap<Atom, Leaving>>,
    slots: Mutex<FxHashMap<Atom, Arc<dyn Any + Send + Sync>>>,
}

/// What one who had a name leaves to the next. As many are kept as names were ever used by scopes.
pub(crate) type Legacy = Box<dyn Any + Send>;

/// Who had a name, and where it puts what it leaves.
pub(crate) type Leaving = (Pid, oneshot::Receiver<Legacy>);

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
    /// The name is kept for something else: `pg` dies, on every release, of what other publishers say
    /// to whoever has that name.
    #[error("the name {name} is kept for scopes of pg, which die of what others say")]
    Reserved {
        /// The name.
        name: Atom,
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
        match self.names.write().expect("no panic under this lock").entry(name.clone()) {
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
        self.names.write().expect("no panic under this lock").remove(name).is_some()
    }

    pub(crate) fn whereis(&self, name: &Atom) -> Option<Pid> {
        self.names.read().expect("no panic under this lock").get(name).cloned()
    }

    /// Forgets the names of a process that ended.
    pub(crate) fn forget(&self, pid: &Pid) {
        self.names.write().expect("no panic under this lock").retain(|_, holder| holder != pid);
    }

    /// For who has just got a name: the one before and where it puts what it leaves, which may be still
    /// to come, and where this one will put its own.
    pub(crate) fn succeed(
        &self,
        name: &Atom,
        pid: &Pid,
    ) -> (Option<Leaving>, oneshot::Sender<Legacy>) {
        let (sender, receiver) = oneshot::channel();
        let mut legacies = self.legacies.lock().expect("no panic under this lock");
        (legacies.insert(name.clone(), (pid.clone(), receiver)), sender)
    }

    /// A place for what those who share a name on this node have in common, empty at first; it's there
    /// for as long as the node. For each name always of one type.
    pub(crate) fn slot<T: Any + Default + Send + Sync>(&self, name: &Atom) -> Arc<T> {
        let mut slots = self.slots.lock().expect("no panic under this lock");
        let slot = slots.entry(name.clone()).or_insert_with(|| Arc::<T>::default()).clone();
        drop(slots);
        slot.downcast().expect("a name's slot has one type")
    }
}

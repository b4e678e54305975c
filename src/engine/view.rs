//! The view as its readers share it.

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A handle to an engine's view, cheap to clone. A read crosses no task.
///
/// The engine writes to the view while a callback that gets it runs, and at no other time; a reader
/// that holds it keeps the engine waiting.
#[derive(Debug)]
pub struct SharedView<V>(Arc<RwLock<Option<V>>>);

impl<V> SharedView<V> {
    pub(super) fn new(view: V) -> Self {
        Self(Arc::new(RwLock::new(Some(view))))
    }

    /// The view as it is now; `None` when its engine has ended, or a callback has panicked on it.
    pub fn read(&self) -> Option<ViewGuard<'_, V>> {
        let view = self.0.read().ok()?;
        view.is_some().then_some(ViewGuard(view))
    }

    /// Takes the view from its readers.
    pub fn take(&self) -> Option<V> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut V) -> R) -> R {
        let mut view = self.0.write().expect("no callback of this engine has panicked");
        change(view.as_mut().expect("only the end of the engine takes the view"))
    }
}

impl<V> Clone for SharedView<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The view while it's read.
#[derive(Debug)]
pub struct ViewGuard<'a, V>(RwLockReadGuard<'a, Option<V>>);

impl<V> Deref for ViewGuard<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        self.0.as_ref().expect("a guard is only made of a view that is there")
    }
}

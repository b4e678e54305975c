//! How a term of ours passes through serde's generic code as it is.
//!
//! serde knows no terms, and its traits give our reader and writer no way to see that the type in
//! their hands is one of ours. So the two agree on a name, which serde hands on: a [`Term`] calls
//! itself a newtype struct of this name. Our writer, when it's asked for one, opens a slot, lets the
//! value write itself, and finds the term in the slot; our reader puts the term in the slot and lets
//! the visitor take it. All in one call on one thread, and nothing is copied but a reference. Other
//! formats know neither name nor slot, and get a text.

use std::cell::Cell;

use super::Manners;
use crate::term::Term;

/// The name a term of ours goes by.
pub(super) const NAME: &str = "$data_publisher::term";

thread_local! {
    static SLOT: Cell<Slot> = const { Cell::new(Slot::Closed) };
    static READING: Cell<Option<Manners>> = const { Cell::new(None) };
}

#[derive(Default)]
enum Slot {
    #[default]
    Closed,
    /// Our writer waits for a term.
    Open,
    /// A term waits to be taken.
    Full(Term),
}

/// Puts things back as they were, after a panic too.
struct Restore<F: FnMut()>(F);

impl<F: FnMut()> Drop for Restore<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What `write` offers; `None` if it offers nothing.
pub(super) fn offered_by<E>(write: impl FnOnce() -> Result<Term, E>) -> Result<Option<Term>, E> {
    let mut outer = SLOT.replace(Slot::Open);
    let restore = Restore(|| SLOT.set(std::mem::take(&mut outer)));
    write()?;
    let offered = SLOT.take();
    drop(restore);
    Ok(match offered {
        Slot::Full(term) => Some(term),
        Slot::Open | Slot::Closed => None,
    })
}

/// Offers a term to our writer, if it waits for one.
pub(super) fn offer(term: impl FnOnce() -> Term) -> bool {
    match SLOT.take() {
        Slot::Open => {
            SLOT.set(Slot::Full(term()));
            true
        }
        other => {
            SLOT.set(other);
            false
        }
    }
}

/// Lets `visit` take a term.
pub(super) fn hand_over<R>(term: Term, visit: impl FnOnce() -> R) -> R {
    let mut outer = SLOT.replace(Slot::Full(term));
    let _restore = Restore(|| SLOT.set(std::mem::take(&mut outer)));
    visit()
}

/// Takes what our reader hands over.
pub(super) fn take() -> Option<Term> {
    match SLOT.take() {
        Slot::Full(term) => Some(term),
        other => {
            SLOT.set(other);
            None
        }
    }
}

/// Runs our reader.
pub(super) fn reading<R>(manners: Manners, read: impl FnOnce() -> R) -> R {
    let outer = READING.replace(Some(manners));
    let _restore = Restore(|| READING.set(outer));
    read()
}

/// The manners of our reader, if it's what a value is read by in the end: serde may have put a copy
/// of its own in between (see [`own`](super::own)).
pub(super) fn manners_of_reading() -> Option<Manners> {
    READING.get()
}

//! Lists: proper ones, and those whose last tail is no list.

use std::ops::Deref;
use std::sync::Arc;

use super::Term;

/// A proper list; derefs to its elements.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct List(Option<Arc<[Term]>>);

impl List {
    /// `[]`; allocates nothing.
    pub const EMPTY: Self = Self(None);
}

impl Deref for List {
    type Target = [Term];

    fn deref(&self) -> &[Term] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Vec<Term>> for List {
    fn from(elements: Vec<Term>) -> Self {
        if elements.is_empty() { Self::EMPTY } else { Self(Some(elements.into())) }
    }
}

impl From<Arc<[Term]>> for List {
    fn from(elements: Arc<[Term]>) -> Self {
        if elements.is_empty() { Self::EMPTY } else { Self(Some(elements)) }
    }
}

impl FromIterator<Term> for List {
    fn from_iter<I: IntoIterator<Item = Term>>(elements: I) -> Self {
        elements.into_iter().collect::<Arc<[Term]>>().into()
    }
}

/// `[E1, E2 | Tail]` with a tail that is no list. Made by [`Term::list_with_tail`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ImproperList {
    elements: Vec<Term>,
    tail: Term,
}

impl ImproperList {
    /// The elements before the tail, at least one.
    pub fn elements(&self) -> &[Term] {
        &self.elements
    }

    /// The tail.
    pub fn tail(&self) -> &Term {
        &self.tail
    }

    pub(super) fn term(mut elements: Vec<Term>, tail: Term) -> Term {
        match tail {
            tail if elements.is_empty() => tail,
            Term::List(rest) => {
                elements.extend_from_slice(&rest);
                Term::List(elements.into())
            }
            Term::ImproperList(rest) => {
                elements.extend_from_slice(rest.elements());
                Term::ImproperList(Arc::new(Self { elements, tail: rest.tail.clone() }))
            }
            tail => Term::ImproperList(Arc::new(Self { elements, tail })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list;

    #[test]
    fn a_list_with_a_list_as_tail_is_a_proper_list() {
        let term = Term::list_with_tail(vec![1.into(), 2.into()], list![3]);
        assert_eq!(term, list![1, 2, 3]);
        assert_eq!(Term::list_with_tail(vec![1.into()], Term::NIL), list![1]);
    }

    #[test]
    fn improper_tails_flatten() {
        let inner = Term::list_with_tail(vec![2.into()], 3.into());
        let outer = Term::list_with_tail(vec![1.into()], inner);
        assert_eq!(outer, Term::list_with_tail(vec![1.into(), 2.into()], 3.into()));
    }
}

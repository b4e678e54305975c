//! Terms from Rust values: `From`, and the macros [`tuple!`](crate::tuple), [`list!`](crate::list),
//! [`map!`](crate::map).
//!
//! Text is never a term by accident: `atom!("a")`, `Term::binary_of("a")` and `Term::string_of("a")`
//! are three different things.

use std::sync::Arc;

use super::{Atom, List, Map, NodeName, Pid, Port, Reference, Term};

macro_rules! from_small_integer {
    ($($type:ty),*) => {$(
        impl From<$type> for Term {
            fn from(value: $type) -> Self {
                Self::Integer(i64::from(value))
            }
        }
    )*};
}

from_small_integer!(i8, i16, i32, i64, u8, u16, u32);

macro_rules! from_part {
    ($($type:ident => $variant:ident),*) => {$(
        impl From<$type> for Term {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }

        impl From<&$type> for Term {
            fn from(value: &$type) -> Self {
                Self::$variant(value.clone())
            }
        }
    )*};
}

from_part!(Atom => Atom, Pid => Pid, Reference => Reference, Port => Port, Map => Map, List => List);

impl From<bool> for Term {
    fn from(value: bool) -> Self {
        Self::Atom(if value { crate::atom!("true") } else { crate::atom!("false") })
    }
}

impl From<NodeName> for Term {
    fn from(name: NodeName) -> Self {
        Self::Atom(name.atom().clone())
    }
}

impl From<&NodeName> for Term {
    fn from(name: &NodeName) -> Self {
        Self::Atom(name.atom().clone())
    }
}

impl From<&Term> for Term {
    fn from(term: &Term) -> Self {
        term.clone()
    }
}

impl From<Arc<[Term]>> for Term {
    fn from(elements: Arc<[Term]>) -> Self {
        Self::Tuple(elements)
    }
}

impl PartialEq<Atom> for Term {
    fn eq(&self, other: &Atom) -> bool {
        matches!(self, Self::Atom(atom) if atom == other)
    }
}

impl PartialEq<Pid> for Term {
    fn eq(&self, other: &Pid) -> bool {
        matches!(self, Self::Pid(pid) if pid == other)
    }
}

/// A tuple of anything that is `Into<Term>`: `tuple![atom!("discover"), pid]`.
#[macro_export]
macro_rules! tuple {
    ($($element:expr),* $(,)?) => {
        $crate::term::Term::tuple_of([$($crate::term::Term::from($element)),*])
    };
}

/// A proper list of anything that is `Into<Term>`: `list![1, atom!("a")]`.
#[macro_export]
macro_rules! list {
    ($($element:expr),* $(,)?) => {
        $crate::term::Term::list_of([$($crate::term::Term::from($element)),*])
    };
}

/// A map of anything that is `Into<Term>`: `map! { atom!("a") => 1 }`. Of equal keys the last wins.
#[macro_export]
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::term::Term::Map(
            <$crate::term::Map as ::core::iter::FromIterator<_>>::from_iter([
                $(($crate::term::Term::from($key), $crate::term::Term::from($value))),*
            ] as [($crate::term::Term, $crate::term::Term); _]),
        )
    };
}

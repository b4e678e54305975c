//! Taking terms apart: each reader gives the part or says what it expected and what it found.

use std::borrow::Cow;
use std::fmt;

use super::{Atom, List, Map, NodeName, Pid, Reference, Term};

/// A term didn't have the shape that was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct BadTerm {
    /// What was asked for, in words: `a pid`, `{discover, Pid, Version}`.
    pub expected: Cow<'static, str>,
    /// What was there, in Erlang syntax, cut to about 100 characters.
    pub found: String,
}

impl BadTerm {
    /// `term` isn't what was expected.
    pub fn new(expected: impl Into<Cow<'static, str>>, term: &Term) -> Self {
        Self { expected: expected.into(), found: Excerpt(term).to_string() }
    }
}

/// A term printed in at most about 100 characters, whatever its size.
pub struct Excerpt<'a>(pub &'a Term);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cut = Cut { out: f, left: 100 };
        match fmt::write(&mut cut, format_args!("{}", self.0)) {
            Err(fmt::Error) if cut.left == 0 => f.write_str("..."),
            result => result,
        }
    }
}

/// Passes on so many characters, then fails: printing stops there and costs nothing more.
struct Cut<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            fmt::Write::write_char(self.out, c)?;
        }
        Ok(())
    }
}

impl Term {
    /// The elements of a tuple of this size.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn tuple<const N: usize>(&self) -> Result<&[Self; N], BadTerm> {
        match self {
            Self::Tuple(elements) => {
                elements[..].try_into().map_err(|_| BadTerm::new("a tuple of another size", self))
            }
            _ => Err(BadTerm::new("a tuple", self)),
        }
    }

    /// The elements of a tuple of any size.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn tuple_elements(&self) -> Result<&[Self], BadTerm> {
        match self {
            Self::Tuple(elements) => Ok(elements),
            _ => Err(BadTerm::new("a tuple", self)),
        }
    }

    /// The elements of a tuple whose first element is this atom: `{Tag, ...}` without the tag.
    pub fn tagged(&self, tag: &str) -> Option<&[Self]> {
        match self {
            Self::Tuple(elements) => match elements.split_first() {
                Some((Self::Atom(first), rest)) if *first == *tag => Some(rest),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements of a proper list.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn list(&self) -> Result<&List, BadTerm> {
        match self {
            Self::List(list) => Ok(list),
            _ => Err(BadTerm::new("a proper list", self)),
        }
    }

    /// A map.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn map(&self) -> Result<&Map, BadTerm> {
        match self {
            Self::Map(map) => Ok(map),
            _ => Err(BadTerm::new("a map", self)),
        }
    }

    /// An atom.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn atom(&self) -> Result<&Atom, BadTerm> {
        match self {
            Self::Atom(atom) => Ok(atom),
            _ => Err(BadTerm::new("an atom", self)),
        }
    }

    /// A pid.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn pid(&self) -> Result<&Pid, BadTerm> {
        match self {
            Self::Pid(pid) => Ok(pid),
            _ => Err(BadTerm::new("a pid", self)),
        }
    }

    /// A reference.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn reference(&self) -> Result<&Reference, BadTerm> {
        match self {
            Self::Reference(reference) => Ok(reference),
            _ => Err(BadTerm::new("a reference", self)),
        }
    }

    /// An integer of 64 bits.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else, larger integers too.
    pub fn integer(&self) -> Result<i64, BadTerm> {
        match self {
            Self::Integer(value) => Ok(*value),
            _ => Err(BadTerm::new("an integer of 64 bits", self)),
        }
    }

    /// The bytes of a binary.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn binary(&self) -> Result<&[u8], BadTerm> {
        match self {
            Self::Binary(bytes) => Ok(bytes),
            _ => Err(BadTerm::new("a binary", self)),
        }
    }

    /// An atom that is a node name.
    ///
    /// # Errors
    ///
    /// [`BadTerm`] for anything else.
    pub fn node_name(&self) -> Result<NodeName, BadTerm> {
        self.atom()?.clone().try_into().map_err(|_| BadTerm::new("a node name", self))
    }

    /// Whether it's this atom.
    pub fn is_atom(&self, text: &str) -> bool {
        matches!(self, Self::Atom(atom) if *atom == *text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atom, list, tuple};

    #[test]
    fn a_tuple_is_read_by_its_size() {
        let term = tuple![atom!("a"), 1];
        assert!(term.tuple::<2>().is_ok());
        assert!(term.tuple::<3>().is_err());
        assert_eq!(term.tagged("a"), Some(&[Term::from(1)][..]));
    }

    #[test]
    fn an_error_about_a_huge_term_is_short() {
        let huge = list![Term::list_of((0..100_000).map(Term::from))];
        let error = huge.pid().unwrap_err();
        assert_eq!(error.expected, "a pid");
        assert!(error.found.len() < 120 && error.found.ends_with("..."), "{}", error.found);
    }
}

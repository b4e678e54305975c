//! What goes wrong on the way from a value to a term, and back.
//!
//! Both errors learn where they are on their way out: each list, map or tuple they pass puts its
//! part of the path in front.

use std::borrow::Cow;
use std::fmt::{self, Write};

use ::serde::de::{self, Expected, Unexpected};
use ::serde::ser;

use crate::term::{BadTerm, Excerpt, Term};

/// A value can't be written as a term.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WriteError {
    /// What is wrong with it.
    pub reason: WriteErrorReason,
    /// Where in the value, as in `limits[2].max`; elements are counted from 1. Empty when it's the
    /// value itself.
    pub path: String,
}

/// What is wrong with a value that can't be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteErrorReason {
    /// Erlang has neither infinities nor NaN.
    #[error("{value} is no float in Erlang")]
    NotFinite {
        /// `NaN`, `inf` or `-inf`.
        value: String,
    },
    /// A name of a field, a variant or a unit struct has more than 255 characters.
    #[error("`{name}` is too long for an atom")]
    AtomTooLong {
        /// The name.
        name: String,
    },
    /// Two keys of a map are written as the same term.
    #[error("two keys of a map are the same term")]
    DuplicateKey,
    /// `Some` of something that is written as `None` is: it would be read as `None`.
    #[error("`Some({none})` would be read as `None`")]
    SomeIsNone {
        /// `undefined` or `nil`.
        none: &'static str,
    },
    /// What a `Serialize` implementation of a type says.
    #[error("{0}")]
    Other(String),
}

impl WriteError {
    pub(super) fn new(reason: WriteErrorReason) -> Self {
        Self { reason, path: String::new() }
    }

    pub(super) fn at(mut self, step: impl fmt::Display) -> Self {
        prepend(&mut self.path, step);
        self
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.path {
            "" => self.reason.fmt(f),
            path => write!(f, "{} at {}", self.reason, shown(path)),
        }
    }
}

impl std::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(WriteErrorReason::Other(message.to_string()))
    }
}

/// A term isn't what a type is read from. Leaves this module as [`BadTerm`].
#[derive(Debug)]
pub(super) struct ReadError(Box<Misread>);

#[derive(Debug)]
struct Misread {
    expected: Cow<'static, str>,
    found: String,
    /// Whether `found` is said in Erlang's words already, rather than in serde's.
    settled: bool,
    path: String,
}

impl ReadError {
    pub(super) fn new(expected: impl Into<Cow<'static, str>>, term: &Term) -> Self {
        Self::unsettled(expected, String::new()).on(term)
    }

    fn unsettled(expected: impl Into<Cow<'static, str>>, found: String) -> Self {
        Self(Box::new(Misread {
            expected: expected.into(),
            found,
            settled: false,
            path: String::new(),
        }))
    }

    /// The term that was being read; the innermost counts.
    pub(super) fn on(mut self, term: &Term) -> Self {
        if !self.0.settled {
            self.0.found = Excerpt(term).to_string();
            self.0.settled = true;
        }
        self
    }

    pub(super) fn at(mut self, step: impl fmt::Display) -> Self {
        self.0.settled = true;
        prepend(&mut self.0.path, step);
        self
    }
}

impl From<ReadError> for BadTerm {
    fn from(error: ReadError) -> Self {
        let Misread { expected, found, path, .. } = *error.0;
        let expected = match &*path {
            "" => expected,
            path => format!("{expected} at {}", shown(path)).into(),
        };
        Self { expected, found }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misread { expected, found, path, .. } = &*self.0;
        write!(f, "expected {expected}, found {found}")?;
        if path.is_empty() { Ok(()) } else { write!(f, " at {}", shown(path)) }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::unsettled(format!("another value ({message})"), "this one".to_owned())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unsettled(expected.to_string(), found.to_string())
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unsettled(expected.to_string(), found.to_string())
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Self {
        Self::unsettled(expected.to_string(), format!("{found} elements"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::unsettled(one_of("one of the atoms", expected), format!("`{found}`"))
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let mut error =
            Self::unsettled(one_of("no other keys than", expected), format!("`{found}`"));
        error.0.settled = true;
        error
    }

    fn missing_field(field: &'static str) -> Self {
        Self::unsettled(format!("a map with the key `{field}`"), "none".to_owned())
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::unsettled(format!("the key `{field}` once"), "it twice".to_owned())
    }
}

fn one_of(what: &str, names: &[&str]) -> String {
    let mut text = what.to_owned();
    for (i, name) in names.iter().enumerate() {
        let _ = write!(text, "{}`{name}`", if i == 0 { " " } else { ", " });
    }
    text
}

/// One step of a path, as a list, tuple, map or struct shows it.
pub(super) enum Step<'a> {
    /// `[1]`: an element of a list, counted from 1.
    Element(usize),
    /// `{1}`: an element of a tuple, counted from 1.
    Place(usize),
    /// `.name`: a field of a struct.
    Field(&'a str),
    /// `.name` or `(Key)`: the value of a key in a map.
    Value(&'a Term),
    /// A key in a map, not its value.
    Key(&'a Term),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Element(n) => write!(f, "[{n}]"),
            Self::Place(n) => write!(f, "{{{n}}}"),
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(key @ Term::Atom(_)) => write!(f, ".{}", Excerpt(key)),
            Self::Value(key) => write!(f, "({})", Excerpt(key)),
            Self::Key(key) => write!(f, "(key {})", Excerpt(key)),
        }
    }
}

/// What a path is cut to: a peer's keys can be long, and its terms deep.
const MAX_PATH: usize = 1000;

fn prepend(path: &mut String, step: impl fmt::Display) {
    if path.len() < MAX_PATH {
        path.insert_str(0, &step.to_string());
    }
}

fn shown(path: &str) -> &str {
    path.strip_prefix('.').unwrap_or(path)
}

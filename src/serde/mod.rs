//! Rust types as Erlang terms, by [serde](https://serde.rs): a publisher's data can be plain
//! `#[derive(Serialize, Deserialize)]` types. The derive is your own, `serde = { version = "1",
//! features = ["derive"] }`.
//!
//! [`to_term`] and [`from_term`] do one value; [`serde_terms!`](crate::serde_terms) writes the part of
//! a [`DataPublisher`](crate::engine::DataPublisher) that is about terms.
//!
//! ```
//! use data_publisher::term::Term;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Deserialize, PartialEq, Serialize)]
//! #[serde(rename_all = "snake_case")]
//! enum Change {
//!     Put(String, u32),
//!     Delete(String),
//! }
//!
//! let changes = vec![Change::Put("a".into(), 1), Change::Delete("b".into())];
//! let term = data_publisher::serde::to_term(&changes)?;
//! assert_eq!(term.to_string(), r#"[{put,<<"a">>,1},{delete,<<"b">>}]"#);
//! assert_eq!(data_publisher::serde::from_term::<Vec<Change>>(&term)?, changes);
//!
//! let wrong: Term = r#"[{put, <<"a">>, none}]"#.parse()?;
//! let error = data_publisher::serde::from_term::<Vec<Change>>(&wrong).unwrap_err();
//! assert_eq!(error.to_string(), "expected u32 at [1]{3}, found none");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What becomes what
//!
//! | Rust | term | also read from |
//! | --- | --- | --- |
//! | `bool` | `true`, `false` | |
//! | `i8` to `i128`, `u8` to `u128` | integer | |
//! | `f32`, `f64` | float; NaN and infinities are errors | integers |
//! | `char` | `<<"c"/utf8>>` | `$c`, `"c"`, an atom of one character |
//! | `str`, `String` | `<<"text"/utf8>>` | `"text"` (a list of characters), atoms |
//! | `String` with [`charlist`] | `"text"` | as `String` |
//! | bytes: `Vec<u8>` with [`binary`], `serde_bytes` | `<<1,2,3>>` | |
//! | `Vec<T>`, sets, `Vec<u8>` too | `[A, B, C]` | |
//! | `(A, B)`, `struct Pair(A, B)`, `[T; 2]` | `{A, B}` | |
//! | `()` | `{}` | |
//! | `struct Unit;` | `'Unit'` | |
//! | `struct Metres(f64)` | as the `f64` in it | |
//! | `struct Limit { max: u8 }` | `#{max => 3}` | keys as binaries; others are ignored |
//! | `BTreeMap<K, V>`, `HashMap<K, V>` | `#{K => V}`, any keys | |
//! | `None` | `undefined`; Elixir: `nil` | |
//! | `Some(x)` | as `x` | |
//! | `enum`: `Clear` | `'Clear'` | |
//! | `enum`: `Delete(K)` | `{'Delete', K}` | |
//! | `enum`: `Put(K, V)` | `{'Put', K, V}` | |
//! | `enum`: `Set { max: u8 }` | `{'Set', #{max => 3}}` | |
//! | [`Term`] | itself, whatever it is | |
//! | [`Atom`], [`NodeName`] | atom | |
//! | [`Pid`], [`Reference`], [`Port`] | itself | |
//! | [`List`], [`Map`] | itself | |
//!
//! Names of fields, variants and unit structs are those serde has: `#[serde(rename_all =
//! "snake_case")]` on an enum makes `{put, K, V}` of `Put(K, V)`.
//!
//! What is written is read back as it was, or else writing fails: of two keys that are written alike,
//! and of a `Some` whose content is written as `None` is (`Some(None)`, `Some(atom!("undefined"))`).
//! `Some(())` is `{}`, so it's none of these.
//!
//! Reading takes nothing on trust: it goes 128 levels deep, makes no room for elements that aren't
//! there, and passes over what a type ignores without a look. A [`Term`] takes what lies deeper.
//!
//! # Elixir
//!
//! In [`Manners::Elixir`] `None` is `nil`, and a struct whose serde name has a dot is an Elixir
//! struct: `#[serde(rename = "MyApp.Flag")]` makes its map carry `__struct__ => 'Elixir.MyApp.Flag'`,
//! that is `%MyApp.Flag{}`. A module without a dot is written with its prefix, `#[serde(rename =
//! "Elixir.Flag")]`. Rust's own names have no dots, so other structs are plain maps, as no module of
//! that name can be expected on the other side. Struct variants are plain maps too.
//!
//! When a struct is read, `__struct__` may be missing; if it's there, it must name the module, and is
//! no unknown field to `deny_unknown_fields`. A struct without a module passes over it. For all else,
//! maps included, it's a key like others.
//!
//! # Where serde hides something
//!
//! - A struct with a `#[serde(flatten)]` field is a map to serde, so its keys are written as binaries;
//!   it has no name, hence no `__struct__`. The tag of `#[serde(tag = "type")]` is a binary, too:
//!   `#{type => <<"put">>}`.
//! - `untagged`, `tag` and `flatten` read from a copy that serde makes, in which lists and tuples are the
//!   same, and enums that hold something and integers beyond 64 bits have no place. `Pid`s, atoms and
//!   their like inside of such types work; a `Term` that is a list, a tuple or a map is an error, and so
//!   are those enums. `untagged` alone is fine for `pid() | atom()`.
//! - Fixed arrays are tuples.
//!
//! # Other formats
//!
//! In JSON and others, an [`Atom`] or [`NodeName`] is its text; a [`Pid`], [`Reference`] or [`Port`]
//! a text that has all of it, `<a@127.0.0.1/1795.92.0>`, the creation behind the node; a [`Term`],
//! [`Map`] or [`List`] its text in Erlang syntax. All are read back from that, except terms which hold
//! what [Erlang's syntax can't say](Term#impl-FromStr-for-Term): a pid within a list, closures.
//!
//! [`List`]: crate::term::List
//! [`Map`]: crate::term::Map
//! [`NodeName`]: crate::term::NodeName
//! [`Pid`]: crate::term::Pid
//! [`Port`]: crate::term::Port
//! [`Reference`]: crate::term::Reference

mod error;
mod handover;
mod own;
/// What [`serde_terms!`](crate::serde_terms) expands to needs a path into this crate.
#[doc(hidden)]
pub mod publisher;
mod reader;
#[cfg(test)]
mod tests;
mod with;
mod writer;

use std::borrow::Cow;

use ::serde::{Deserialize, Serialize};

pub use error::{WriteError, WriteErrorReason};
pub use with::{binary, charlist};

use crate::atom;
use crate::term::{Atom, BadTerm, Term};

/// A value as a term, by [`Manners::Erlang`].
///
/// # Errors
///
/// [`WriteError`] when no term says the same.
pub fn to_term<T: Serialize + ?Sized>(value: &T) -> Result<Term, WriteError> {
    Manners::Erlang.to_term(value)
}

/// A value from a term, by [`Manners::Erlang`]. It may borrow strings and bytes from the term.
///
/// # Errors
///
/// [`BadTerm`], which says where in the term what was expected.
pub fn from_term<'de, T: Deserialize<'de>>(term: &'de Term) -> Result<T, BadTerm> {
    Manners::Erlang.from_term(term)
}

/// Whose habits a term follows.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Manners {
    /// `None` is `undefined`, a struct is a map.
    #[default]
    Erlang,
    /// `None` is `nil`, a struct that is named as a module is an Elixir struct.
    Elixir,
}

impl Manners {
    /// As [`to_term`].
    ///
    /// # Errors
    ///
    /// As [`to_term`].
    pub fn to_term<T: Serialize + ?Sized>(self, value: &T) -> Result<Term, WriteError> {
        value.serialize(writer::Writer { manners: self })
    }

    /// As [`from_term`].
    ///
    /// # Errors
    ///
    /// As [`from_term`].
    pub fn from_term<'de, T: Deserialize<'de>>(self, term: &'de Term) -> Result<T, BadTerm> {
        Ok(handover::reading(self, || T::deserialize(reader::Reader::new(term, self)))?)
    }

    /// What `None` is.
    fn none(self) -> Atom {
        match self {
            Self::Erlang => atom!("undefined"),
            Self::Elixir => atom!("nil"),
        }
    }

    fn none_text(self) -> &'static str {
        match self {
            Self::Erlang => "undefined",
            Self::Elixir => "nil",
        }
    }

    /// The module whose Elixir struct a struct of this name is.
    fn module(self, struct_name: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Elixir if struct_name.starts_with("Elixir.") => Some(struct_name.into()),
            Self::Elixir if struct_name.contains('.') => {
                Some(format!("Elixir.{struct_name}").into())
            }
            _ => None,
        }
    }
}

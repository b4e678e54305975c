//! Atoms: text of at most 255 characters, cheap to clone and to compare.

use std::borrow::Borrow;
use std::fmt;

use arcstr::ArcStr;

/// An Erlang atom.
///
/// One pointer wide; a clone counts a reference. No table of atoms is kept, so a peer that invents
/// names costs nothing once they are dropped. Atoms written in the source by [`atom!`](crate::atom)
/// allocate nothing at all.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Atom(ArcStr);

impl Atom {
    /// Most characters (not bytes) an atom may have, as on the BEAM.
    pub const MAX_CHARACTERS: usize = 255;

    /// An atom of this text.
    ///
    /// # Errors
    ///
    /// [`AtomTooLong`] above [`Atom::MAX_CHARACTERS`].
    pub fn new(text: &str) -> Result<Self, AtomTooLong> {
        // No character is shorter than a byte, so most texts need no count.
        if text.len() > Self::MAX_CHARACTERS && text.chars().count() > Self::MAX_CHARACTERS {
            return Err(AtomTooLong);
        }
        Ok(Self(ArcStr::from(text)))
    }

    /// For [`atom!`](crate::atom), which has checked the length while compiling.
    #[doc(hidden)]
    pub const fn from_literal(text: ArcStr) -> Self {
        Self(text)
    }

    /// The text, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text of more than 255 characters can't be an atom.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an atom has at most 255 characters")]
pub struct AtomTooLong;

impl TryFrom<&str> for Atom {
    type Error = AtomTooLong;

    fn try_from(text: &str) -> Result<Self, AtomTooLong> {
        Self::new(text)
    }
}

impl std::str::FromStr for Atom {
    type Err = AtomTooLong;

    fn from_str(text: &str) -> Result<Self, AtomTooLong> {
        Self::new(text)
    }
}

impl Borrow<str> for Atom {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Atom {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Atom {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Atom {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Erlang syntax, quoted where Erlang quotes.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::display::write_atom(f, self.as_str())
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An [`Atom`](crate::term::Atom) from a string literal, made while compiling.
///
/// ```
/// use data_publisher::atom;
/// assert_eq!(atom!("workers").as_str(), "workers");
/// ```
#[macro_export]
macro_rules! atom {
    ($text:literal) => {{
        const _: () = assert!($text.len() <= 255, "an atom has at most 255 characters");
        $crate::term::Atom::from_literal($crate::term::macro_support::literal!($text))
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atom_has_at_most_255_characters_of_any_width() {
        assert!(Atom::new(&"é".repeat(255)).is_ok());
        assert_eq!(Atom::new(&"é".repeat(256)), Err(AtomTooLong));
    }

    #[test]
    fn a_literal_equals_the_same_text_from_elsewhere() {
        assert_eq!(atom!("pg"), Atom::new("pg").unwrap());
    }
}

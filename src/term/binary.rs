//! Binaries: those of a few bytes lie in the term itself, longer ones are shared.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The whole bytes of a binary; derefs to them.
///
/// Names of groups, topics and keys are mostly short: making, cloning and comparing one of those
/// touches no memory but the term's own. A clone of a longer one counts a reference.
#[derive(Clone, Eq, PartialEq)]
pub struct Binary(Form);

/// As many bytes as there is room for beside a pid in [`Term`](super::Term).
const SHORT: usize = 22;

/// One number of bytes has one form, so that equal ones are equal part by part.
#[derive(Clone, Eq, PartialEq)]
enum Form {
    /// At most [`SHORT`] bytes; those behind `len` are 0.
    Short { len: u8, bytes: [u8; SHORT] },
    /// More.
    Long(Arc<[u8]>),
}

impl Deref for Binary {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Form::Long(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Binary {
    #[inline]
    fn from(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        Self(match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Form::Short { len: bytes.len() as u8, bytes: short }
            }
            None => Form::Long(Arc::from(bytes)),
        })
    }
}

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Arc<[u8]>> for Binary {
    fn from(bytes: Arc<[u8]>) -> Self {
        if bytes.len() <= SHORT { Self::from(&bytes[..]) } else { Self(Form::Long(bytes)) }
    }
}

impl AsRef<[u8]> for Binary {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Hash for Binary {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_has_its_bytes_whatever_it_was_made_of() {
        let bytes: Vec<u8> = (1..=40).collect();
        for len in 0..bytes.len() {
            let bytes = &bytes[..len];
            let binary = Binary::from(bytes);
            assert_eq!(*binary, *bytes);
            assert_eq!(binary, Binary::from(bytes.to_vec()));
            assert_eq!(binary, Binary::from(Arc::from(bytes)));
            assert_ne!(binary, Binary::from([bytes, &[0]].concat()));
        }
    }

    #[test]
    fn long_ones_are_shared() {
        let long = Binary::from(vec![7; 23]);
        assert_eq!(long.as_ptr(), long.clone().as_ptr());
        assert_eq!(size_of::<Binary>(), 24);
    }
}

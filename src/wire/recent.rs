//! Atoms that came lately: the same few stand in nearly every message, and finding one again costs
//! less than making it anew. Two that were found are the same memory, too, and so compare fast.
//!
//! Each thread has a table of its own, so nobody waits. It keeps what little it has room for and
//! forgets an atom for the next with the same place: whoever invents names fills it and no more.

use std::cell::RefCell;

use super::atom_cache::AtomIn;
use crate::atom;
use crate::term::{Atom, NodeName};

/// 10 KiB of table, and at most 64 KiB of text.
const PLACES: usize = 256;

/// Longer texts, in bytes, aren't kept.
const LONGEST: usize = 255;

/// The atom of this text; an error says what is wrong with it.
pub(super) fn listed(text: &[u8]) -> Result<AtomIn, &'static str> {
    find(text, AtomIn::clone)
}

/// The atom of this text, if it can be one.
pub(super) fn atom(text: &[u8]) -> Option<Atom> {
    find(text, |found| found.atom.clone()).ok()
}

/// The node of this name, if it's the name of one.
pub(super) fn node(text: &[u8]) -> Option<NodeName> {
    find(text, |found| found.is_node.then(|| NodeName::of_name(found.atom.clone()))).ok()?
}

#[inline]
fn find<T>(text: &[u8], read: impl Fn(&AtomIn) -> T) -> Result<T, &'static str> {
    if text.len() > LONGEST {
        return Ok(read(&make(text)?));
    }
    let in_table = |table: &RefCell<[Known; PLACES]>| {
        let mut table = table.borrow_mut();
        let key = Key::of(text);
        let Some(place) = table.get_mut(key.place()) else { return Ok(read(&make(text)?)) };
        if !place.is(key, text) {
            *place = Known { key, atom: make(text)? };
        }
        Ok(read(&place.atom))
    };
    // Without a table where the thread is just ending.
    TABLE.try_with(in_table).unwrap_or_else(|_| Ok(read(&make(text)?)))
}

thread_local! {
    static TABLE: RefCell<[Known; PLACES]> = const { RefCell::new([const { Known::EMPTY }; PLACES]) };
}

struct Known {
    key: Key,
    atom: AtomIn,
}

impl Known {
    const EMPTY: Self =
        Self { key: Key(0, 0, 0), atom: AtomIn { atom: atom!(""), is_node: false } };

    /// Whether it's the atom of this text, which has this key.
    #[inline]
    fn is(&self, key: Key, text: &[u8]) -> bool {
        self.key == key && (text.len() <= Key::ALL || self.atom.atom.as_str().as_bytes() == text)
    }
}

/// The first and the last bytes of a text and its length: of up to [`ALL`](Self::ALL) bytes that's all
/// of it.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Key(u64, u64, u64);

impl Key {
    const ALL: usize = 16;

    #[inline]
    fn of(text: &[u8]) -> Self {
        let len = text.len() as u64;
        if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            Self(u64::from_le_bytes(*first), u64::from_le_bytes(*last), len)
        } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>())
        {
            Self(u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into(), len)
        } else {
            Self(text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0, len)
        }
    }

    #[inline]
    fn place(self) -> usize {
        let word = (self.0.rotate_left(5) ^ self.1 ^ self.2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (word >> 32) as usize % PLACES
    }
}

#[cold]
fn make(text: &[u8]) -> Result<AtomIn, &'static str> {
    let text = str::from_utf8(text).map_err(|_| "an atom not in UTF-8")?;
    let atom = Atom::new(text).map_err(|_| "an atom of more than 255 characters")?;
    Ok(AtomIn { is_node: NodeName::is_name(&atom), atom })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_what_was_asked_for_whatever_came_before() {
        for round in 0..3 {
            for number in 0..4 * PLACES {
                let text = format!("{round}a{number}@host");
                for text in [&text[..], &text[..number % text.len()]] {
                    let found = listed(text.as_bytes()).unwrap();
                    assert_eq!(found.atom.as_str(), text);
                    assert_eq!(found.is_node, NodeName::is_name(&found.atom));
                }
            }
        }
    }

    #[test]
    fn what_is_no_atom_stays_none() {
        for _ in 0..2 {
            assert!(listed(b"\xff").is_err());
            assert!(listed("x".repeat(256).as_bytes()).is_err());
            assert!(listed("é".repeat(255).as_bytes()).is_ok());
        }
    }
}

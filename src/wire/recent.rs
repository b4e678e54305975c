//! Atoms that came lately: the same few stand in nearly every message, and finding one again costs
//! less than making it anew. Two that were found are the same memory, too, and so compare fast.
//!
//! Each thread has a table of its own, so nobody waits. It keeps what little it has room for and
//! forgets an atom for the next with the same place: whoever invents names fills it and no more.

use std::cell::RefCell;
use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::atom_cache::AtomIn;
use crate::term::{Atom, NodeName};

/// 8 KiB of table, and at most 32 KiB of text.
const PLACES: usize = 512;

/// Longer texts, in bytes, aren't kept.
const LONGEST: usize = 64;

thread_local! {
    static TABLE: RefCell<[Option<AtomIn>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// The atom of this text; an error says what is wrong with it.
pub(super) fn atom(text: &[u8]) -> Result<AtomIn, &'static str> {
    if text.len() > LONGEST {
        return make(text);
    }
    let in_table = |table: &RefCell<[Option<AtomIn>; PLACES]>| {
        let mut table = table.borrow_mut();
        let Some(place) = table.get_mut(place(text)) else { return make(text) };
        match place {
            Some(known) if known.atom.as_str().as_bytes() == text => Ok(known.clone()),
            _ => Ok(place.insert(make(text)?).clone()),
        }
    };
    // Without a table where the thread is just ending.
    TABLE.try_with(in_table).unwrap_or_else(|_| make(text))
}

fn place(text: &[u8]) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(text);
    hasher.finish() as usize % PLACES
}

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
                    let found = atom(text.as_bytes()).unwrap();
                    assert_eq!(found.atom.as_str(), text);
                    assert_eq!(found.is_node, NodeName::is_name(&found.atom));
                }
            }
        }
    }

    #[test]
    fn what_is_no_atom_stays_none() {
        for _ in 0..2 {
            assert!(atom(b"\xff").is_err());
            assert!(atom("x".repeat(256).as_bytes()).is_err());
            assert!(atom("é".repeat(255).as_bytes()).is_ok());
        }
    }
}

//! The atom cache: a table of 2,048 slots for each direction of a connection, and the list of atoms
//! at the start of a frame that reads and fills it.
//!
//! ```text
//! N:8                      atoms in the list; with 0 nothing follows
//! Flags                    N + 1 half bytes, the low half of a byte first. Of an atom: bit 3 says
//!                          that it's new, bits 0 to 2 are its slot's high bits. The last half
//!                          byte's bit 0 says that lengths have 16 bits instead of 8
//! Ref * N                  Slot:8 [Length Text], the latter if it's new
//! ```
//!
//! In the frame's terms such an atom is `82 Index:8`, its place in the list.
//!
//! Out go only the atoms of control tuples through it: names of nodes and of processes. Payloads are
//! encoded once for all peers, and what's in a slot differs from peer to peer.
//!
//! Source: *External Term Format*, chapter "Distribution Header"; `external.c`, OTP 25 to 29.

use std::hash::{BuildHasher, BuildHasherDefault};

use rustc_hash::{FxHashMap, FxHasher};

use super::codec::{DecodeError, Reader};
use crate::term::Atom;

/// Slots of a direction.
const SLOTS: u16 = 2048;

/// Bit 3 of an atom's half byte: its text follows.
const NEW: u8 = 8;

/// An atom of a frame's list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct AtomIn {
    pub(super) atom: Atom,
    /// Whether it names a node, found out when it came and not with each pid.
    pub(super) is_node: bool,
}

/// What a peer has put into its slots. At most 2,048 atoms of 255 characters.
#[derive(Debug, Default)]
pub(super) struct AtomsIn(FxHashMap<u16, AtomIn>);

impl AtomsIn {
    /// Reads the list of a frame into `table`, in its order; whether an atom in it is new. After an
    /// error the slots are out of step with the peer's.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader<'_>,
        table: &mut Vec<AtomIn>,
    ) -> Result<bool, DecodeError> {
        table.clear();
        let count = usize::from(reader.u8()?);
        if count == 0 {
            return Ok(false);
        }
        let flags = reader.take(count / 2 + 1)?;
        let half = |index: usize| {
            let byte = flags.get(index / 2).copied().unwrap_or_default();
            if index.is_multiple_of(2) { byte & 0x0f } else { byte >> 4 }
        };
        let long = half(count) & 1 != 0;
        let mut any_new = false;
        for index in 0..count {
            let half = half(index);
            let slot = u16::from(half & 7) << 8 | u16::from(reader.u8()?);
            if half & NEW != 0 {
                let len = if long { reader.u16()?.into() } else { reader.u8()?.into() };
                let new = reader.atom_text(len)?;
                self.0.insert(slot, new.clone());
                table.push(new);
                any_new = true;
            } else {
                let held = self.0.get(&slot).cloned();
                table.push(held.ok_or_else(|| reader.bad("an atom of an empty slot"))?);
            }
        }
        Ok(any_new)
    }
}

/// What we have put into our slots, and the list of the frame being written.
#[derive(Debug, Default)]
pub(super) struct AtomsOut {
    slots: FxHashMap<u16, Atom>,
    list: Vec<Listed>,
}

#[derive(Debug)]
struct Listed {
    atom: Atom,
    slot: u16,
    new: bool,
}

impl AtomsOut {
    /// A frame begins. What was listed for one that couldn't be written is forgotten.
    pub(super) fn begin(&mut self) {
        self.list.clear();
    }

    /// The atom's place in the frame's list; `None` if it must be written in full.
    pub(super) fn index(&mut self, atom: &Atom) -> Option<u8> {
        let text = atom.as_str();
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(text);
        let slot = (hash % u64::from(SLOTS)) as u16;
        let at = match self.list.iter().position(|listed| listed.slot == slot) {
            // Two atoms of one frame can't share a slot.
            Some(at) if self.list.get(at).is_none_or(|listed| listed.atom != *atom) => return None,
            Some(at) => at,
            // The length has 8 bits: longer ones aren't worth another form.
            None if text.len() > 255 || self.list.len() >= 255 => return None,
            None => {
                let new = self.slots.get(&slot) != Some(atom);
                self.list.push(Listed { atom: atom.clone(), slot, new });
                self.list.len() - 1
            }
        };
        u8::try_from(at).ok()
    }

    /// Appends the list; whether an atom in it is new. From now on the peer has its atoms in their slots.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        out.push(self.list.len() as u8);
        if self.list.is_empty() {
            return false;
        }
        let mut any_new = false;
        let halves = |listed: &Listed| if listed.new { NEW } else { 0 } | (listed.slot >> 8) as u8;
        let start = out.len();
        out.resize(start + self.list.len() / 2 + 1, 0);
        for (index, listed) in self.list.iter().enumerate() {
            if let Some(byte) = out.get_mut(start + index / 2) {
                *byte |= halves(listed) << (4 * (index % 2));
            }
        }
        for listed in self.list.drain(..) {
            out.push(listed.slot as u8);
            if listed.new {
                out.push(listed.atom.as_str().len() as u8);
                out.extend_from_slice(listed.atom.as_str().as_bytes());
                self.slots.insert(listed.slot, listed.atom);
                any_new = true;
            }
        }
        any_new
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::any_atom;

    fn read(atoms: &mut AtomsIn, bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut table = Vec::new();
        let mut reader = Reader::new(bytes);
        atoms.read(&mut reader, &mut table)?;
        assert!(reader.is_empty());
        Ok(table.iter().map(|listed| listed.atom.as_str().to_owned()).collect())
    }

    /// What OTP 27 wrote for `{svc, F} ! {hello, world}`, its first message.
    #[test]
    fn a_list_is_read_as_a_real_node_writes_it() {
        let list =
            b"\x05\x89\x98\x08\x08\x0dw27@127.0.0.1\x05\x00\x03\x03svc\x61\x05hello\x04\x05world";
        let mut atoms = AtomsIn::default();
        let texts = read(&mut atoms, list).unwrap();
        assert_eq!(texts, ["w27@127.0.0.1", "", "svc", "hello", "world"]);
        assert_eq!(read(&mut atoms, b"\x01\x01\x08").unwrap(), ["w27@127.0.0.1"]);
    }

    #[test]
    fn an_atom_is_new_once() {
        let mut out = AtomsOut::default();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            out.begin();
            assert_eq!(out.index(&crate::atom!("a@127.0.0.1")), Some(0));
            let mut bytes = Vec::new();
            out.finish(&mut bytes);
            sizes.push(bytes.len());
        }
        assert_eq!(sizes, [15, 3, 3]);
    }

    #[test]
    fn an_atom_of_a_frame_that_was_given_up_is_still_new() {
        let (mut out, mut atoms) = (AtomsOut::default(), AtomsIn::default());
        out.begin();
        out.index(&crate::atom!("lost"));
        out.begin();
        out.index(&crate::atom!("lost"));
        let mut bytes = Vec::new();
        out.finish(&mut bytes);
        assert_eq!(read(&mut atoms, &bytes).unwrap(), ["lost"]);
    }

    #[test]
    fn lengths_of_16_bits_are_read() {
        let text = "ä".repeat(200);
        let bytes = [b"\x01\x18\x07\x01\x90".as_slice(), text.as_bytes()].concat();
        assert_eq!(read(&mut AtomsIn::default(), &bytes).unwrap(), [text]);
    }

    #[test]
    fn a_slot_nobody_filled_and_a_list_that_ends_early_are_errors() {
        for bytes in [b"\x01\x00\x05".as_slice(), b"\x02\x88", b"\xff", b"\x01\x08\x05\x09abc", b""]
        {
            assert!(AtomsIn::default().read(&mut Reader::new(bytes), &mut Vec::new()).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_listed_is_read(
            frames in proptest::collection::vec(proptest::collection::vec(any_atom(), 0..40), 1..20),
        ) {
            let (mut out, mut atoms) = (AtomsOut::default(), AtomsIn::default());
            for frame in frames {
                out.begin();
                let places: Vec<_> = frame.iter().map(|atom| out.index(atom)).collect();
                let mut bytes = Vec::new();
                out.finish(&mut bytes);
                let table = read(&mut atoms, &bytes).unwrap();
                for (atom, place) in frame.iter().zip(places) {
                    if let Some(place) = place {
                        prop_assert_eq!(&table[usize::from(place)], atom.as_str());
                    }
                }
            }
        }
    }
}

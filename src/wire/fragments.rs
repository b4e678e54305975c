//! Large messages that come in pieces, put together again.
//!
//! ```text
//! 131 69 Sequence:64 Fragment:64 Atoms Control PayloadStart     the first piece
//! 131 70 Sequence:64 Fragment:64 Bytes                          the others
//! ```
//!
//! The fragments of a sequence count down to 1. Those of other sequences and whole frames may come
//! between. Source: *External Term Format*, chapter "Distribution Header for fragmented messages".

use rustc_hash::FxHashMap;

use super::atom_cache::AtomIn;

/// What an open sequence costs beside its bytes and its list of atoms.
const OVERHEAD: usize = 256;

/// Bounds on what one connection's peer may leave unfinished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a peer can't leave anything else unfinished")]
pub struct FragmentLimits {
    /// Sequences begun and not ended.
    pub sequences: usize,
    /// Bytes of them all, each counted with some 256 bytes and its list of atoms.
    pub bytes: usize,
    /// Bytes of one.
    pub message: usize,
}

/// The sequences of one connection that have begun and not ended.
#[derive(Debug)]
pub(super) struct Fragments {
    open: FxHashMap<u64, Open>,
    bytes: usize,
    /// Bytes that have come of those that are open, and those they may be in the end.
    came: usize,
    expected: usize,
    limits: FragmentLimits,
}

#[derive(Debug)]
struct Open {
    /// The fragment that must come next.
    next: u64,
    atoms: Vec<AtomIn>,
    bytes: Vec<u8>,
    /// How many bytes it may be in the end, by its first fragment.
    expected: usize,
}

impl Open {
    /// What it takes up before any of its bytes.
    fn overhead(atoms: &[AtomIn]) -> usize {
        OVERHEAD + size_of_val(atoms)
    }
}

/// A sequence that is complete: what would stand in one frame behind the list of atoms.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Whole {
    pub(super) atoms: Vec<AtomIn>,
    pub(super) bytes: Vec<u8>,
}

/// Fragments that don't make messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// A sequence begins with fragment 0: they count down to 1.
    #[error("a sequence begins with fragment 0")]
    Zero,
    /// A sequence begins that has begun and not ended.
    #[error("sequence {sequence} begins twice")]
    Twice {
        /// Which one.
        sequence: u64,
    },
    /// A further fragment of a sequence that hasn't begun.
    #[error("a fragment of sequence {sequence}, which hasn't begun")]
    Unknown {
        /// Which one.
        sequence: u64,
    },
    /// A fragment out of order.
    #[error("fragment {found} of a sequence whose next is {expected}")]
    OutOfOrder {
        /// Which had to come.
        expected: u64,
        /// Which came.
        found: u64,
    },
    /// Too many sequences are open at once.
    #[error("more than {limit} sequences of fragments at once")]
    TooManySequences {
        /// How many may be.
        limit: usize,
    },
    /// Open sequences hold too many bytes, or one does.
    #[error("more than {limit} bytes in fragments")]
    TooManyBytes {
        /// How many may be.
        limit: usize,
    },
}

impl Fragments {
    pub(super) fn new(limits: FragmentLimits) -> Self {
        Self { open: FxHashMap::default(), bytes: 0, came: 0, expected: 0, limits }
    }

    /// Bytes that have come of the sequences which are open, and how many these may be in the end: an estimate by
    /// what their first fragments claim.
    pub(super) fn unfinished(&self) -> (usize, usize) {
        (self.came, self.expected)
    }

    /// A sequence begins. `fragment` is also the count of its fragments, which is a claim.
    pub(super) fn first(
        &mut self,
        sequence: u64,
        fragment: u64,
        atoms: &[AtomIn],
        bytes: &[u8],
    ) -> Result<Option<Whole>, FragmentError> {
        if fragment == 0 {
            return Err(FragmentError::Zero);
        }
        if self.open.contains_key(&sequence) {
            return Err(FragmentError::Twice { sequence });
        }
        let limit = self.limits.sequences;
        if self.open.len() >= limit {
            return Err(FragmentError::TooManySequences { limit });
        }
        let (limit, overhead) = (self.limits.bytes, Open::overhead(atoms));
        if self.bytes + overhead > limit {
            return Err(FragmentError::TooManyBytes { limit });
        }
        self.bytes += overhead;
        let claimed = usize::try_from(fragment).unwrap_or(usize::MAX).saturating_mul(bytes.len());
        let expected = claimed.min(self.limits.message);
        self.expected += expected;
        let open = Open { next: fragment, atoms: atoms.to_vec(), bytes: Vec::new(), expected };
        self.open.insert(sequence, open);
        self.add(sequence, fragment, bytes)
    }

    /// Any fragment, of a sequence that has begun.
    pub(super) fn add(
        &mut self,
        sequence: u64,
        fragment: u64,
        bytes: &[u8],
    ) -> Result<Option<Whole>, FragmentError> {
        let open = self.open.get_mut(&sequence).ok_or(FragmentError::Unknown { sequence })?;
        if open.next != fragment {
            return Err(FragmentError::OutOfOrder { expected: open.next, found: fragment });
        }
        for (held, limit) in
            [(self.bytes, self.limits.bytes), (open.bytes.len(), self.limits.message)]
        {
            if held + bytes.len() > limit {
                return Err(FragmentError::TooManyBytes { limit });
            }
        }
        self.bytes += bytes.len();
        self.came += bytes.len();
        open.bytes.extend_from_slice(bytes);
        open.next -= 1;
        if open.next > 0 {
            return Ok(None);
        }
        let whole = self.open.remove(&sequence);
        Ok(whole.map(|Open { atoms, bytes, expected, .. }| {
            self.bytes -= bytes.len() + Open::overhead(&atoms);
            self.came -= bytes.len();
            self.expected -= expected;
            Whole { atoms, bytes }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragments() -> Fragments {
        let bytes = 10 + 2 * OVERHEAD;
        Fragments::new(FragmentLimits { sequences: 2, bytes, message: 8 })
    }

    fn whole(bytes: &[u8]) -> Whole {
        Whole { atoms: Vec::new(), bytes: bytes.to_vec() }
    }

    #[test]
    fn sequences_may_cross() {
        let mut fragments = fragments();
        assert_eq!(fragments.first(7, 2, &[], b"ab"), Ok(None));
        assert_eq!(fragments.first(8, 3, &[], b"A"), Ok(None));
        assert_eq!(fragments.unfinished(), (3, 2 * 2 + 3));
        assert_eq!(fragments.add(8, 2, b"B"), Ok(None));
        assert_eq!(fragments.add(7, 1, b"c"), Ok(Some(whole(b"abc"))));
        assert_eq!(fragments.add(8, 1, b"C"), Ok(Some(whole(b"ABC"))));
        assert_eq!((fragments.bytes, fragments.unfinished()), (0, (0, 0)));
        assert_eq!(fragments.first(9, 1, &[], b"x"), Ok(Some(whole(b"x"))));
    }

    #[test]
    fn a_wrong_order_is_an_error_and_so_is_a_sequence_without_a_beginning() {
        let mut fragments = fragments();
        assert_eq!(fragments.add(7, 1, b""), Err(FragmentError::Unknown { sequence: 7 }));
        assert_eq!(fragments.first(7, 0, &[], b""), Err(FragmentError::Zero));
        assert_eq!(fragments.first(7, 3, &[], b""), Ok(None));
        assert_eq!(fragments.first(7, 3, &[], b""), Err(FragmentError::Twice { sequence: 7 }));
        let error = FragmentError::OutOfOrder { expected: 2, found: 1 };
        assert_eq!(fragments.add(7, 1, b""), Err(error));
    }

    #[test]
    fn what_is_unfinished_has_a_bound() {
        let error = |limit| Err(FragmentError::TooManyBytes { limit });
        let mut one = fragments();
        assert_eq!(one.first(1, 9, &[], b"12345678"), Ok(None));
        assert_eq!(one.add(1, 8, b"9"), error(8));
        assert_eq!(one.first(2, 9, &[], b"123"), error(10 + 2 * OVERHEAD));

        let limits = FragmentLimits { sequences: 1000, bytes: 10 * OVERHEAD, message: 8 };
        let mut empty = Fragments::new(limits);
        for sequence in 0..10 {
            assert_eq!(empty.first(sequence, 2, &[], b""), Ok(None));
        }
        assert_eq!(empty.first(10, 2, &[], b""), error(10 * OVERHEAD));
        assert_eq!(empty.add(3, 1, b""), Ok(Some(whole(b""))));
        assert_eq!(empty.first(10, 2, &[], b""), Ok(None));

        let mut many = fragments();
        assert_eq!(many.first(1, u64::MAX, &[], b""), Ok(None));
        assert_eq!(many.first(2, u64::MAX, &[], b""), Ok(None));
        let error = FragmentError::TooManySequences { limit: 2 };
        assert_eq!(many.first(3, 1, &[], b""), Err(error));
    }
}

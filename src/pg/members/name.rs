//! Names of groups with their hash, which is made once and then kept: a table that grows doesn't look at
//! the names again, and two names are compared only if their hashes are equal.

use std::hash::{BuildHasher, Hash, Hasher};

use super::hash::Secret;
use crate::term::Term;

/// A group's name.
#[derive(Clone, Debug)]
pub(in crate::pg) struct Name {
    hash: u64,
    term: Term,
}

impl Name {
    pub(in crate::pg) fn of(term: &Term) -> Self {
        Self::with_hash(Self::hash_of(term), term)
    }

    pub(in crate::pg) fn term(&self) -> &Term {
        &self.term
    }

    /// The hash of such a name.
    pub(super) fn hash_of(term: &Term) -> u64 {
        Secret.hash_one(term)
    }

    /// The name whose hash is this.
    pub(super) fn with_hash(hash: u64, term: &Term) -> Self {
        Self { hash, term: term.clone() }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn is(&self, hash: u64, term: &Term) -> bool {
        self.hash == hash && self.term == *term
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.term == other.term
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The hash that a name already has.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::pg) struct Hashed(u64);

impl BuildHasher for Hashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a name gives its hash and nothing else");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

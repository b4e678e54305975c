//! Names of groups with their hash, which is made once and then kept: a table that grows doesn't look at
//! the names again, and two names are compared only if their hashes are equal.

use std::hash::BuildHasher;

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
        Self::with_hash(Self::hash_of(term), term.clone())
    }

    pub(in crate::pg) fn term(&self) -> &Term {
        &self.term
    }

    /// The hash of such a name.
    pub(super) fn hash_of(term: &Term) -> u64 {
        Secret.hash_one(term)
    }

    /// The name whose hash is this.
    pub(super) fn with_hash(hash: u64, term: Term) -> Self {
        Self { hash, term }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn is(&self, hash: u64, term: &Term) -> bool {
        self.hash == hash && self.term == *term
    }
}

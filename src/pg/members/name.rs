//! Names of groups with their hash, which is made once and then kept: a table that grows doesn't look at
//! the names again, and two names are compared only if their hashes are equal.

use std::hash::{BuildHasher, Hash, Hasher};

use scc::Equivalent;

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
        Self { hash: Secret.hash_one(term), term: term.clone() }
    }

    pub(in crate::pg) fn term(&self) -> &Term {
        &self.term
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

/// A name that is looked for.
#[derive(Debug)]
pub(super) struct Sought<'a> {
    hash: u64,
    term: &'a Term,
}

impl<'a> Sought<'a> {
    pub(super) fn of(term: &'a Term) -> Self {
        Self { hash: Secret.hash_one(term), term }
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Name> for Sought<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        self.hash == name.hash && *self.term == name.term
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

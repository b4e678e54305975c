//! Numbers that don't fit a plain `i64`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::Term;

/// An integer beyond 64 bits. Made by `Term::from(BigInt)`, which keeps small ones out of here.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BigInteger(Arc<BigInt>);

impl BigInteger {
    /// Its value.
    pub fn value(&self) -> &BigInt {
        &self.0
    }
}

impl From<BigInt> for Term {
    fn from(value: BigInt) -> Self {
        match value.to_i64() {
            Some(small) => Self::Integer(small),
            None => Self::BigInteger(BigInteger(Arc::new(value))),
        }
    }
}

impl From<u64> for Term {
    fn from(value: u64) -> Self {
        match i64::try_from(value) {
            Ok(small) => Self::Integer(small),
            Err(_) => BigInt::from(value).into(),
        }
    }
}

/// A finite float. `0.0` and `-0.0` differ, as they do by `=:=` from OTP 27 on.
#[derive(Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// `None` for infinities and NaN, which Erlang doesn't have.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value))
    }

    /// Its value, always finite.
    pub fn value(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Float {}

impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

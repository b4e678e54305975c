//! Maps: sorted by key, so that equal maps are equal slices.

use std::sync::Arc;

use super::Term;
use super::order::cmp_keys;

/// A map of terms, sorted by key in the order of map keys (integers before floats).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Map(Arc<[(Term, Term)]>);

/// A map was given the same key twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key stands twice in a map")]
pub struct DuplicateKey;

impl Map {
    /// A map of these pairs, in any order.
    ///
    /// # Errors
    ///
    /// [`DuplicateKey`] when two keys are equal by `=:=`; the BEAM refuses such bytes too.
    pub fn new(mut pairs: Vec<(Term, Term)>) -> Result<Self, DuplicateKey> {
        pairs.sort_unstable_by(|(a, _), (b, _)| cmp_keys(a, b));
        if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(DuplicateKey);
        }
        Ok(Self(pairs.into()))
    }

    /// The value of a key.
    pub fn get(&self, key: &Term) -> Option<&Term> {
        let place = self.0.binary_search_by(|(k, _)| cmp_keys(k, key)).ok()?;
        Some(&self.0[place].1)
    }

    /// All pairs, sorted by key.
    pub fn pairs(&self) -> &[(Term, Term)] {
        &self.0
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it's `#{}`.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of pairs with the same key the last counts, as in `maps:from_list/1`.
impl FromIterator<(Term, Term)> for Map {
    fn from_iter<I: IntoIterator<Item = (Term, Term)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.reverse();
        pairs.sort_by(|(a, _), (b, _)| cmp_keys(a, b));
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(pairs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atom, map};

    #[test]
    fn maps_are_equal_in_any_order_of_keys() {
        assert_eq!(map! { atom!("b") => 2, 1 => 1 }, map! { 1 => 1, atom!("b") => 2 });
    }

    #[test]
    fn a_key_given_twice_is_refused_or_the_last_wins() {
        let pairs = vec![(Term::from(1), Term::from(10)), (1.into(), 20.into())];
        assert_eq!(Map::new(pairs.clone()), Err(DuplicateKey));
        let map: Map = pairs.into_iter().collect();
        assert_eq!(map.get(&1.into()), Some(&20.into()));
    }

    #[test]
    fn an_integer_and_its_float_are_two_keys() {
        let map: Map =
            [(Term::from(1), Term::from(1)), (Term::float_of(1.0).unwrap(), Term::from(2))]
                .into_iter()
                .collect();
        assert_eq!(map.len(), 2);
        assert_eq!(map.get(&Term::float_of(1.0).unwrap()), Some(&2.into()));
    }
}

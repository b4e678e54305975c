//! Terms without negative zeros.
//!
//! Before OTP 27 `0.0 =:= -0.0`. A `pg` of that age takes groups named by the two for one, and dies
//! of the second leave; so what we name a thing by that other nodes hold as well, a group or a key,
//! has none. What peers tell of theirs stays as it is.

use std::sync::Arc;

use super::{Map, Term};

impl Term {
    /// The same term with every `-0.0` in it, at any depth, turned into `0.0`.
    #[must_use]
    pub fn with_positive_zeros(&self) -> Self {
        if has_negative(self) { turned(self) } else { self.clone() }
    }
}

fn has_negative(term: &Term) -> bool {
    match term {
        Term::Float(float) => float.value() == 0.0 && float.value().is_sign_negative(),
        Term::Tuple(elements) => elements.iter().any(has_negative),
        Term::List(list) => list.iter().any(has_negative),
        Term::ImproperList(list) => {
            list.elements().iter().any(has_negative) || has_negative(list.tail())
        }
        Term::Map(map) => map.pairs().iter().any(|(k, v)| has_negative(k) || has_negative(v)),
        _ => false,
    }
}

fn turned(term: &Term) -> Term {
    match term {
        Term::Float(float) if float.value() == 0.0 => {
            Term::float_of(0.0).unwrap_or_else(|| term.clone())
        }
        Term::Tuple(elements) => Term::Tuple(elements.iter().map(turned).collect::<Arc<[_]>>()),
        Term::List(list) => Term::list_of(list.iter().map(turned)),
        Term::ImproperList(list) => {
            let elements = list.elements().iter().map(turned).collect();
            Term::list_with_tail(elements, turned(list.tail()))
        }
        Term::Map(map) => {
            let pairs = map.pairs().iter().map(|(key, value)| (turned(key), turned(value)));
            Term::Map(pairs.collect::<Map>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atom, list, map, tuple};

    #[test]
    fn zeros_become_positive_at_any_depth_and_nothing_else_changes() {
        let named = |zero: f64| {
            let zero = Term::float_of(zero).unwrap();
            let tail = Term::list_with_tail(vec![1.into()], zero.clone());
            tuple![atom!("a"), list![&zero, 1], map! { &zero => &zero }, tail]
        };
        assert_ne!(named(0.0), named(-0.0));
        assert_eq!(named(-0.0).with_positive_zeros(), named(0.0));
        assert_eq!(named(-0.5).with_positive_zeros(), named(-0.5));
    }
}

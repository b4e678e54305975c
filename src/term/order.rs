//! Erlang's term order.
//!
//! The BEAM has two orders. That of `<` and `==` compares an integer with a float by value, so
//! some terms that differ are equal: `1` and `1.0`, `0.0` and `-0.0`, closures of two versions of
//! their module. That of map keys tells all terms apart: integers come before floats. [`Term`]'s
//! [`Ord`] is the first one and, where that finds no difference in the whole of two terms, the
//! second; so sorting gives what `lists:sort/1` gives, and `Equal` means `=:=`.
//!
//! Source: `erts_cmp_compound`, and what nodes of OTP 27 and 29 answered.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_traits::FromPrimitive;

use super::{Float, Fun, Map, Pid, Port, Record, Term};

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other, By::Value).then_with(|| compare(self, other, By::Identity))
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of map keys.
pub(super) fn cmp_keys(a: &Term, b: &Term) -> Ordering {
    compare(a, b, By::Identity)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum By {
    /// The order of `<` and `==`.
    Value,
    /// The order of map keys; `Equal` means `=:=`.
    Identity,
}

fn compare(a: &Term, b: &Term, by: By) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Integer(b)) => a.cmp(b),
        (Term::Atom(a), Term::Atom(b)) => a.cmp(b),
        (Term::Reference(a), Term::Reference(b)) => a.cmp(b),
        (Term::Fun(a), Term::Fun(b)) => compare_funs(a, b, by),
        (Term::Port(a), Term::Port(b)) => a.cmp(b),
        (Term::Pid(a), Term::Pid(b)) => a.cmp(b),
        (Term::Tuple(a), Term::Tuple(b)) => compare_by_length_first(a, b, by),
        (Term::Record(a), Term::Record(b)) => compare_records(a, b, by),
        (Term::Map(a), Term::Map(b)) => compare_maps(a, b, by),
        _ => rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
            Rank::Number => compare_numbers(a, b, by),
            Rank::List => compare_lists(a, b, by),
            // The unused bits are 0, so the shorter of two that begin alike is never greater.
            Rank::BitString => bits(a).cmp(&bits(b)),
            // `[]`; two terms of any other rank were compared above.
            _ => Ordering::Equal,
        }),
    }
}

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Number,
    Atom,
    Reference,
    Fun,
    Port,
    Pid,
    Tuple,
    Record,
    Map,
    Nil,
    List,
    BitString,
}

fn rank(term: &Term) -> Rank {
    match term {
        Term::Integer(_) | Term::BigInteger(_) | Term::Float(_) => Rank::Number,
        Term::Atom(_) => Rank::Atom,
        Term::Reference(_) => Rank::Reference,
        Term::Fun(_) => Rank::Fun,
        Term::Port(_) => Rank::Port,
        Term::Pid(_) => Rank::Pid,
        Term::Tuple(_) => Rank::Tuple,
        Term::Record(_) => Rank::Record,
        Term::Map(_) => Rank::Map,
        Term::List(list) if list.is_empty() => Rank::Nil,
        Term::List(_) | Term::ImproperList(_) => Rank::List,
        Term::Binary(_) | Term::BitString(_) => Rank::BitString,
    }
}

fn compare_by_length_first(a: &[Term], b: &[Term], by: By) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| compare_each(a, b, by))
}

fn compare_each(a: &[Term], b: &[Term], by: By) -> Ordering {
    first_difference(a.iter().zip(b).map(|(a, b)| compare(a, b, by)))
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The size, then all keys in the order of map keys, then the values.
fn compare_maps(a: &Map, b: &Map, by: By) -> Ordering {
    let pairs = || a.pairs().iter().zip(b.pairs());
    a.len()
        .cmp(&b.len())
        .then_with(|| first_difference(pairs().map(|((a, _), (b, _))| cmp_keys(a, b))))
        .then_with(|| first_difference(pairs().map(|((_, a), (_, b))| compare(a, b, by))))
}

/// Closures before functions of a module that are called by name. Of the two numbers for the version
/// of a module, the BEAM compares the older one.
fn compare_funs(a: &Fun, b: &Fun, by: By) -> Ordering {
    match (a, b) {
        (
            Fun::External { module: a_module, function: a_function, arity: a_arity },
            Fun::External { module: b_module, function: b_function, arity: b_arity },
        ) => (a_module, a_function, a_arity).cmp(&(b_module, b_function, b_arity)),
        (Fun::External { .. }, Fun::Internal { .. }) => Ordering::Greater,
        (Fun::Internal { .. }, Fun::External { .. }) => Ordering::Less,
        (
            Fun::Internal {
                module: a_module,
                index: a_index,
                old_uniq: a_old_uniq,
                uniq: a_uniq,
                arity: a_arity,
                free: a_free,
                ..
            },
            Fun::Internal {
                module: b_module,
                index: b_index,
                old_uniq: b_old_uniq,
                uniq: b_uniq,
                arity: b_arity,
                free: b_free,
                ..
            },
        ) => (a_module, a_index, a_old_uniq)
            .cmp(&(b_module, b_index, b_old_uniq))
            .then_with(|| compare_by_length_first(a_free, b_free, by))
            .then_with(|| match by {
                By::Value => Ordering::Equal,
                By::Identity => (a_uniq, a_arity).cmp(&(b_uniq, b_arity)),
            }),
    }
}

fn compare_records(a: &Record, b: &Record, by: By) -> Ordering {
    let fields = || a.fields.iter().zip(&b.fields);
    (&a.module, &a.name, a.flags, a.fields.len())
        .cmp(&(&b.module, &b.name, b.flags, b.fields.len()))
        .then_with(|| first_difference(fields().map(|((a, _), (b, _))| a.cmp(b))))
        .then_with(|| first_difference(fields().map(|((_, a), (_, b))| compare(a, b, by))))
}

fn compare_lists(a: &Term, b: &Term, by: By) -> Ordering {
    let ((a, a_tail), (b, b_tail)) = (cells(a), cells(b));
    compare_each(a, b, by).then_with(|| match a.len().cmp(&b.len()) {
        Ordering::Equal => compare(a_tail, b_tail, by),
        // The shorter one's tail meets a list cell.
        Ordering::Less => rank(a_tail).cmp(&Rank::List),
        Ordering::Greater => Rank::List.cmp(&rank(b_tail)),
    })
}

fn cells(term: &Term) -> (&[Term], &Term) {
    const NIL: &Term = &Term::NIL;
    match term {
        Term::List(list) => (list, NIL),
        Term::ImproperList(list) => (list.elements(), list.tail()),
        _ => (&[], term),
    }
}

fn bits(term: &Term) -> (&[u8], u8) {
    match term {
        Term::Binary(bytes) => (bytes, 8),
        Term::BitString(bits) => (bits.bytes(), bits.last_bits()),
        _ => (&[], 8),
    }
}

// --- numbers ----------------------------------------------------------------------------------

fn compare_numbers(a: &Term, b: &Term, by: By) -> Ordering {
    match (a, b) {
        (Term::BigInteger(a), Term::BigInteger(b)) => a.value().cmp(b.value()),
        (Term::BigInteger(a), Term::Integer(_)) => sign(a.value()),
        (Term::Integer(_), Term::BigInteger(b)) => sign(b.value()).reverse(),
        (Term::Float(a), Term::Float(b)) => match by {
            By::Value => a.value().partial_cmp(&b.value()).unwrap_or(Ordering::Equal),
            By::Identity => a.value().total_cmp(&b.value()),
        },
        (a, Term::Float(b)) => match by {
            By::Value => compare_integer_to_float(a, *b),
            By::Identity => Ordering::Less,
        },
        (Term::Float(a), b) => match by {
            By::Value => compare_integer_to_float(b, *a).reverse(),
            By::Identity => Ordering::Greater,
        },
        _ => Ordering::Equal, // Two small integers were compared before.
    }
}

/// How an integer beyond 64 bits compares to any of 64 bits.
fn sign(big: &BigInt) -> Ordering {
    if big.sign() == Sign::Minus { Ordering::Less } else { Ordering::Greater }
}

/// By value, exactly: the integer isn't rounded to a float.
fn compare_integer_to_float(integer: &Term, float: Float) -> Ordering {
    /// The first float beyond all of `i64`; every one from here on is whole.
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

    let float = float.value();
    match integer {
        Term::Integer(_) if float >= TWO_TO_63 => Ordering::Less,
        Term::Integer(_) if float < -TWO_TO_63 => Ordering::Greater,
        Term::Integer(integer) => {
            let whole = float.trunc();
            integer.cmp(&(whole as i64)).then_with(|| {
                // What was cut off, if anything, decides.
                whole.partial_cmp(&float).unwrap_or(Ordering::Equal)
            })
        }
        Term::BigInteger(integer) if float.abs() >= TWO_TO_63 => {
            BigInt::from_f64(float).map_or(Ordering::Equal, |float| integer.value().cmp(&float))
        }
        Term::BigInteger(integer) => sign(integer.value()),
        _ => Ordering::Equal,
    }
}

// --- processes and ports ----------------------------------------------------------------------

/// As on the BEAM: the numbers first, then the node.
impl Ord for Pid {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.serial, self.id, &self.node, self.creation).cmp(&(
            other.serial,
            other.id,
            &other.node,
            other.creation,
        ))
    }
}

impl PartialOrd for Pid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As on the BEAM: the node, then the number.
impl Ord for Port {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.node, self.creation, self.id).cmp(&(&other.node, other.creation, other.id))
    }
}

impl PartialOrd for Port {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use proptest::prelude::*;

    use super::*;
    use crate::term::testing;
    use crate::{atom, list, map, tuple};

    /// Each is less than the next.
    #[track_caller]
    fn assert_ascending(terms: &[Term]) {
        for (i, a) in terms.iter().enumerate() {
            for (j, b) in terms.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    fn float(value: f64) -> Term {
        Term::float_of(value).unwrap()
    }

    fn parse(text: &str) -> Term {
        text.parse().unwrap()
    }

    #[test]
    fn kinds_of_terms_have_a_fixed_order() {
        let node = || "a@b".parse().unwrap();
        let creation = super::super::Creation(1);
        let record = Record { flags: 0, module: atom!("m"), name: atom!("r"), fields: Vec::new() };
        assert_ascending(&[
            1.into(),
            atom!("a").into(),
            super::super::Reference::new(node(), creation, &[1]).unwrap().into(),
            parse("fun a:b/1"),
            Port { node: node(), creation, id: 1 }.into(),
            Pid { node: node(), id: 1, serial: 0, creation }.into(),
            tuple![1, 2, 3],
            Term::Record(record.into()),
            map! {},
            list![],
            list![1],
            Term::binary_of([]),
        ]);
    }

    #[test]
    fn integers_and_floats_compare_by_value_beyond_the_precision_of_floats() {
        let texts = [
            "-1.0e300",
            "-9223372036854775809",
            "-9223372036854775808",
            "-9.223372036854775808e18",
            "-1.5",
            "-1",
            "-1.0",
            "-0.5",
            "0",
            "-0.0",
            "0.0",
            "0.5",
            "1",
            "1.0",
            "1.5",
            "9007199254740992",
            "9007199254740992.0",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "9.223372036854775808e18",
            "9223372036854775809",
            "1000000000000000000000000",
            "1.0e300",
        ];
        assert_ascending(&texts.map(parse));
    }

    #[test]
    fn a_float_for_an_integer_decides_only_when_nothing_else_does() {
        assert_ascending(&["{1,a}", "{1.0,a}", "{1,b}", "{1.0,b}", "{2,a}"].map(parse));
        assert_ascending(
            &["#{a => 1,b => 2}", "#{a => 1.0,b => 2}", "#{a => 1,b => 3}"].map(parse),
        );
    }

    #[test]
    fn integers_come_before_floats_among_the_keys_of_a_map() {
        assert_ascending(&["#{2 => a}", "#{1.0 => a}", "#{1 => a,2 => a}"].map(parse));
        assert_ascending(&["#{{2} => a}", "#{{1.0} => a}"].map(parse));
        assert_ascending(&["#{#{a => 2} => a}", "#{#{a => 1.0} => a}"].map(parse));
        assert_eq!(map! { float(1.0) => 1, 2 => 2 }.to_string(), "#{2 => 2,1.0 => 1}");
    }

    #[test]
    fn lists_compare_by_element_and_then_by_what_follows() {
        assert_ascending(
            &["[]", "[a|1]", "[a|b]", "[a|{}]", "[a]", "[a,a]", "[a,b|c]", "[a|<<>>]", "[b]"]
                .map(parse),
        );
    }

    #[test]
    fn bit_strings_compare_bit_by_bit() {
        assert_ascending(
            &["<<>>", "<<0:1>>", "<<0>>", "<<0,0:1>>", "<<1:2>>", "<<65>>", "<<1:1>>", "<<128>>"]
                .map(parse),
        );
    }

    #[test]
    fn closures_compare_by_module_and_place_and_then_by_what_they_hold() {
        let fun = |module, index, old_uniq, uniq: u8, arity, free: &[Term]| {
            Term::Fun(
                Fun::Internal {
                    arity,
                    uniq: [uniq; 16],
                    index,
                    module,
                    old_index: 0,
                    old_uniq,
                    pid: Pid {
                        node: "a@b".parse().unwrap(),
                        id: u32::from(uniq),
                        serial: 0,
                        creation: super::super::Creation(1),
                    },
                    free: free.to_vec(),
                }
                .into(),
            )
        };
        assert_ascending(&[
            fun(atom!("m"), 1, 3, 9, 9, &[]),
            fun(atom!("m"), 2, 0, 9, 9, &[]),
            fun(atom!("m"), 2, 1, 1, 1, &[9.into()]),
            fun(atom!("m"), 2, 1, 1, 2, &[9.into()]),
            fun(atom!("m"), 2, 1, 2, 1, &[9.into()]),
            fun(atom!("m"), 2, 1, 1, 1, &[1.into(), 2.into()]),
            fun(atom!("n"), 0, 1, 1, 1, &[]),
            parse("fun a:b/1"),
            parse("fun a:b/2"),
            parse("fun a:c/1"),
        ]);
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_agrees_with_equality_and_hash(
            a in testing::term(),
            b in testing::term(),
        ) {
            let hash = |term: &Term| BuildHasherDefault::<rustc_hash::FxHasher>::default().hash_one(term);
            for (order, equal) in [(a.cmp(&b), a == b), (cmp_keys(&a, &b), a == b)] {
                prop_assert_eq!(order.is_eq(), equal);
            }
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a == b {
                prop_assert_eq!(hash(&a), hash(&b));
            }
        }

        #[test]
        fn sorted_terms_are_in_order_whichever_two_are_compared(
            mut terms in proptest::collection::vec(testing::older(), 0..12),
        ) {
            terms.sort();
            for pair in terms.iter().enumerate().flat_map(|(i, a)| terms[i..].iter().map(move |b| (a, b))) {
                prop_assert!(pair.0 <= pair.1, "{} and {}", pair.0, pair.1);
            }
            terms.sort_by(cmp_keys);
            for pair in terms.iter().enumerate().flat_map(|(i, a)| terms[i..].iter().map(move |b| (a, b))) {
                prop_assert!(cmp_keys(pair.0, pair.1).is_le(), "{} and {}", pair.0, pair.1);
            }
        }
    }
}

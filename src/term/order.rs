//! Erlang's term order.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive};

use super::{Float, Pid, Port, Reference, Term};

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other, Numbers::ByValue)
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of map keys: as the term order, but every integer comes before every float.
pub(super) fn cmp_keys(a: &Term, b: &Term) -> Ordering {
    compare(a, b, Numbers::IntegersFirst)
}

#[derive(Clone, Copy)]
enum Numbers {
    ByValue,
    IntegersFirst,
}

fn compare(a: &Term, b: &Term, numbers: Numbers) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Integer(b)) => a.cmp(b),
        (Term::Atom(a), Term::Atom(b)) => a.cmp(b),
        (Term::Tuple(a), Term::Tuple(b)) => {
            a.len().cmp(&b.len()).then_with(|| compare_all(a, b, numbers))
        }
        (Term::Map(a), Term::Map(b)) => a.len().cmp(&b.len()).then_with(|| {
            let keys = a.pairs().iter().zip(b.pairs()).map(|((a, _), (b, _))| cmp_keys(a, b));
            let values = a.pairs().iter().zip(b.pairs());
            first_difference(keys).then_with(|| {
                first_difference(values.map(|((_, a), (_, b))| compare(a, b, numbers)))
            })
        }),
        (Term::Pid(a), Term::Pid(b)) => a.cmp(b),
        (Term::Reference(a), Term::Reference(b)) => a.cmp(b),
        (Term::Port(a), Term::Port(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
            Rank::Number => compare_numbers(a, b, numbers),
            Rank::List => compare_lists(a, b, numbers),
            Rank::BitString => {
                let ((a, a_bits), (b, b_bits)) = (bits(a), bits(b));
                a.cmp(b).then(a_bits.cmp(&b_bits))
            }
            // Funs and records: an order that is total, not the BEAM's, which depends on its memory.
            _ => format!("{a:?}").cmp(&format!("{b:?}")),
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

fn compare_all(a: &[Term], b: &[Term], numbers: Numbers) -> Ordering {
    first_difference(a.iter().zip(b).map(|(a, b)| compare(a, b, numbers)))
}

fn first_difference(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn compare_lists(a: &Term, b: &Term, numbers: Numbers) -> Ordering {
    let ((a, a_tail), (b, b_tail)) = (cells(a), cells(b));
    compare_all(a, b, numbers).then_with(|| match a.len().cmp(&b.len()) {
        Ordering::Equal => compare(a_tail, b_tail, numbers),
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

fn compare_numbers(a: &Term, b: &Term, numbers: Numbers) -> Ordering {
    match (a, b) {
        (Term::Float(a), Term::Float(b)) => a.value().total_cmp(&b.value()),
        (Term::Float(a), b) => match numbers {
            Numbers::IntegersFirst => Ordering::Greater,
            Numbers::ByValue => compare_integer_to_float(b, *a).reverse(),
        },
        (a, Term::Float(b)) => match numbers {
            Numbers::IntegersFirst => Ordering::Less,
            Numbers::ByValue => compare_integer_to_float(a, *b),
        },
        (a, b) => big(a).cmp(&big(b)),
    }
}

/// By value, exactly; the integer first when they are equal.
fn compare_integer_to_float(integer: &Term, float: Float) -> Ordering {
    let float = float.value();
    let whole = BigInt::from_f64(float.trunc()).unwrap_or_default();
    big(integer)
        .cmp(&whole)
        .then_with(|| if float.fract() < 0.0 { Ordering::Greater } else { Ordering::Less })
}

fn big(term: &Term) -> BigInt {
    match term {
        Term::Integer(value) => BigInt::from(*value),
        Term::BigInteger(value) => value.value().clone(),
        Term::Float(value) => BigInt::from(value.value().to_i64().unwrap_or_default()),
        _ => BigInt::default(),
    }
}

/// As on the BEAM: numbers first, then the node.
impl Ord for Pid {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.serial, self.id)
            .cmp(&(other.serial, other.id))
            .then_with(|| self.node.cmp(&other.node))
            .then_with(|| self.creation.cmp(&other.creation))
    }
}

impl PartialOrd for Pid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As on the BEAM: the node, then the words from the most significant down.
impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.node(), self.creation()).cmp(&(other.node(), other.creation())).then_with(|| {
            let (a, b) = (self.words(), other.words());
            a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
        })
    }
}

impl PartialOrd for Reference {
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

//! Terms from and to those of the crate `eetf`, for users who have such at hand.
//!
//! Nothing here takes part in talking to a node. Both directions may fail: `eetf` has no native
//! records and no bound on what it holds, we have no closures of the format before OTP 23.

use std::collections::HashMap;

use num_bigint::BigInt;

use crate::term::{Atom, Creation, Fun, Map, NodeName, Pid, Port, Reference, Term};
use crate::wire::MAX_DEPTH;

/// A term that has no counterpart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} has no counterpart")]
pub struct NoCounterpart {
    /// What it is, in words.
    pub what: &'static str,
}

const fn no<T>(what: &'static str) -> Result<T, NoCounterpart> {
    Err(NoCounterpart { what })
}

/// Lists of bytes become [`eetf::ByteList`] where the wire has a string, as in `eetf`'s own decoder.
impl TryFrom<&Term> for eetf::Term {
    type Error = NoCounterpart;

    /// # Errors
    ///
    /// [`NoCounterpart`] for native records, for maps with keys that `eetf` calls equal (`0.0` and
    /// `-0.0`), and for terms that nest more than [`MAX_DEPTH`] deep.
    fn try_from(term: &Term) -> Result<Self, NoCounterpart> {
        to_eetf(term, MAX_DEPTH + 1)
    }
}

impl TryFrom<&eetf::Term> for Term {
    type Error = NoCounterpart;

    /// # Errors
    ///
    /// [`NoCounterpart`] for what the BEAM would refuse too (atoms of more than 255 characters, node
    /// names without `@`, a key twice in a map), for closures of the old format, and for terms that
    /// nest more than [`MAX_DEPTH`] deep.
    fn try_from(term: &eetf::Term) -> Result<Self, NoCounterpart> {
        from_eetf(term, MAX_DEPTH + 1)
    }
}

fn to_eetf(term: &Term, depth: usize) -> Result<eetf::Term, NoCounterpart> {
    let Some(depth) = depth.checked_sub(1) else { return no("a term nested that deep") };
    let all = |terms: &[Term]| {
        terms.iter().map(|term| to_eetf(term, depth)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match term {
        Term::Integer(value) => match i32::try_from(*value) {
            Ok(value) => eetf::FixInteger { value }.into(),
            Err(_) => eetf::BigInteger { value: BigInt::from(*value) }.into(),
        },
        Term::BigInteger(value) => eetf::BigInteger { value: value.value().clone() }.into(),
        Term::Float(value) => eetf::Float { value: value.value() }.into(),
        Term::Atom(atom) => eetf_atom(atom).into(),
        Term::Reference(reference) => eetf::Term::from(eetf::Reference {
            node: eetf_atom(reference.node().atom()),
            id: reference.words().to_vec(),
            creation: reference.creation().0,
        }),
        Term::Fun(fun) => match &**fun {
            Fun::External { module, function, arity } => eetf::Term::from(eetf::ExternalFun {
                module: eetf_atom(module),
                function: eetf_atom(function),
                arity: *arity,
            }),
            Fun::Internal { arity, uniq, index, module, old_index, old_uniq, pid, free } => {
                eetf::Term::from(eetf::InternalFun::New {
                    module: eetf_atom(module),
                    arity: *arity,
                    pid: eetf_pid(pid),
                    free_vars: all(free)?,
                    index: *index,
                    uniq: *uniq,
                    old_index: old_index.cast_signed(),
                    old_uniq: old_uniq.cast_signed(),
                })
            }
        },
        Term::Port(port) => eetf::Term::from(eetf::Port {
            node: eetf_atom(port.node.atom()),
            id: port.id,
            creation: port.creation.0,
        }),
        Term::Pid(pid) => eetf_pid(pid).into(),
        Term::Tuple(elements) => eetf::Tuple { elements: all(elements)? }.into(),
        Term::Map(map) => {
            let pair = |(key, value): &(Term, Term)| -> Result<_, NoCounterpart> {
                Ok((to_eetf(key, depth)?, to_eetf(value, depth)?))
            };
            let theirs = map.pairs().iter().map(pair).collect::<Result<HashMap<_, _>, _>>()?;
            if theirs.len() < map.len() {
                return no("a map with both 0.0 and -0.0 as keys");
            }
            eetf::Map { map: theirs }.into()
        }
        Term::List(list) => {
            let byte = |term: &Term| term.integer().ok().and_then(|value| value.try_into().ok());
            match list.iter().map(byte).collect::<Option<Vec<u8>>>() {
                Some(bytes) if (1..=0xffff).contains(&bytes.len()) => {
                    eetf::ByteList { bytes }.into()
                }
                _ => eetf::List { elements: all(list)? }.into(),
            }
        }
        Term::ImproperList(list) => eetf::Term::from(eetf::ImproperList {
            elements: all(list.elements())?,
            last: Box::new(to_eetf(list.tail(), depth)?),
        }),
        Term::Binary(bytes) => eetf::Binary { bytes: bytes.to_vec() }.into(),
        Term::BitString(bits) => {
            // There the bits that count are the low ones of the last byte.
            let (mut bytes, tail_bits_size) = (bits.bytes().to_vec(), bits.last_bits());
            if let Some(last) = bytes.last_mut() {
                *last >>= 8 - tail_bits_size;
            }
            eetf::BitBinary { bytes, tail_bits_size }.into()
        }
        Term::Record(_) => return no("a native record"),
    })
}

fn eetf_atom(atom: &Atom) -> eetf::Atom {
    eetf::Atom { name: atom.as_str().to_owned() }
}

fn eetf_pid(pid: &Pid) -> eetf::Pid {
    let node = eetf_atom(pid.node.atom());
    eetf::Pid { node, id: pid.id, serial: pid.serial, creation: pid.creation.0 }
}

fn from_eetf(term: &eetf::Term, depth: usize) -> Result<Term, NoCounterpart> {
    let Some(depth) = depth.checked_sub(1) else { return no("a term nested that deep") };
    let all = |terms: &[eetf::Term]| {
        terms.iter().map(|term| from_eetf(term, depth)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match term {
        eetf::Term::Atom(atom) => Term::Atom(our_atom(atom)?),
        eetf::Term::FixInteger(integer) => integer.value.into(),
        eetf::Term::BigInteger(integer) => integer.value.clone().into(),
        eetf::Term::Float(float) => match Term::float_of(float.value) {
            Some(term) => term,
            None => return no("a float that isn't finite"),
        },
        eetf::Term::Pid(pid) => Term::Pid(our_pid(pid)?),
        eetf::Term::Port(port) => Term::Port(Port {
            node: our_node(&port.node)?,
            creation: Creation(port.creation),
            id: port.id,
        }),
        eetf::Term::Reference(reference) => {
            let node = our_node(&reference.node)?;
            match Reference::new(node, Creation(reference.creation), &reference.id) {
                Some(reference) => Term::Reference(reference),
                None => return no("a reference without 1 to 5 words"),
            }
        }
        eetf::Term::ExternalFun(fun) => Term::Fun(
            Fun::External {
                module: our_atom(&fun.module)?,
                function: our_atom(&fun.function)?,
                arity: fun.arity,
            }
            .into(),
        ),
        eetf::Term::InternalFun(fun) => Term::Fun(our_fun(fun, all)?.into()),
        eetf::Term::Binary(binary) => Term::binary_of(&binary.bytes),
        eetf::Term::BitBinary(bits) => {
            let mut bytes = bits.bytes.clone();
            let Some(last) = bytes.last_mut() else { return Ok(Term::binary_of([])) };
            *last = last.checked_shl(8_u32.saturating_sub(bits.tail_bits_size.into())).unwrap_or(0);
            match Term::bit_string_of(bytes, bits.tail_bits_size) {
                Some(term) => term,
                None => return no("a bit string with no last byte of 1 to 8 bits"),
            }
        }
        eetf::Term::ByteList(list) => Term::list_of(list.bytes.iter().map(|&b| Term::from(b))),
        eetf::Term::List(list) => Term::list_of(all(&list.elements)?),
        eetf::Term::ImproperList(list) => {
            Term::list_with_tail(all(&list.elements)?, from_eetf(&list.last, depth)?)
        }
        eetf::Term::Tuple(tuple) => Term::tuple_of(all(&tuple.elements)?),
        eetf::Term::Map(map) => {
            let pair = |(key, value)| -> Result<_, NoCounterpart> {
                Ok((from_eetf(key, depth)?, from_eetf(value, depth)?))
            };
            let pairs = map.map.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
            Term::Map(Map::new(pairs).or_else(|_| no("a map with a key twice"))?)
        }
    })
}

fn our_fun(
    fun: &eetf::InternalFun,
    all: impl Fn(&[eetf::Term]) -> Result<Vec<Term>, NoCounterpart>,
) -> Result<Fun, NoCounterpart> {
    let eetf::InternalFun::New { module, arity, pid, free_vars, index, uniq, old_index, old_uniq } =
        fun
    else {
        return no("a closure of the old format");
    };
    Ok(Fun::Internal {
        arity: *arity,
        uniq: *uniq,
        index: *index,
        module: our_atom(module)?,
        old_index: old_index.cast_unsigned(),
        old_uniq: old_uniq.cast_unsigned(),
        pid: our_pid(pid)?,
        free: all(free_vars)?,
    })
}

fn our_atom(atom: &eetf::Atom) -> Result<Atom, NoCounterpart> {
    Atom::new(&atom.name).or_else(|_| no("an atom of more than 255 characters"))
}

fn our_node(atom: &eetf::Atom) -> Result<NodeName, NoCounterpart> {
    NodeName::new(&atom.name).or_else(|_| no("an atom that is no node name"))
}

fn our_pid(pid: &eetf::Pid) -> Result<Pid, NoCounterpart> {
    let node = our_node(&pid.node)?;
    Ok(Pid { node, id: pid.id, serial: pid.serial, creation: Creation(pid.creation) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{map, tuple};

    #[test]
    fn what_eetf_cannot_hold_is_refused() {
        let zeros = map! { Term::float_of(0.0).unwrap() => 1, Term::float_of(-0.0).unwrap() => 2 };
        assert!(eetf::Term::try_from(&zeros).is_err());

        let nested = |depth| (0..depth).fold(Term::from(1), |term, _| tuple![term]);
        assert!(eetf::Term::try_from(&nested(MAX_DEPTH)).is_ok());
        assert!(eetf::Term::try_from(&nested(MAX_DEPTH + 1)).is_err());
    }

    #[test]
    fn what_the_beam_would_refuse_is_refused() {
        let pid = eetf::Pid { node: "a".into(), id: 1, serial: 0, creation: 0 };
        let long = eetf::Atom { name: "a".repeat(256) };
        let bits = eetf::BitBinary { bytes: vec![1], tail_bits_size: 9 };
        for term in [
            eetf::Term::from(pid),
            long.into(),
            bits.into(),
            eetf::Float { value: f64::NAN }.into(),
            eetf::Reference { node: "a@b".into(), id: vec![0; 6], creation: 0 }.into(),
        ] {
            assert!(Term::try_from(&term).is_err(), "{term}");
        }
    }
}

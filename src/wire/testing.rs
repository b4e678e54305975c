//! Arbitrary terms, for the property tests of this layer and of those above it.

use std::sync::Arc;

use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::term::{Atom, Creation, Fun, NodeName, Pid, Port, Record, Reference, Term};

/// Any term at all, up to 6 deep.
pub(crate) fn any_term() -> impl Strategy<Value = Term> {
    leaf().prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 0..8).prop_map(Term::tuple_of),
            4 => vec(inner.clone(), 0..8).prop_map(Term::list_of),
            1 => (vec(inner.clone(), 1..4), inner.clone())
                .prop_map(|(elements, tail)| Term::list_with_tail(elements, tail)),
            2 => vec((inner.clone(), inner.clone()), 0..6)
                .prop_map(|pairs| Term::Map(pairs.into_iter().collect())),
            1 => (any_fun(), vec(inner.clone(), 0..4)).prop_map(|(mut fun, values)| {
                if let Fun::Internal { free, .. } = &mut fun {
                    *free = values;
                }
                Term::Fun(Arc::new(fun))
            }),
            1 => any_record(inner),
        ]
    })
}

pub(crate) fn any_atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        Just(crate::atom!("update")),
        Just(crate::atom!("")),
        "[a-z@_]{0,12}".prop_map(|text| Atom::new(&text).unwrap()),
        "\\PC{0,20}".prop_map(|text| Atom::new(&text).unwrap()),
        (250..=255_usize).prop_map(|len| Atom::new(&"é".repeat(len)).unwrap()),
    ]
}

pub(crate) fn any_node() -> impl Strategy<Value = NodeName> {
    "[a-c]{1,2}@127[.]0[.]0[.][1-3]".prop_map(|name| NodeName::new(&name).unwrap())
}

pub(crate) fn any_pid() -> impl Strategy<Value = Pid> {
    (any_node(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(node, id, serial, creation)| Pid { node, id, serial, creation: Creation(creation) },
    )
}

pub(crate) fn any_reference() -> impl Strategy<Value = Reference> {
    (any_node(), any::<u32>(), vec(any::<u32>(), 1..=5)).prop_map(|(node, creation, words)| {
        Reference::new(node, Creation(creation), &words).unwrap()
    })
}

fn leaf() -> impl Strategy<Value = Term> {
    prop_oneof![
        any::<u8>().prop_map(Term::from),
        any::<i32>().prop_map(Term::from),
        any::<i64>().prop_map(Term::from),
        any_big_integer(),
        any::<f64>().prop_filter_map("not finite", Term::float_of),
        any_atom().prop_map(Term::from),
        any_pid().prop_map(Term::from),
        any_reference().prop_map(Term::from),
        (any_node(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
            |(node, creation, id, small)| {
                let id = if small { id % (1 << 28) } else { id };
                Term::from(Port { node, creation: Creation(creation), id })
            }
        ),
        vec(any::<u8>(), 0..40).prop_map(Term::binary_of),
        vec(any::<u8>(), 0..40)
            .prop_map(|bytes| bytes.into_iter().map(Term::from).collect())
            .prop_map(|bytes: Vec<Term>| Term::list_of(bytes)),
        (vec(any::<u8>(), 1..10), 1..=8_u8)
            .prop_map(|(bytes, bits)| Term::bit_string_of(bytes, bits).unwrap()),
    ]
}

fn any_big_integer() -> impl Strategy<Value = Term> {
    (vec(any::<u8>(), 0..300), any::<bool>()).prop_map(|(digits, negative)| {
        let value = BigInt::from_bytes_le(num_bigint::Sign::Plus, &digits);
        Term::from(if negative { -value } else { value })
    })
}

fn any_fun() -> impl Strategy<Value = Fun> {
    let names = (any_atom(), any_atom(), any::<u8>());
    let numbers = (any::<[u8; 16]>(), any::<u32>(), any::<u32>(), any::<u32>());
    (names, numbers, any_pid(), any::<bool>()).prop_map(
        |((module, function, arity), (uniq, index, old_index, old_uniq), pid, external)| {
            if external {
                return Fun::External { module, function, arity };
            }
            let free = Vec::new();
            Fun::Internal { arity, uniq, index, module, old_index, old_uniq, pid, free }
        },
    )
}

fn any_record(inner: impl Strategy<Value = Term>) -> impl Strategy<Value = Term> {
    (any::<u8>(), any_atom(), any_atom(), vec((any_atom(), inner), 0..4)).prop_map(
        |(flags, module, name, fields)| {
            Term::Record(Arc::new(Record { flags, module, name, fields }))
        },
    )
}

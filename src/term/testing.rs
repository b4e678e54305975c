//! Terms to test with.

use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Atom, Creation, Fun, NodeName, Pid, Port, Record, Reference, Term};

/// Any term that Erlang's syntax has: nothing that stands for something running, no records.
pub(crate) fn constant() -> BoxedStrategy<Term> {
    nested(plain().boxed(), Code::None)
}

/// Any term that a node before OTP 29 knows: no records.
pub(crate) fn older() -> BoxedStrategy<Term> {
    nested(leaf(), Code::Closures)
}

/// Any term at all. Small numbers and few names, so that parts are often equal.
pub(crate) fn term() -> BoxedStrategy<Term> {
    nested(leaf(), Code::ClosuresAndRecords)
}

fn leaf() -> BoxedStrategy<Term> {
    prop_oneof![
        3 => plain(),
        1 => pid().prop_map(Term::Pid),
        1 => port().prop_map(Term::Port),
        1 => reference().prop_map(Term::Reference),
    ]
    .boxed()
}

#[derive(Clone, Copy)]
enum Code {
    None,
    Closures,
    ClosuresAndRecords,
}

fn nested(leaf: BoxedStrategy<Term>, code: Code) -> BoxedStrategy<Term> {
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let constants = prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Term::tuple_of),
            vec(inner.clone(), 0..5).prop_map(Term::list_of),
            (vec(inner.clone(), 1..4), inner.clone())
                .prop_map(|(elements, tail)| Term::list_with_tail(elements, tail)),
            vec((inner.clone(), inner.clone()), 0..5)
                .prop_map(|pairs| Term::Map(pairs.into_iter().collect())),
        ];
        match code {
            Code::None => constants.boxed(),
            Code::Closures => prop_oneof![6 => constants, 1 => closure(inner)].boxed(),
            Code::ClosuresAndRecords => {
                prop_oneof![6 => constants, 1 => closure(inner.clone()), 1 => record(inner)].boxed()
            }
        }
    })
    .boxed()
}

fn plain() -> impl Strategy<Value = Term> {
    prop_oneof![
        4 => integer(),
        2 => float(),
        4 => atom().prop_map(Term::Atom),
        2 => text().prop_map(|text| Term::string_of(&text)),
        1 => vec(0_u32..0x11_0000, 0..4).prop_map(|codes| Term::list_of(codes.into_iter().map(Term::from))),
        2 => bytes().prop_map(Term::binary_of),
        1 => (vec(any::<u8>(), 1..4), 1_u8..8)
            .prop_map(|(bytes, bits)| Term::bit_string_of(bytes, bits).expect("it's in range")),
        1 => (atom(), atom(), any::<u8>()).prop_map(|(module, function, arity)| {
            Term::Fun(Fun::External { module, function, arity }.into())
        }),
    ]
}

fn integer() -> impl Strategy<Value = Term> {
    prop_oneof![
        4 => (-3_i64..4).prop_map(Term::from),
        1 => (-300_i64..300).prop_map(Term::from),
        1 => any::<i64>().prop_map(Term::from),
        // Where floats stop being exact, where the BEAM's small integers and ours end.
        1 => (prop::sample::select(vec![31, 32, 53, 59, 60, 63, 64, 100]), -2..3, any::<bool>())
            .prop_map(|(power, more, negative)| {
                let value: BigInt = (BigInt::from(1) << power) + more;
                Term::from(if negative { -value } else { value })
            }),
        1 => vec(any::<u8>(), 0..40).prop_map(|bytes| BigInt::from_signed_bytes_be(&bytes).into()),
    ]
}

fn float() -> impl Strategy<Value = Term> {
    prop_oneof![
        2 => (-3_i8..4).prop_map(f64::from),
        1 => (-3_i8..4).prop_map(|half| f64::from(half) / 2.0),
        1 => Just(-0.0),
        1 => prop::sample::select(vec![31, 32, 53, 59, 60, 63, 64, 100]).prop_map(|power| 2_f64.powi(power)),
        1 => (any::<i32>(), -12..25).prop_map(|(digits, power)| f64::from(digits) * 10_f64.powi(power)),
        2 => any::<f64>(),
    ]
    .prop_filter_map("a float is finite", Term::float_of)
}

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        4 => "[abc]",
        2 => "[a-zß-ÿ][a-zA-Z0-9_@À-ÿ]{0,8}",
        1 => prop::sample::select(vec!["", "fun", "maybe", "else", "cond", "end", "true", "Ok", "_"])
            .prop_map(str::to_owned),
        1 => text(),
        1 => vec(any::<char>(), 250..256).prop_map(|chars| chars.into_iter().collect()),
    ]
    .prop_map(|text: String| Atom::new(&text).expect("it's short enough"))
}

/// Text with what needs care when it's printed.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,6}", "[\0-\u{ff}]{0,4}", "[a\"'\\\\\n\u{1b}é€😀]{0,4}", any::<String>()]
        .prop_map(|text| text.chars().take(255).collect())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        text().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..6),
        vec(0xa0_u8..=0xff, 0..6),
        // Text that ends in no UTF-8.
        (text(), any::<u8>()).prop_map(|(text, byte)| [text.as_bytes(), &[byte]].concat()),
    ]
}

fn pid() -> impl Strategy<Value = Pid> {
    (node(), number(), number(), creation()).prop_map(|(node, id, serial, creation)| Pid {
        node,
        id,
        serial,
        creation,
    })
}

fn port() -> impl Strategy<Value = Port> {
    let id = prop_oneof![1_u64..4, any::<u64>()];
    (node(), creation(), id).prop_map(|(node, creation, id)| Port { node, creation, id })
}

fn reference() -> impl Strategy<Value = Reference> {
    (node(), creation(), vec(prop_oneof![0_u32..3, number()], 1..=Reference::MAX_WORDS)).prop_map(
        |(node, creation, words)| {
            Reference::new(node, creation, &words).expect("it has 1 to 5 words")
        },
    )
}

fn node() -> impl Strategy<Value = NodeName> {
    "[ab]@(h|127\\.0\\.0\\.1)".prop_map(|name| NodeName::new(&name).expect("it's name@host"))
}

fn creation() -> impl Strategy<Value = Creation> {
    prop_oneof![1_u32..3, 1_u32..].prop_map(Creation)
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..4, any::<u32>()]
}

/// As in life, `old_uniq` depends on the code, as `uniq` does: a node keeps the first one it sees.
fn closure(inner: BoxedStrategy<Term>) -> impl Strategy<Value = Term> {
    let numbers = (0_u8..3, 0_u8..3, 0_u32..3, 0_u32..3);
    (numbers, "[ab]", pid(), vec(inner, 0..3)).prop_map(
        |((arity, uniq, index, old_index), module, pid, free)| {
            let module = Atom::new(&module).expect("it's short");
            let (uniq, old_uniq) = ([uniq; 16], u32::from(uniq) * 7);
            let fun = Fun::Internal { arity, uniq, index, module, old_index, old_uniq, pid, free };
            Term::Fun(fun.into())
        },
    )
}

fn record(inner: BoxedStrategy<Term>) -> impl Strategy<Value = Term> {
    let fields = vec(("[abc]", inner), 0..3).prop_map(|mut fields: Vec<_>| {
        let mut names = Vec::new();
        fields.retain(|(name, _): &(String, Term)| {
            let new = !names.contains(name);
            names.push(name.clone());
            new
        });
        fields
    });
    (0_u8..2, "[ab]", "[ab]", fields).prop_map(|(flags, module, name, fields)| {
        let atom = |text: String| Atom::new(&text).expect("it's short");
        let fields = fields.into_iter().map(|(name, value)| (atom(name), value)).collect();
        Term::Record(Record { flags, module: atom(module), name: atom(name), fields }.into())
    })
}

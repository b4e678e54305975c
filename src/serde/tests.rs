use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use ::serde::de::{DeserializeOwned, IgnoredAny};
use ::serde::ser::{SerializeMap, SerializeSeq, SerializeStruct, SerializeTupleVariant};
use ::serde::{Deserialize, Serialize};
use num_bigint::BigInt;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Manners, WriteError, WriteErrorReason, from_term, to_term};
use crate::engine::{DataPublisher, Effects, Version, Wire};
use crate::term::{
    Atom, BadTerm, Creation, List, Map, NodeName, Pid, Port, Reference, Term, testing,
};
use crate::{atom, list, map, tuple};

fn node() -> NodeName {
    NodeName::new("a@127.0.0.1").unwrap()
}

fn pid() -> Pid {
    Pid { node: node(), id: 92, serial: 3, creation: Creation(1795) }
}

fn reference() -> Reference {
    Reference::new(node(), Creation(7), &[1, 2, 3]).unwrap()
}

fn port() -> Port {
    Port { node: node(), creation: Creation(7), id: 1 << 40 }
}

fn term(text: &str) -> Term {
    text.parse().unwrap()
}

/// Written as `expected` and read back, whoever's manners are asked for.
#[track_caller]
fn is<T>(value: &T, expected: impl Into<Term>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let expected = expected.into();
    for manners in [Manners::Erlang, Manners::Elixir] {
        is_in(manners, value, expected.clone());
    }
}

#[track_caller]
fn is_in<T>(manners: Manners, value: &T, expected: impl Into<Term>)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let expected = expected.into();
    assert_eq!(manners.to_term(value), Ok(expected.clone()));
    assert_eq!(manners.from_term::<T>(&expected).as_ref(), Ok(value));
}

#[track_caller]
fn reads<T: DeserializeOwned + PartialEq + Debug>(text: &str, expected: &T) {
    assert_eq!(from_term::<T>(&term(text)).as_ref(), Ok(expected));
}

#[track_caller]
fn refused<T: DeserializeOwned + Debug>(text: &str, why: &str) {
    assert_eq!(from_term::<T>(&term(text)).unwrap_err().to_string(), why);
}

// --- the table, row by row ----------------------------------------------------------------------

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Unit;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Metres(f64);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Pair(u8, Atom);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Limit {
    max: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<u8>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Clear,
    Delete(u8),
    Put(u8, Unit),
    SetLimit { max: u8 },
}

#[test]
fn numbers_are_numbers() {
    is(&-7_i8, -7);
    is(&u64::MAX, u64::MAX);
    is(&i128::MIN, BigInt::from(i128::MIN));
    is(&u128::MAX, BigInt::from(u128::MAX));
    is(&5_u128, 5);
    is(&1.5_f32, Term::float_of(1.5).unwrap());
    is(&-0.0_f64, Term::float_of(-0.0).unwrap());
    reads("3", &3.0_f64);
    refused::<u8>("300", "expected u8, found 300");
    refused::<i64>("1.0", "expected i64, found 1.0");
    refused::<f32>("1.0e300", "expected f32, found 1.0e300");
    let huge = BigInt::from(1) << 200_u32;
    refused::<i128>(&huge.to_string(), &format!("expected i128, found {huge}"));
}

#[test]
fn booleans_are_atoms() {
    is(&true, atom!("true"));
    is(&false, atom!("false"));
    refused::<bool>("1", "expected true or false, found 1");
}

#[test]
fn text_is_a_binary_and_read_from_all_that_is_text() {
    is(&"é".to_owned(), Term::binary_of("é"));
    is(&'é', Term::binary_of("é"));
    for text in ["<<\"ab\">>", "\"ab\"", "ab"] {
        reads(text, &"ab".to_owned());
    }
    for text in ["<<\"a\">>", "\"a\"", "a", "$a"] {
        reads(text, &'a');
    }
    reads("[]", &String::new());
    refused::<String>("<<255>>", "expected a string, found <<\"ÿ\">>");
    refused::<String>("[97, -1]", "expected a string, found [97,-1]");
    refused::<char>("<<\"ab\">>", "expected a character, found <<\"ab\">>");
    assert_eq!(from_term::<&str>(&Term::binary_of("lent")), Ok("lent"));
    assert_eq!(from_term::<&[u8]>(&Term::binary_of([255])), Ok(&[255][..]));
}

#[test]
fn fields_are_written_as_charlists_and_binaries_on_request() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Line {
        #[serde(with = "super::charlist")]
        text: String,
        #[serde(with = "super::binary")]
        bytes: Vec<u8>,
        numbers: Vec<u8>,
    }
    let line = Line { text: "hé".into(), bytes: vec![1, 255], numbers: vec![1, 2] };
    is(
        &line,
        map! {
            atom!("text") => Term::string_of("hé"),
            atom!("bytes") => Term::binary_of([1, 255]),
            atom!("numbers") => list![1, 2],
        },
    );
    let json = serde_json::to_string(&line).unwrap();
    assert_eq!(json, r#"{"text":"hé","bytes":[1,255],"numbers":[1,2]}"#);
    assert_eq!(serde_json::from_str::<Line>(&json).unwrap(), line);
}

#[test]
fn lists_tuples_and_maps_are_what_they_are() {
    is(&vec![1, 2], list![1, 2]);
    is(&Vec::<u8>::new(), Term::NIL);
    is(&BTreeSet::from([2, 1]), list![1, 2]);
    is(&(1, true), tuple![1, atom!("true")]);
    is(&[1, 2, 3], tuple![1, 2, 3]);
    is(&Pair(1, atom!("a")), tuple![1, atom!("a")]);
    is(&(), tuple![]);
    is(
        &BTreeMap::from([((1, true), "a".to_owned())]),
        map! { tuple![1, true] => Term::binary_of("a") },
    );
    refused::<Vec<u8>>("[1|2]", "expected a proper list, found [1|2]");
    refused::<Vec<u8>>("<<1>>", "expected a proper list, found <<1>>");
    refused::<(u8, u8)>("{1,2,3}", "expected a tuple of 2, found {1,2,3}");
    refused::<(u8, u8)>("[1,2]", "expected a tuple of 2, found [1,2]");
    refused::<()>("undefined", "expected {}, found undefined");
}

#[test]
fn structs_are_atoms_maps_or_what_is_in_them() {
    is(&Unit, atom!("Unit"));
    is(&Metres(1.5), Term::float_of(1.5).unwrap());
    is(&Limit { max: 3, min: None }, map! { atom!("max") => 3 });
    is(&Limit { max: 3, min: Some(1) }, map! { atom!("max") => 3, atom!("min") => 1 });
    // Keys as binaries; unknown keys, whatever they are; nothing is the name of a field by its place.
    reads("#{<<\"max\">> => 3, 1 => 9, {a} => 9, 0 => 9, x => 9}", &Limit { max: 3, min: None });
    refused::<Unit>("unit", "expected the atom `Unit`, found unit");
    refused::<Limit>("[]", "expected a map for Limit, found []");
    refused::<Limit>("#{min => 1}", "expected a map with the key `max`, found #{min => 1}");
    refused::<Limit>("#{max => 256}", "expected u8 at max, found 256");
    refused::<Limit>(
        "#{max => 1, <<\"max\">> => 2}",
        "expected the key `max` once, found #{max => 1,<<\"max\">> => 2}",
    );
}

#[test]
fn enums_are_atoms_and_tagged_tuples() {
    is(&Change::Clear, atom!("clear"));
    is(&Change::Delete(1), tuple![atom!("delete"), 1]);
    is(&Change::Put(1, Unit), tuple![atom!("put"), 1, atom!("Unit")]);
    is(&Change::SetLimit { max: 1 }, tuple![atom!("set_limit"), map! { atom!("max") => 1 }]);
    let tags = "one of the atoms `clear`, `delete`, `put`, `set_limit`";
    refused::<Change>("{drop,1}", &format!("expected {tags}, found drop"));
    refused::<Change>("7", "expected an atom or a tagged tuple for enum Change, found 7");
    refused::<Change>("{}", "expected an atom or a tagged tuple for enum Change, found {}");
    refused::<Change>("{<<\"put\">>}", {
        "expected an atom or a tagged tuple for enum Change, found {<<\"put\">>}"
    });
    refused::<Change>("{clear}", "expected the atom `clear`, found {clear}");
    refused::<Change>("delete", "expected a tuple of 2 tagged `delete`, found delete");
    refused::<Change>("{put,1}", "expected a tuple of 3 tagged `put`, found {put,1}");
    refused::<Change>("{put,1,2}", "expected the atom `Unit` at {3}, found 2");
    refused::<Change>("{set_limit,#{max => a}}", "expected u8 at {2}.max, found a");
    refused::<Change>("{set_limit,[]}", "expected a map for set_limit at {2}, found []");
}

#[test]
fn none_is_undefined_or_nil_and_some_is_what_is_in_it() {
    for (manners, none) in [(Manners::Erlang, atom!("undefined")), (Manners::Elixir, atom!("nil"))]
    {
        is_in(manners, &None::<u8>, none.clone());
        is_in(manners, &Some(1), 1);
        is_in(manners, &Some(()), tuple![]);
        for some in [
            manners.to_term(&Some(None::<u8>)),
            manners.to_term(&Some(&none)),
            manners.to_term(&Some(Term::from(&none))),
        ] {
            let none = if manners == Manners::Erlang { "undefined" } else { "nil" };
            assert_eq!(some.unwrap_err().reason, WriteErrorReason::SomeIsNone { none });
        }
    }
    is_in(Manners::Erlang, &Some(atom!("nil")), atom!("nil"));
    is_in(Manners::Elixir, &Some(atom!("undefined")), atom!("undefined"));
}

#[test]
fn our_own_types_pass_as_they_are() {
    is(&atom!("true"), atom!("true"));
    is(&node(), atom!("a@127.0.0.1"));
    is(&pid(), pid());
    is(&reference(), reference());
    is(&port(), port());
    is(&Creation(3), 3);
    is(&term("#{a => [1|2]}"), term("#{a => [1|2]}"));
    is(&List::from(vec![1.into()]), list![1]);
    is(&Map::new(vec![(1.into(), 2.into())]).unwrap(), map! { 1 => 2 });
    is(&vec![Some(pid()), Some(pid())], list![pid(), pid()]);
    refused::<Atom>("<<\"a\">>", "expected an atom, found <<\"a\">>");
    refused::<NodeName>("a", "expected a node name, found a");
    refused::<Vec<Pid>>("[a]", "expected a pid at [1], found a");
    refused::<Reference>("1", "expected a reference, found 1");
    refused::<Port>("1", "expected a port, found 1");
    refused::<Map>("1", "expected a map, found 1");
    refused::<List>("[1|2]", "expected a proper list, found [1|2]");
}

// --- Elixir ---------------------------------------------------------------------------------------

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename = "MyApp.Flag", deny_unknown_fields)]
struct Flag {
    on: bool,
    owner: Option<Atom>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename = "Elixir.Top")]
struct Top {}

#[test]
fn a_struct_named_as_a_module_is_an_elixir_struct() {
    let flag = Flag { on: true, owner: None };
    is_in(
        Manners::Elixir,
        &flag,
        map! {
            atom!("__struct__") => atom!("Elixir.MyApp.Flag"),
            atom!("on") => true,
            atom!("owner") => atom!("nil"),
        },
    );
    is_in(
        Manners::Erlang,
        &flag,
        map! { atom!("on") => true, atom!("owner") => atom!("undefined") },
    );

    is_in(Manners::Elixir, &Top {}, map! { atom!("__struct__") => atom!("Elixir.Top") });
}

#[derive(Debug, Deserialize, PartialEq)]
struct AnyStruct {
    __struct__: Atom,
}

#[test]
fn the_module_of_an_elixir_struct_is_checked_and_no_field() {
    let read = |text| Manners::Elixir.from_term::<Flag>(&term(text)).map_err(|e| e.to_string());
    let flag = Flag { on: true, owner: Some(atom!("undefined")) };
    assert_eq!(read("#{on => true, owner => undefined}"), Ok(flag));
    let wrong = "expected the atom `Elixir.MyApp.Flag` at __struct__, found 'Elixir.Other'";
    assert_eq!(read("#{'__struct__' => 'Elixir.Other', on => true}"), Err(wrong.to_owned()));
    assert_eq!(
        read("#{on => true, 5 => 1}"),
        Err("expected no other keys than `on`, `owner`, found `\u{fffd}5`".to_owned()),
    );

    // In Erlang's manners it's a key like others.
    let error = from_term::<Flag>(&term("#{'__struct__' => 'Elixir.MyApp.Flag'}")).unwrap_err();
    assert_eq!(error.expected, "no other keys than `on`, `owner`");

    // What names no module takes any.
    let limit = term("#{'__struct__' => 'Elixir.Any', max => 1}");
    assert_eq!(Manners::Elixir.from_term(&limit), Ok(Limit { max: 1, min: None }));
    let all: BTreeMap<Atom, Term> = Manners::Elixir.from_term(&limit).unwrap();
    assert_eq!(all.len(), 2);

    let any = AnyStruct { __struct__: atom!("Elixir.Any") };
    assert_eq!(Manners::Elixir.from_term(&limit), Ok(any));
}

// --- what serde copies before it's read -------------------------------------------------------------

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Who {
    Nobody(()),
    Flag(bool),
    Pid(Pid),
    Reference(Reference),
    Port(Port),
    Node(NodeName),
    Name(Atom),
    Text(String),
    Pair(Atom, Option<u8>),
    Bytes(#[serde(with = "super::binary")] Vec<u8>),
    Limit(Limit),
}

#[test]
fn untagged_enums_tell_atoms_binaries_and_pids_apart() {
    is(&Who::Nobody(()), tuple![]);
    is(&Who::Flag(true), true);
    is(&Who::Pid(pid()), pid());
    is(&Who::Reference(reference()), reference());
    is(&Who::Port(port()), port());
    is(&Who::Node(node()), node());
    is(&Who::Name(atom!("a")), atom!("a"));
    is(&Who::Name(atom!("")), atom!(""));
    is(&Who::Text("a@b".into()), Term::binary_of("a@b"));
    is(&Who::Text("<a@127.0.0.1/1795.92.0>".into()), Term::binary_of("<a@127.0.0.1/1795.92.0>"));
    is(&Who::Pair(atom!("x"), Some(1)), tuple![atom!("x"), 1]);
    is_in(Manners::Erlang, &Who::Pair(atom!("x"), None), tuple![atom!("x"), atom!("undefined")]);
    is_in(Manners::Elixir, &Who::Name(atom!("undefined")), atom!("undefined"));
    is(&Who::Bytes(vec![255]), Term::binary_of([255]));
    is(&Who::Limit(Limit { max: 1, min: None }), map! { atom!("max") => 1 });
    is_in(Manners::Erlang, &Who::Name(atom!("undefined")), atom!("undefined"));
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Open {
    max: u8,
    #[serde(flatten)]
    rest: BTreeMap<Atom, Term>,
}

#[test]
fn tagged_and_flattened_types_are_maps() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Event {
        Put { key: Atom, by: Pid },
    }
    is(
        &Event::Put { key: atom!("k"), by: pid() },
        map! {
            atom!("type") => Term::binary_of("put"),
            atom!("key") => atom!("k"),
            atom!("by") => pid(),
        },
    );
    reads(
        "#{type => put, n => 5}",
        &BTreeMap::from([(atom!("type"), term("put")), (atom!("n"), 5.into())]),
    );

    let open = Open { max: 1, rest: BTreeMap::from([(atom!("a"), pid().into())]) };
    is(&open, map! { Term::binary_of("max") => 1, atom!("a") => pid() });
    for scalar in ["b", "<<\"b\">>", "<<255>>", "-5", "1.5", "{}", "true"] {
        let open = Open { max: 1, rest: BTreeMap::from([(atom!("a"), term(scalar))]) };
        assert_eq!(from_term(&term(&format!("#{{max => 1, a => {scalar}}}"))), Ok(open));
    }
}

#[test]
fn a_term_is_not_read_where_lists_and_tuples_look_alike() {
    for text in ["[1]", "{1}", "[]", "#{}"] {
        from_term::<Open>(&term(&format!("#{{max => 1, a => {text}}}"))).unwrap_err();
    }
}

#[test]
fn a_term_that_serde_would_copy_as_a_text_is_not_written() {
    #[derive(Serialize)]
    enum Inner {
        Pair(Term, u8),
    }
    #[derive(Serialize)]
    #[serde(tag = "type")]
    enum Outer {
        Inner(Inner),
    }
    let error = to_term(&Outer::Inner(Inner::Pair(atom!("a").into(), 1))).unwrap_err();
    assert!(matches!(error.reason, WriteErrorReason::Other(_)), "{error}");
}

// --- other formats --------------------------------------------------------------------------------

#[test]
fn other_formats_get_texts_and_read_them_back() {
    type All = (Atom, NodeName, Pid, Reference, Port, Term, Term, Map, List);
    let all: All = (
        atom!("an atom"),
        node(),
        pid(),
        reference(),
        port(),
        term("{put, <<\"a\">>}"),
        pid().into(),
        Map::new(vec![(1.into(), 2.into())]).unwrap(),
        List::from(vec![1.into()]),
    );
    let json = serde_json::to_string(&all).unwrap();
    let expected = [
        r#""an atom","a@127.0.0.1","<a@127.0.0.1/1795.92.3>","#,
        r##""#Ref<a@127.0.0.1/7.3.2.1>","#Port<a@127.0.0.1/7.1099511627776>","##,
        r##""{put,<<\"a\">>}","<a@127.0.0.1/1795.92.3>","#{1 => 2}","[1]""##,
    ]
    .concat();
    assert_eq!(json, format!("[{expected}]"));
    assert_eq!(serde_json::from_str::<All>(&json).unwrap(), all);
    // By another way through serde_json: text that isn't borrowed.
    let value = serde_json::to_value(&all).unwrap();
    assert_eq!(serde_json::from_value::<All>(value).unwrap(), all);

    let keys = HashMap::from([(atom!("a"), Creation(1))]);
    let json = serde_json::to_string(&keys).unwrap();
    assert_eq!(json, r#"{"a":1}"#);
    assert_eq!(serde_json::from_str::<HashMap<Atom, Creation>>(&json).unwrap(), keys);

    for wrong in ["1", "null", "\"<a@b>\"", "\"<a@b/1.2>\"", "\"<a/1.2.3>\"", "\"<a@b/1.2.3.4>\""] {
        serde_json::from_str::<Pid>(wrong).unwrap_err();
    }
    serde_json::from_str::<Term>("[1]").unwrap_err();
    serde_json::from_str::<Term>("\"[\"").unwrap_err();
}

#[test]
fn json_is_made_of_terms_that_it_can_say() {
    let json: serde_json::Value =
        from_term(&term("#{a => [1, -1, 1.5, <<\"t\">>, undefined, true], <<\"b\">> => {}}"))
            .unwrap();
    assert_eq!(json, serde_json::json!({ "a": [1, -1, 1.5, "t", null, true], "b": null }));
    let back = to_term(&serde_json::json!({ "a": [1, "t"] })).unwrap();
    assert_eq!(back, map! { Term::binary_of("a") => list![1, Term::binary_of("t")] });
    from_term::<serde_json::Value>(&pid().into()).unwrap_err();
}

#[test]
fn json_inside_of_a_term_holds_terms_as_texts() {
    #[derive(Deserialize, Serialize)]
    struct Inner(Term);
    struct Outer(Inner);
    impl Serialize for Outer {
        fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&serde_json::to_string(&self.0).unwrap())
        }
    }
    let outer = Outer(Inner(tuple![atom!("a")]));
    assert_eq!(to_term(&vec![outer]), Ok(list![Term::binary_of("\"{a}\"")]));
}

// --- errors ---------------------------------------------------------------------------------------

#[test]
fn an_error_says_where_it_is() {
    type Deep = BTreeMap<Term, Vec<(u8, Limit)>>;
    refused::<Deep>(
        "#{{k} => [{1, #{max => 1}}, {1, #{max => <<\"x\">>}}]}",
        "expected u8 at ({k})[2]{2}.max, found <<\"x\">>",
    );
    refused::<BTreeMap<u8, u8>>("#{a => 1}", "expected u8 at (key a), found a");
    let long = format!("#{{{} => a}}", "k".repeat(200));
    let BadTerm { expected, .. } = from_term::<BTreeMap<Atom, u8>>(&term(&long)).unwrap_err();
    assert!(expected.len() < 130, "{expected}");

    let value = BTreeMap::from([("k", vec![(1, Metres(f64::NAN))])]);
    let error = to_term(&value).unwrap_err();
    assert_eq!(error.reason, WriteErrorReason::NotFinite { value: "NaN".into() });
    assert_eq!(error.to_string(), "NaN is no float in Erlang at (<<\"k\">>)[1]{2}");
    assert_eq!(to_term(&f32::INFINITY).unwrap_err().to_string(), "inf is no float in Erlang");
}

#[test]
fn what_would_not_be_read_back_is_not_written() {
    #[derive(Eq, Hash, PartialEq, Serialize)]
    #[serde(untagged)]
    enum Key {
        Small(u8),
        Large(u64),
    }
    let twice = HashMap::from([(Key::Small(1), 1), (Key::Large(1), 2)]);
    assert_eq!(
        to_term(&twice),
        Err(WriteError { reason: WriteErrorReason::DuplicateKey, path: String::new() }),
    );
}

// --- hostile terms --------------------------------------------------------------------------------

/// `{next, {next, ... done}}`. Leaked: dropping it recurses.
fn nested(depth: usize) -> &'static Term {
    let term = (0..depth).fold(Term::from(atom!("done")), |inner, _| tuple![atom!("next"), inner]);
    Box::leak(Box::new(term))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Chain {
    Next(Box<Chain>),
    Done,
}

impl Chain {
    fn len(&self) -> usize {
        match self {
            Self::Next(rest) => 1 + rest.len(),
            Self::Done => 0,
        }
    }
}

#[test]
fn a_type_that_contains_itself_is_read_128_levels_deep() {
    assert_eq!(from_term::<Chain>(nested(128)).unwrap().len(), 128);
    let error = from_term::<Chain>(nested(129)).unwrap_err();
    assert!(error.expected.starts_with("a term nested at most 128 deep at {2}{2}"), "{error}");
    assert!(error.expected.len() < 1100);
    from_term::<Chain>(nested(1_000_000)).unwrap_err();
}

#[test]
fn deep_terms_do_not_overflow_the_stack_of_those_who_take_anything() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Any {
        #[expect(dead_code, reason = "only whether it can be read counts")]
        Limit(Limit),
    }
    let lists = |depth| (0..depth).fold(Term::NIL, |inner, _| list![inner]);
    from_term::<serde_json::Value>(&lists(127)).unwrap();
    for depth in [128, 100_000] {
        let deep = Box::leak(Box::new(lists(depth)));
        from_term::<serde_json::Value>(deep).unwrap_err();
        from_term::<Any>(deep).unwrap_err();
    }
}

#[test]
fn what_is_ignored_costs_nothing() {
    let deep = nested(1_000_000);
    from_term::<IgnoredAny>(deep).unwrap();
    let limit = Box::leak(Box::new(map! { atom!("max") => 1, atom!("x") => deep }));
    assert_eq!(from_term(limit), Ok(Limit { max: 1, min: None }));
    assert_eq!(from_term::<(u8, Term)>(Box::leak(Box::new(tuple![1, deep]))).map(|t| t.0), Ok(1));
}

/// Says that it's as long as can be, and has one element or none.
struct Boast(u8);

impl Serialize for Boast {
    fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => to.serialize_map(Some(usize::MAX))?.end(),
            1 => to.serialize_struct("Boast", usize::MAX)?.end(),
            2 => to.serialize_tuple_variant("Boast", 0, "v", usize::MAX)?.end(),
            n => {
                let mut list = to.serialize_seq(Some(usize::MAX))?;
                list.serialize_element(&Boast(n - 1))?;
                list.end()
            }
        }
    }
}

#[test]
fn no_room_is_made_for_elements_that_are_claimed() {
    assert_eq!(to_term(&Boast(0)), Ok(map! {}));
    assert_eq!(to_term(&Boast(1)), Ok(map! {}));
    assert_eq!(to_term(&Boast(4)), Ok(list![list![tuple![atom!("v")]]]));
}

// --- publishers -----------------------------------------------------------------------------------

#[test]
fn an_event_follows_the_reference_of_its_subscription() {
    let event = |value: &Change| {
        super::publisher::event_term_of::<(), _>(Manners::Erlang, &reference(), value)
    };
    assert_eq!(event(&Change::Put(1, Unit)), tuple![reference(), atom!("put"), 1, atom!("Unit")]);
    assert_eq!(event(&Change::Clear), tuple![reference(), atom!("clear")]);
}

#[test]
#[should_panic = "Metres: a f64 can't be written as a term: NaN is no float in Erlang"]
fn a_publisher_that_publishes_no_term_panics() {
    super::publisher::term_of::<Metres, _>(Manners::Erlang, &f64::NAN);
}

/// Before version 2, flags had no owner and peers denied what they didn't know.
struct Flags;

impl DataPublisher for Flags {
    type LocalData = BTreeMap<Atom, Flag>;
    type Update = Flag;
    type GlobalView = ();
    type Subscription = Option<Atom>;
    type Initial = Vec<Flag>;
    type Event = Flag;

    fn version(&self) -> Version {
        2.into()
    }

    fn init_local_data(&self) -> Self::LocalData {
        BTreeMap::new()
    }

    fn init_global_view(&mut self, _: &Atom) {}

    fn update_local_data(&self, flag: Flag, _: &mut Self::LocalData) -> Option<Flag> {
        Some(flag)
    }

    fn update_global_view_and_notify(
        &self,
        _: &NodeName,
        _: &Flag,
        (): &mut (),
        _: &mut Effects<'_, Self>,
    ) {
    }

    fn data_diff(&self, _: &Self::LocalData, _: &Self::LocalData) -> Option<Flag> {
        None
    }

    fn new_subscription(&self, _: &Option<Atom>, (): &()) -> Vec<Flag> {
        Vec::new()
    }

    fn translate_update(&self, _: &Pid, peer: &Version, flag: &Flag) -> Wire {
        Wire::Term(if *peer < 2.into() { flag.on.into() } else { to_term(flag).unwrap() })
    }

    crate::serde_terms!(
        Elixir; translate_local_data, read_update, read_local_data, read_subscription, initial_term,
        event_term,
    );
}

#[test]
fn methods_by_hand_and_by_macro_make_one_publisher() {
    let flag = Flag { on: true, owner: None };
    let written = Manners::Elixir.to_term(&flag).unwrap();

    assert_eq!(Flags.translate_update(&pid(), &1.into(), &flag), Wire::Term(true.into()));
    let data = BTreeMap::from([(atom!("f"), flag.clone())]);
    let Wire::Term(term) = Flags.translate_local_data(&pid(), &1.into(), &data) else { panic!() };
    assert_eq!(term, map! { atom!("f") => &written });
    assert_eq!(Flags.read_local_data(&term), Ok(data));
    assert_eq!(Flags.read_update(&written), Ok(flag.clone()));
    assert_eq!(Flags.read_subscription(&atom!("nil").into()), Ok(None));
    assert!(Flags.read_subscription(&1.into()).is_err());
    assert_eq!(Flags.initial_term(&vec![flag.clone()]), list![&written]);
    assert_eq!(Flags.event_term(&reference(), &flag), tuple![reference(), written]);
}

// --- any value ------------------------------------------------------------------------------------

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Two(Box<Tree>, Option<u8>),
    Many { all: Vec<Tree>, by: BTreeMap<(i8, Atom), Tree> },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename = "Test.Rich")]
struct Rich {
    numbers: (i64, u64, i128, u128, f32, f64),
    text: String,
    letter: char,
    #[serde(with = "super::binary")]
    bytes: Vec<u8>,
    #[serde(with = "super::charlist")]
    charlist: String,
    maybe: Option<Vec<Option<()>>>,
    tree: Tree,
    term: Term,
    terms: Vec<(Term, Unit)>,
    by_term: BTreeMap<Term, Metres>,
    who: BTreeMap<String, (Pid, NodeName)>,
    own: Option<(Reference, Port, Creation)>,
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("Erlang has no other", |value| value.is_finite())
}

fn tree() -> impl Strategy<Value = Tree> {
    Just(Tree::Leaf).prop_recursive(4, 30, 4, |inner| {
        let key = (any::<i8>(), "[ab]|true|undefined|nil");
        let key = key.prop_map(|(number, text)| (number, Atom::new(&text).unwrap()));
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::One(tree.into())),
            (inner.clone(), any::<Option<u8>>()).prop_map(|(tree, n)| Tree::Two(tree.into(), n)),
            (vec(inner.clone(), 0..4), btree_map(key, inner, 0..4))
                .prop_map(|(all, by)| Tree::Many { all, by }),
        ]
    })
}

fn rich() -> impl Strategy<Value = Rich> {
    let f32 = any::<f32>().prop_filter("Erlang has no other", |value| value.is_finite());
    let numbers = (any::<i64>(), any::<u64>(), any::<i128>(), any::<u128>(), f32, finite());
    let plain = (any::<String>(), any::<char>(), vec(any::<u8>(), 0..9), any::<String>());
    let terms = (
        testing::term(),
        vec((testing::term(), Just(Unit)), 0..3),
        btree_map(testing::term(), finite().prop_map(Metres), 0..4),
    );
    let whose = btree_map(any::<String>(), Just((pid(), node())), 0..3);
    let own = prop::option::of(Just((reference(), port(), Creation(1))));
    let maybe = prop::option::of(vec(prop::option::of(Just(())), 0..3));
    (numbers, plain, maybe, tree(), terms, whose, own).prop_map(
        |(numbers, (text, letter, bytes, charlist), maybe, tree, terms, who, own)| {
            let (term, terms, by_term) = terms;
            Rich {
                numbers,
                text,
                letter,
                bytes,
                charlist,
                maybe,
                tree,
                term,
                terms,
                by_term,
                who,
                own,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back(rich in rich()) {
        for manners in [Manners::Erlang, Manners::Elixir] {
            let term = manners.to_term(&rich).unwrap();
            prop_assert_eq!(&manners.from_term::<Rich>(&term).unwrap(), &rich);
        }
    }

    #[test]
    fn a_term_written_by_serde_is_itself(term in testing::term()) {
        prop_assert_eq!(to_term(&term), Ok(term.clone()));
        prop_assert_eq!(from_term::<Term>(&term), Ok(term));
    }

    #[test]
    fn no_term_makes_a_reader_panic(term in testing::term()) {
        for manners in [Manners::Erlang, Manners::Elixir] {
            let _ = manners.from_term::<Rich>(&term);
            let _ = manners.from_term::<Change>(&term);
            let _ = manners.from_term::<Flag>(&term);
            let _ = manners.from_term::<Who>(&term);
            let _ = manners.from_term::<Vec<(String, Option<Limit>)>>(&term);
            let _ = manners.from_term::<serde_json::Value>(&term);
        }
    }

    #[test]
    fn a_text_for_other_formats_reads_back(term in testing::constant()) {
        let json = serde_json::to_string(&term).unwrap();
        prop_assert_eq!(serde_json::from_str::<Term>(&json).unwrap(), term);
    }
}

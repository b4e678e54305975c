//! Our terms against those of real nodes: text, order and bytes.
//!
//! The same arbitrary terms in every run. A node gets them as bytes of ours, so a codec that is wrong
//! shows in all of these tests.

use std::{cmp::Ordering, time::Duration};

use anyhow::{Context, Result, ensure};
use data_publisher::term::{Atom, Creation, Fun, NodeName, Pid, Port, Record, Reference, Term};
use data_publisher::{list, tuple, wire};
use proptest::{
    strategy::{BoxedStrategy, Strategy, ValueTree},
    test_runner::TestRunner,
};

use crate::support::{Epmd, ErlNode, Otp};

/// The arbitrary terms of the unit tests.
#[path = "../src/term/testing.rs"]
mod testing;

#[tokio::test]
async fn terms_print_as_in_erlang() -> Result<()> {
    for otp in [Otp::R27, Otp::R29] {
        let (epmd, node) = start(otp).await?;
        let mut terms = some(&testing::constant(), 1500);
        terms.retain(|term| !contains(term, &is_fun_with_odd_name));
        // Native records and closures, whose text has no number of a node.
        let code = list![
            Term::Record(
                Record {
                    flags: 0,
                    module: Atom::new("A b")?,
                    name: Atom::new("a")?,
                    fields: vec![
                        (Atom::new("x")?, 1.into()),
                        (Atom::new("Y")?, Term::string_of("é"))
                    ],
                }
                .into(),
            ),
            closure("A b", 3, 7),
            closure("m", 0, (1 << 27) - 1),
        ];
        let code = code.list()?;
        let terms = match otp {
            Otp::R29 => [&terms[..], code].concat(),
            _ => [&terms[..], &code[1..]].concat(),
        };

        let texts = ask(
            &node,
            &terms,
            "[unicode:characters_to_binary(io_lib:format(\"~0ktp\", [T])) || T <- Terms]",
        )
        .await?;

        for (term, text) in terms.iter().zip(texts.list()?.iter()) {
            assert_eq!(term.to_string(), std::str::from_utf8(text.binary()?)?, "OTP {otp}");
        }
        node.finish().await?;
        drop(epmd);
    }
    Ok(())
}

#[tokio::test]
async fn erlang_reads_what_we_print_and_we_read_what_erlang_prints() -> Result<()> {
    for otp in [Otp::R27, Otp::R29] {
        let (epmd, node) = start(otp).await?;
        // Erlang's scanner refuses two characters that Erlang prints.
        let refused = |term: &Term| term.to_string().contains(['\u{fffe}', '\u{ffff}']);
        let mut terms = some(&testing::constant(), 800);
        terms.retain(|term| !refused(term) && !contains(term, &is_fun_with_odd_name));
        let with_texts: Vec<_> = terms
            .iter()
            .map(|term| tuple![term, Term::binary_of(term.to_string() + " .")])
            .collect();

        let answers = ask(
            &node,
            &with_texts,
            "[begin
                 {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
                 {ok, Read} = erl_parse:parse_term(Tokens),
                 {Read =:= Term, [unicode:characters_to_binary(io_lib:format(Format, [Term]))
                                  || Format <- [\"~tp\", \"~tw\", \"~p\", \"~w\"]]}
             end || {Term, Text} <- Terms]",
        )
        .await?;

        for (term, answer) in terms.iter().zip(answers.list()?.iter()) {
            let [same, texts] = answer.tuple::<2>()?;
            assert!(same.is_atom("true"), "OTP {otp} reads {term} as another term");
            for text in texts.list()?.iter() {
                let text = std::str::from_utf8(text.binary()?)?;
                assert_eq!(text.parse::<Term>().as_ref(), Ok(term), "OTP {otp}: {text}");
            }
        }
        node.finish().await?;
        drop(epmd);
    }
    Ok(())
}

/// Both orders: that of `<`, and that of map keys where `<` makes no difference.
#[tokio::test]
async fn terms_have_the_order_of_erlang() -> Result<()> {
    for (otp, strategy) in [(Otp::R27, testing::older()), (Otp::R29, testing::term())] {
        let (epmd, node) = start(otp).await?;
        for batch in some(&strategy, 800).chunks(80) {
            let answers = ask(
                &node,
                batch,
                "[if A < B -> less;
                     A > B -> greater;
                     A =:= B -> equal;
                     is_function(A) -> same_value;
                     true -> {K, _, _} = maps:next(maps:iterator(#{A => 0, B => 0}, ordered)),
                             if K =:= A -> less; true -> greater end
                  end || A <- Terms, B <- Terms]",
            )
            .await?;

            let pairs = batch.iter().flat_map(|a| batch.iter().map(move |b| (a, b)));
            for ((a, b), answer) in pairs.zip(answers.list()?.iter()) {
                let expected = match answer.atom()?.as_str() {
                    "less" => Ordering::Less,
                    "greater" => Ordering::Greater,
                    "equal" => Ordering::Equal,
                    // Closures of the same place in versions of a module; which comes first is its secret.
                    _ => continue,
                };
                assert_eq!(a.cmp(b), expected, "OTP {otp}: {a} and {b}");
            }
        }
        node.finish().await?;
        drop(epmd);
    }
    Ok(())
}

#[tokio::test]
async fn terms_sort_as_in_erlang() -> Result<()> {
    for (otp, strategy) in [(Otp::R27, testing::older()), (Otp::R29, testing::term())] {
        let (epmd, node) = start(otp).await?;
        let mut terms = some(&strategy, 2000);
        terms.sort();

        // Sorting is stable, so terms that are in order stay where they are.
        let answer = ask(&node, &terms, "lists:sort(Terms) =:= Terms").await?;

        assert!(answer.is_atom("true"), "OTP {otp}");
        node.finish().await?;
        drop(epmd);
    }
    Ok(())
}

/// All that we encode is what the node would have written; what it writes we decode to the same term.
#[tokio::test]
async fn bytes_are_those_of_term_to_binary() -> Result<()> {
    for (otp, strategy) in [(Otp::R27, testing::older()), (Otp::R29, testing::term())] {
        let (epmd, node) = start(otp).await?;
        let terms = some(&strategy, 1500);

        let answers = ask(
            &node,
            &terms,
            "[{term_to_binary(T), term_to_binary(T, [deterministic])} || T <- Terms]",
        )
        .await?;

        for (term, answer) in terms.iter().zip(answers.list()?.iter()) {
            let [plain, deterministic] = answer.tuple::<2>()?;
            let (plain, deterministic) = (plain.binary()?, deterministic.binary()?);
            assert_eq!(wire::decode(plain).as_ref(), Ok(term), "OTP {otp}: {plain:?}");
            assert_eq!(
                wire::decode(deterministic).as_ref(),
                Ok(term),
                "OTP {otp}: {deterministic:?}"
            );
            let mut ours = Vec::new();
            wire::encode(term, &mut ours)?;
            if !contains(term, &has_bytes_of_its_own) {
                assert_eq!(ours, plain, "OTP {otp}: {term}");
            }
        }
        node.finish().await?;
        drop(epmd);
    }
    Ok(())
}

async fn start(otp: Otp) -> Result<(Epmd, ErlNode)> {
    let epmd = Epmd::start().await?;
    let options = ErlNode::options(otp, "a", epmd.port()).arguments(&["+pc", "unicode"]);
    let node = options.start().await?;
    Ok((epmd, node))
}

fn some(strategy: &BoxedStrategy<Term>, count: usize) -> Vec<Term> {
    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| strategy.new_tree(&mut runner).expect("no filter refuses much").current())
        .collect()
}

/// What an expression gives for `Terms`.
async fn ask(node: &ErlNode, terms: &[Term], expression: &str) -> Result<Term> {
    use std::fmt::Write as _;

    let mut bytes = Vec::new();
    wire::encode(&Term::list_of(terms.iter().cloned()), &mut bytes)?;
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(hex, "{byte:02x}")?;
    }
    let text = node
        .eval_within(
            &format!(
                "(fun(Terms) -> binary:encode_hex(term_to_binary({expression})) end)(
                     binary_to_term(binary:decode_hex(<<\"{hex}\">>)))"
            ),
            Duration::from_secs(60),
        )
        .await?;
    let answer: Term = text.parse()?;
    let digits = std::str::from_utf8(answer.binary()?)?;
    ensure!(digits.len() % 2 == 0, "{digits}");
    let bytes = (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16))
        .collect::<Result<Vec<u8>, _>>()?;
    wire::decode(&bytes).context("the node's answer")
}

fn closure(module: &str, old_index: u32, old_uniq: u32) -> Term {
    let node = NodeName::new("a@b").expect("it's name@host");
    let fun = Fun::Internal {
        arity: 1,
        uniq: [7; 16],
        index: 1,
        module: Atom::new(module).expect("it's short"),
        old_index,
        old_uniq,
        pid: Pid { node, id: 1, serial: 0, creation: Creation(1) },
        free: Vec::new(),
    };
    Term::Fun(fun.into())
}

/// Whether the term or a part of it is such a one.
fn contains(term: &Term, such: &dyn Fn(&Term) -> bool) -> bool {
    let any = |terms: &[Term]| terms.iter().any(|term| contains(term, such));
    such(term)
        || match term {
            Term::Map(map) => {
                map.pairs().iter().any(|(key, value)| contains(key, such) || contains(value, such))
            }
            Term::Tuple(elements) => any(elements),
            Term::List(list) => any(list),
            Term::ImproperList(list) => any(list.elements()) || contains(list.tail(), such),
            Term::Record(record) => record.fields.iter().any(|(_, value)| contains(value, such)),
            Term::Fun(fun) => match &**fun {
                Fun::Internal { free, .. } => any(free),
                Fun::External { .. } => false,
            },
            _ => false,
        }
}

/// In `fun m:f/1` Erlang has quotes of another kind: none for `maybe`, but for `a@b`, and UTF-8 is printed as
/// if it were Latin-1.
fn is_fun_with_odd_name(term: &Term) -> bool {
    let odd = |name: &Atom| {
        let name = name.as_str();
        is_reserved(name) || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match term {
        Term::Fun(fun) => match &**fun {
            Fun::External { module, function, .. } => odd(module) || odd(function),
            Fun::Internal { .. } => false,
        },
        _ => false,
    }
}

fn is_reserved(word: &str) -> bool {
    ["fun", "maybe", "else", "cond", "end"].contains(&word)
}

/// The node has its own order of keys in bytes and puts a pid of its own into closures; and small ports have
/// 64 bits from OTP 27 on, but not before, nor in what we write.
fn has_bytes_of_its_own(term: &Term) -> bool {
    match term {
        Term::Map(map) => map.len() > 1,
        Term::Fun(fun) => matches!(&**fun, Fun::Internal { .. }),
        _ => false,
    }
}

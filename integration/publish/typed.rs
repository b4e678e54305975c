//! `kv` with Rust types, beside `dp_kv`, which has none.

use std::collections::BTreeMap;

use anyhow::Result;
use data_publisher::atom;
use data_publisher::kv::{Entry, Kv, TypedKv};
use data_publisher::scope::Notice;
use data_publisher::serde::Manners;
use data_publisher::term::NodeName;
use serde::{Deserialize, Serialize};

use super::{beam_node, rust_node};
use crate::otp::on_each_release;
use crate::support::{Epmd, Otp, SOON, wait_eval, wait_until};

on_each_release! {
    values_of_a_type_go_both_ways_and_others_are_errors_of_their_node
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename = "My.Limit")]
struct Limit {
    max: u8,
    note: Option<String>,
}

async fn values_of_a_type_go_both_ways_and_others_are_errors_of_their_node(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let beam = beam_node(otp, "a", &epmd).await?;
    let node = rust_node("r", &epmd, false).await?;
    let kv = Kv::start(&node, atom!("limits"))?;
    let limits: TypedKv<String, Limit> = kv.typed_by(Manners::Elixir);
    let (_, mut changes) = kv.subscribe().await?;
    node.connect("a@127.0.0.1").await?;
    let a = NodeName::new("a@127.0.0.1")?;
    let owners = || -> Result<BTreeMap<_, _>> {
        let owners = limits.get("login")?.into_iter();
        Ok(owners.map(|(node, value)| (node, value.map_err(|error| error.to_string()))).collect())
    };
    let seen = async |what: &str, expected: &BTreeMap<NodeName, Result<Limit, String>>| {
        wait_until(what, SOON, async || match owners() {
            Ok(owners) if owners == *expected => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
    };

    // Ours is an Elixir struct there, and one of theirs is ours.
    let ours = Limit { max: 1, note: None };
    limits.put("login", &ours).await?;
    let start = "{ok, _} = dp_kv:start(limits), ok = dp_kv:put(limits, <<\"login\">>, \
                 #{'__struct__' => 'Elixir.My.Limit', max => 2, note => <<\"two\">>})";
    beam.eval(start).await?;
    let theirs = Limit { max: 2, note: Some("two".to_owned()) };
    let mut expected: BTreeMap<_, Result<Limit, String>> =
        [(a.clone(), Ok(theirs.clone())), (node.name().clone(), Ok(ours.clone()))].into();
    seen("both", &expected).await?;
    let is_ours = "#{'r@127.0.0.1' := Ours} = dp_kv:get(limits, <<\"login\">>), \
                   Ours =:= #{'__struct__' => 'Elixir.My.Limit', max => 1, note => nil}";
    wait_eval(&beam, is_ours, "true", SOON).await?;

    // What can't be read is an error of its node alone.
    beam.eval("ok = dp_kv:put(limits, <<\"login\">>, #{max => 1000, note => nil})").await?;
    let bad = "expected u8 at max, found 1000";
    expected.insert(a.clone(), Err(bad.to_owned()));
    seen("an error of a", &expected).await?;

    // So is a key; and subscribers hear of it all.
    beam.eval("ok = dp_kv:put(limits, {login}, nil), ok = dp_kv:delete(limits, <<\"login\">>)")
        .await?;
    let mut told = Vec::new();
    while told.len() < 5 {
        match tokio::time::timeout(SOON, changes.next()).await? {
            Some(Notice::Event(event)) => told.push(match limits.read(&event) {
                Ok(Entry { node, key, value }) => Ok((node, key, value)),
                Err(error) => Err((error.key.to_string(), error.source.to_string())),
            }),
            other => anyhow::bail!("told {other:?}"),
        }
    }
    let (us, login) = (node.name().clone(), "login".to_owned());
    let told_of_a = [
        Ok((us, login.clone(), Some(ours))),
        Ok((a.clone(), login.clone(), Some(theirs))),
        Err(("<<\"login\">>".to_owned(), bad.to_owned())),
        Err(("{login}".to_owned(), "expected a string, found {login}".to_owned())),
        Ok((a, login, None)),
    ];
    assert_eq!(told, told_of_a);
    assert!(limits.get_all().iter().any(Result::is_err), "{:?}", limits.get_all());
    beam.finish().await
}

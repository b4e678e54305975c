//! Versions side by side: `names` here and `dp_names` there, each as version 1 and 2.
//!
//! Nobody may get what it can't read: BEAM nodes keep a list of what reached them untranslated, Rust
//! nodes a counter, and both have to stay empty.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use data_publisher::atom;
use data_publisher::engine::{EngineOptions, Version};
use data_publisher::node::Node;
use data_publisher::scope::Scope;
use data_publisher::term::Term;

use super::{beam_node, rust_node};
use crate::otp::on_each_release;
use crate::publishers::names::{Format, Names, NamesView, Op};
use crate::support::{Epmd, ErlNode, Otp, SOON, wait_until};

on_each_release! {
    each_gets_what_it_can_read_whoever_is_newer_and_comes_first
    three_of_two_versions_agree
    versions_are_any_terms
    a_standalone_scope_ignores_the_cluster
}

/// The two versions of the publisher.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Release {
    Old,
    New,
}

impl Release {
    fn format(self) -> Format {
        match self {
            Self::Old => Format::One,
            Self::New => Format::Two,
        }
    }
}

/// A Rust node's scope of names.
pub(super) struct RustNames {
    pub(super) node: Node,
    pub(super) scope: Scope<Names>,
    pub(super) view: NamesView,
    unreadable: Arc<AtomicU64>,
}

impl RustNames {
    pub(super) async fn start(name: &str, epmd: &Epmd, release: Release) -> Result<Self> {
        let version = match release {
            Release::Old => 1,
            Release::New => 2,
        };
        Self::start_as(name, epmd, release, &version.to_string()).await
    }

    /// With this version, in Erlang syntax.
    async fn start_as(name: &str, epmd: &Epmd, release: Release, version: &str) -> Result<Self> {
        let node = rust_node(name, epmd, false).await?;
        let names = Names::new(release.format(), Version(version.parse::<Term>()?));
        let (view, unreadable) = (names.view(), names.unreadable());
        let scope = Scope::start(&node, atom!("names"), names)?;
        Ok(Self { node, scope, view, unreadable })
    }

    pub(super) async fn add(&self, name: &str) -> Result<()> {
        self.scope.update(Op::add(name.parse::<Term>()?)).await?;
        Ok(())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        self.scope.update(Op::remove(name.parse::<Term>()?)).await?;
        Ok(())
    }

    /// Node by node, as `dp_names:all/1` prints it.
    pub(super) fn all(&self) -> String {
        let node = |(node, names): (_, std::collections::BTreeSet<Term>)| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            format!("{node}: {}", names.join(" "))
        };
        self.view.names().into_iter().map(node).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn assert_all_was_read(&self) -> Result<()> {
        let count = self.unreadable.load(Ordering::Relaxed);
        ensure!(count == 0, "{}: {count} times something couldn't be read", self.node.name());
        Ok(())
    }
}

/// A BEAM node with the modules loaded; its scope is started by [`start_names`].
pub(crate) async fn beam_with_names(otp: Otp, name: &str, epmd: &Epmd) -> Result<ErlNode> {
    let node = beam_node(otp, name, epmd).await?;
    node.load("erlang/test/dp_names.erl").await?;
    Ok(node)
}

pub(super) async fn start_names(node: &ErlNode, release: Release) -> Result<()> {
    let (format, version) = match release {
        Release::Old => (1, "1"),
        Release::New => (2, "2"),
    };
    start_names_as(node, format, version).await
}

async fn start_names_as(node: &ErlNode, format: u8, version: &str) -> Result<()> {
    let options = format!("#{{format => {format}, version => {version}}}");
    node.peek(&format!("{{ok, _}} = dp_names:start(names, {options}), ok")).await?;
    Ok(())
}

/// Node by node, as [`RustNames::all`] has it.
pub(super) async fn all_of(node: &ErlNode) -> Result<String> {
    let text = "lists:flatten(lists:join(\"; \", [io_lib:format(\"~s: ~s\", [N, lists:join(\" \", \
                [io_lib:format(\"~0p\", [Name]) || Name <- Names])]) \
                || {N, Names} <- lists:sort(maps:to_list(dp_names:all(names)))]))";
    Ok(node.peek(text).await?.trim_matches('"').to_owned())
}

pub(super) async fn assert_nothing_was_untranslated(node: &ErlNode) -> Result<()> {
    let untranslated = node.peek("dp_names:untranslated()").await?;
    ensure!(untranslated == "[]", "{}: {untranslated} came untranslated", node.name());
    Ok(())
}

/// Waits until all see the same, with this in it; and nobody got what it couldn't read.
pub(super) async fn at_rest(beam: &[&ErlNode], rust: &[&RustNames], with: &[&str]) -> Result<()> {
    wait_until("all views are equal", SOON, async || {
        let mut views = BTreeMap::new();
        for node in beam {
            let view = all_of(node).await.map_err(|error| format!("{error:#}"))?;
            views.insert(node.name().to_owned(), view);
        }
        for names in rust {
            views.insert(names.node.name().to_string(), names.all());
        }
        let first = views.values().next().cloned().unwrap_or_default();
        let whole = with.iter().all(|part| first.contains(part));
        let same = views.values().all(|view| *view == first);
        if same && whole { Ok(()) } else { Err(format!("{views:#?}")) }
    })
    .await?;
    for node in beam {
        assert_nothing_was_untranslated(node).await?;
    }
    rust.iter().try_for_each(|names| names.assert_all_was_read())
}

const BOTH: [(Release, Release); 2] = [(Release::Old, Release::New), (Release::New, Release::Old)];

async fn each_gets_what_it_can_read_whoever_is_newer_and_comes_first(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    for (ours, theirs) in BOTH {
        for order in ["Rust first", "BEAM first", "late connect"] {
            let step = || format!("Rust is {ours:?}, the BEAM {theirs:?}, {order}");
            meet(&a, &epmd, (ours, theirs), order).await.with_context(step)?;
        }
    }
    a.finish().await
}

async fn meet(
    a: &ErlNode,
    epmd: &Epmd,
    (ours, theirs): (Release, Release),
    order: &str,
) -> Result<()> {
    let connect = async |names: &RustNames| names.node.connect("a@127.0.0.1").await;
    let names = match order {
        "Rust first" => {
            let names = RustNames::start("r", epmd, ours).await?;
            connect(&names).await?;
            names.add("before").await?;
            start_names(a, theirs).await?;
            names
        }
        "BEAM first" => {
            start_names(a, theirs).await?;
            a.peek("dp_names:add(names, before)").await?;
            let names = RustNames::start("r", epmd, ours).await?;
            connect(&names).await?;
            names
        }
        _ => {
            start_names(a, theirs).await?;
            a.peek("dp_names:add(names, before, 7)").await?;
            let names = RustNames::start("r", epmd, ours).await?;
            names.add("before").await?;
            connect(&names).await?;
            names
        }
    };
    names.add("{ours, 1}").await?;
    a.peek("dp_names:add(names, {theirs, 1}, 5)").await?;
    at_rest(&[a], &[&names], &["{ours,1}", "{theirs,1}"]).await?;

    // Updates both ways, some of which take something back.
    for i in 2..20 {
        names.add(&format!("{{ours, {i}}}")).await?;
        names.remove(&format!("{{ours, {}}}", i - 1)).await?;
        let theirs = format!(
            "dp_names:add(names, {{theirs, {i}}}, {i}), dp_names:remove(names, {{theirs, {}}})",
            i - 1
        );
        a.peek(&theirs).await?;
    }
    at_rest(&[a], &[&names], &["{ours,19}", "{theirs,19}"]).await?;

    // Lost and found again, with changes on both sides meanwhile.
    for round in 0..3 {
        a.peek("erlang:disconnect_node('r@127.0.0.1')").await?;
        names.add(&format!("{{alone, {round}}}")).await?;
        a.peek(&format!("dp_names:add(names, {{alone_too, {round}}}, 3)")).await?;
        connect(&names).await?;
        let (one, two) = (format!("{{alone,{round}}}"), format!("{{alone_too,{round}}}"));
        at_rest(&[a], &[&names], &[&one, &two]).await?;
        names.add(&format!("{{again, {round}}}")).await?;
        a.peek(&format!("dp_names:add(names, {{again_too, {round}}}, 3)")).await?;
        let (one, two) = (format!("{{again,{round}}}"), format!("{{again_too,{round}}}"));
        at_rest(&[a], &[&names], &[&one, &two]).await?;
    }
    a.peek("dp_names:stop(names)").await?;
    names.node.stop().await;
    Ok(())
}

/// One BEAM and two Rust nodes: where two BEAMs of OTP 29 and of different versions meet, they get it
/// wrong between them.
async fn three_of_two_versions_agree(otp: Otp) -> Result<()> {
    use Release::{New, Old};
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    for [beam, first, second] in
        [[Old, Old, New], [Old, New, New], [New, Old, New], [New, Old, Old]]
    {
        let step = || format!("the BEAM is {beam:?}, Rust {first:?} and {second:?}");
        start_names(&a, beam).await?;
        let r = RustNames::start("r", &epmd, first).await?;
        let s = RustNames::start("s", &epmd, second).await?;
        for names in [&r, &s] {
            names.node.connect("a@127.0.0.1").await?;
        }
        r.node.connect("s@127.0.0.1").await?;
        for i in 0..10 {
            r.add(&format!("{{r, {i}}}")).await?;
            s.add(&format!("{{s, {i}}}")).await?;
            a.peek(&format!("dp_names:add(names, {{a, {i}}}, {i})")).await?;
        }
        at_rest(&[&a], &[&r, &s], &["{a,9}", "{r,9}", "{s,9}"]).await.with_context(step)?;
        a.peek("dp_names:stop(names)").await?;
        r.node.stop().await;
        s.node.stop().await;
    }
    a.finish().await
}

async fn versions_are_any_terms(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    for (old, new) in [
        ("v1", "v2"),
        ("{1, 9}", "{2, 0}"),
        ("\"1.0\"", "\"1.1\""),
        ("#{major => 1}", "#{major => 2}"),
        ("<<\"1\">>", "<<\"1.1\">>"),
        // A number is below all else.
        ("99", "v1"),
    ] {
        for (ours, theirs) in BOTH {
            let version = |release| if release == Release::Old { old } else { new };
            let format = if theirs == Release::Old { 1 } else { 2 };
            start_names_as(&a, format, version(theirs)).await?;
            let names = RustNames::start_as("r", &epmd, ours, version(ours)).await?;
            names.node.connect("a@127.0.0.1").await?;
            names.add("ours").await?;
            a.peek("dp_names:add(names, theirs, 3)").await?;
            at_rest(&[&a], &[&names], &["ours", "theirs"]).await.with_context(|| {
                format!("Rust is {}, the BEAM {}", version(ours), version(theirs))
            })?;
            let peers = names.scope.peers().await?;
            ensure!(peers.len() == 1 && peers[0].1.0 == version(theirs).parse::<Term>()?);
            a.peek("dp_names:stop(names)").await?;
            names.node.stop().await;
        }
    }
    a.finish().await
}

async fn a_standalone_scope_ignores_the_cluster(otp: Otp) -> Result<()> {
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    for (ours, theirs) in [(true, false), (false, true), (true, true)] {
        let options = format!("#{{standalone => {theirs}}}");
        a.peek(&format!(
            "{{ok, _}} = dp_names:start(names, {options}), dp_names:add(names, theirs)"
        ))
        .await?;
        let node = rust_node("r", &epmd, false).await?;
        let names = Names::new(Format::One, 1);
        let view = names.view();
        let options = EngineOptions::default().standalone(ours);
        let scope = Scope::start_with(&node, atom!("names"), names, options)?;
        // Another scope on the same nodes tells when whatever there is to say has been said.
        node.connect("a@127.0.0.1").await?;
        scope.update(Op::add(atom!("ours"))).await?;
        let control = data_publisher::Kv::start(&node, atom!("control"))?;
        a.peek("{ok, _} = dp_kv:start(control), ok = dp_kv:put(control, k, 1)").await?;
        wait_until("the other scope", SOON, async || match control.get(atom!("k")).len() {
            1 => Ok(()),
            _ => Err(String::new()),
        })
        .await?;
        let seen: Vec<_> = view.names().into_keys().collect();
        ensure!(seen == [node.name().clone()], "{seen:?}");
        assert_eq!(a.peek("maps:keys(dp_names:all(names))").await?, "['a@127.0.0.1']");
        // It still serves its callers.
        let call = "gen_server:call({names, 'r@127.0.0.1'}, {update, [{add, called}]})";
        assert_eq!(a.peek(call).await?, "ok");
        ensure!(view.names()[node.name()].len() == 2);
        a.peek("dp_names:stop(names), dp_kv:stop(control)").await?;
        node.stop().await;
    }
    a.finish().await
}

/// Two nodes of OTP 29 and of different versions: the old one gets updates of the new one untranslated,
/// for both took the receiver's version in a `local_data` for its sender's. Rust nodes beside them, of
/// either version, get and send what each can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_two_otp_29_that_get_it_wrong_we_get_it_right() -> Result<()> {
    let otp = Otp::R29;
    let epmd = Epmd::start_of(otp).await?;
    let a = beam_with_names(otp, "a", &epmd).await?;
    let b = beam_with_names(otp, "b", &epmd).await?;
    start_names(&a, Release::Old).await?;
    start_names(&b, Release::New).await?;
    let r = RustNames::start("r", &epmd, Release::Old).await?;
    let s = RustNames::start("s", &epmd, Release::New).await?;
    for names in [&r, &s] {
        names.node.connect("a@127.0.0.1").await?;
        names.node.connect("b@127.0.0.1").await?;
    }
    r.node.connect("s@127.0.0.1").await?;
    // Both BEAM nodes hear of us before they hear of each other's updates.
    a.peek("pong = net_adm:ping('b@127.0.0.1')").await?;
    r.add("r1").await?;
    s.add("s1").await?;
    a.peek("dp_names:add(names, a1)").await?;
    wait_until("all have met", SOON, async || {
        let b = all_of(&b).await.map_err(|error| format!("{error:#}"))?;
        let views = [b, r.all(), s.all()];
        let whole = |view: &String| ["a1", "r1", "s1"].iter().all(|name| view.contains(name));
        if views.iter().all(whole) { Ok(()) } else { Err(format!("{views:#?}")) }
    })
    .await?;

    b.peek("dp_names:add(names, b1, 7)").await?;

    wait_until("all Rust nodes see it", SOON, async || {
        let views = [r.all(), s.all()];
        let whole = views.iter().all(|view| view.contains("b@127.0.0.1: b1"));
        if whole { Ok(()) } else { Err(format!("{views:#?}")) }
    })
    .await?;
    r.assert_all_was_read()?;
    s.assert_all_was_read()?;
    // The defect, shown; the day this fails OTP has mended it.
    wait_until("the old one was told in words it can't read", SOON, async || {
        let untranslated = a.peek("dp_names:untranslated()").await.map_err(|e| e.to_string())?;
        if untranslated == "[{'b@127.0.0.1',{set,b1,7}}]" { Ok(()) } else { Err(untranslated) }
    })
    .await?;
    ensure!(!all_of(&a).await?.contains("b1"), "it has read it nevertheless");
    // And nothing of ours came to it like that.
    s.scope.update(Op::set(atom!("s2"), 9)).await?;
    wait_until("it sees the new Rust node's", SOON, async || {
        let all = all_of(&a).await.map_err(|error| error.to_string())?;
        if all.contains("s1 s2") { Ok(()) } else { Err(all) }
    })
    .await?;
    assert_eq!(a.peek("length(dp_names:untranslated())").await?, "1");
    a.finish().await?;
    b.finish().await
}

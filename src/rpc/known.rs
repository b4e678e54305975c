//! The functions that may be called on every node: they tell who we are and change nothing.

use super::allowed::Rpc;
use super::exception::Exception;
use crate::node::{Node, WeakNode};
use crate::term::{List, Term};
use crate::{atom, tuple};

/// The newest release whose protocols we speak; tools look at it to know what they may ask.
const OTP_RELEASE: &str = "29";

pub(super) fn allow(node: &Node) {
    let rpc = node.rpc();
    no_code(&rpc);
    let erlang = || atom!("erlang");
    // The table belongs to the node; what is in it mustn't keep the node running.
    let weak = node.downgrade();
    rpc.allow(erlang(), atom!("node"), 0, move |_| {
        let node = running(&weak);
        async { Ok(node?.name().into()) }
    });
    let weak = node.downgrade();
    rpc.allow(erlang(), atom!("nodes"), 0, move |_| {
        let node = running(&weak);
        async { Ok(Term::list_of(node?.router().visible_nodes().iter().map(Term::from))) }
    });
    let weak = node.downgrade();
    rpc.allow(erlang(), atom!("system_info"), 1, move |args| {
        let node = running(&weak);
        async move { system_info(&node?, &args) }
    });
}

/// There is no code of Erlang's here. `erl -remsh` asks for the module `shell`, says so and ends.
fn no_code(rpc: &Rpc) {
    rpc.allow(atom!("code"), atom!("ensure_loaded"), 1, |args| async move {
        args[0].atom()?;
        Ok(tuple![atom!("error"), atom!("nofile")])
    });
}

fn running(node: &WeakNode) -> Result<Node, Exception> {
    node.upgrade().ok_or_else(|| Exception::exit(atom!("shutdown")))
}

/// A few keys of `erlang:system_info/1`; any other is a `badarg`, as there.
fn system_info(node: &Node, args: &List) -> Result<Term, Exception> {
    let [Term::Atom(key)] = &args[..] else { return Err(Exception::badarg()) };
    let version = env!("CARGO_PKG_VERSION");
    Ok(match key.as_str() {
        "otp_release" => Term::string_of(OTP_RELEASE),
        "version" => Term::string_of(version),
        "system_version" => Term::string_of(&format!("data-publisher {version} (Rust)\n")),
        "machine" => Term::string_of("data-publisher"),
        "system_architecture" => {
            let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
            Term::string_of(&format!("{arch}-{os}"))
        }
        "creation" => node.creation().0.into(),
        "process_count" => (node.router().process_count() as u32).into(),
        "wordsize" => (size_of::<usize>() as u32).into(),
        _ => return Err(Exception::badarg()),
    })
}

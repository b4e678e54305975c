//! Elixir on an Erlang node: the VM that `erl` starts, with Elixir's modules in its path.
//!
//! Each release has the Elixir of its own time. What is told in Elixir is compiled and evaluated by
//! `Code` on the node, so it's Elixir's own code that runs, and the harness is the same.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use tokio::sync::Mutex;

use super::{ErlNode, SOON, node::NodeOptions};

impl NodeOptions {
    /// Starts the node with Elixir running and the modules of a source of this repository loaded.
    pub(crate) async fn start_elixir(self, source: &'static str) -> Result<ErlNode> {
        let otp = self.otp();
        let path = format!("{}/elixir/ebin", otp.elixir().await?);
        let node = self.arguments(&["-pa", &path]).start().await?;
        node.eval("{ok, _} = application:ensure_all_started(elixir), ok").await?;

        let beams = compiled(&node, source).await?;
        let load = format!(
            "[{{module, M}} = code:load_binary(M, \"{source}\", B) || {{M, B}} <- \
             binary_to_term(base64:decode({beams}))], ok"
        );
        node.peek(&load).await?;
        Ok(node)
    }
}

impl ErlNode {
    /// Evaluates Elixir; the value, as Erlang prints it. Variables aren't kept.
    pub(crate) async fn elixir(&self, code: &str) -> Result<String> {
        let code = binary(code);
        let value = self.peek(&format!("element(1, 'Elixir.Code':eval_string({code}))")).await;
        value.with_context(|| code)
    }
}

/// The modules of a source, compiled by the node: `[{Module, Beam}]`, as Erlang prints it in base 64.
///
/// Once a release; the first one compiles, the others wait for it.
async fn compiled(node: &ErlNode, source: &'static str) -> Result<String> {
    static COMPILED: Mutex<BTreeMap<(&str, &str), String>> = Mutex::const_new(BTreeMap::new());
    let mut compiled = COMPILED.lock().await;
    let key = (node.otp().release(), source);
    if let Some(beams) = compiled.get(&key) {
        return Ok(beams.clone());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("can't read {}", path.display()))?;
    let compile = format!(
        "base64:encode(term_to_binary('Elixir.Code':compile_string({}, <<\"{source}\">>)))",
        binary(&text)
    );
    let beams = node.eval_within(&compile, 6 * SOON).await?;
    compiled.insert(key, beams.clone());
    Ok(beams)
}

/// A text as an Erlang expression for the binary of its UTF-8.
fn binary(text: &str) -> String {
    let mut all = String::from("<<\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => all.extend(['\\', c]),
            _ => all.push(c),
        }
    }
    all + "\"/utf8>>"
}

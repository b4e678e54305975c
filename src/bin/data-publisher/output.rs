//! What is printed: events for people or, with `--json`, for programs. One line each, written at
//! once and whole.

use std::io::Write;
use std::net::SocketAddr;

use data_publisher::term::{Creation, NodeName, Pid, Term};
use data_publisher::wire::Flags;
use serde_json::{Value, json};

pub(crate) use crate::logging::complain;
use crate::progress;

/// Something that happened, or an answer.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Up { node: &'a NodeName, port: u16, creation: Creation },
    Http { address: SocketAddr },
    NodeUp { node: &'a NodeName, visible: bool, flags: Flags },
    NodeDown { node: &'a NodeName, reason: String },
    PeerUp { pid: &'a Pid, version: &'a Term },
    PeerDown { pid: &'a Pid, reason: &'a Term },
    Join { group: &'a Term, pids: &'a [Pid] },
    Leave { group: &'a Term, pids: &'a [Pid] },
    Put { node: &'a NodeName, key: &'a Term, value: &'a Term },
    Delete { node: &'a NodeName, key: &'a Term },
    LocalData { node: &'a NodeName, data: &'a Term },
    Update { node: &'a NodeName, update: &'a Term },
    Lagged,
    Message { pid: &'a Pid, term: &'a Term },
    Reply { command: &'a str, result: Result<Value, String> },
}

/// How events are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Format {
    /// Prints one event. An error (a closed pipe) is for the caller: nobody listens any more.
    pub(crate) fn print(self, event: &Event<'_>) -> std::io::Result<()> {
        let line = match self {
            Self::Json => object(event).to_string(),
            Self::Text => text(event),
        };
        progress::erase();
        let mut out = std::io::stdout().lock();
        out.write_all((line + "\n").as_bytes())?;
        out.flush()
    }
}

fn strings<T: ToString>(all: &[T]) -> Value {
    all.iter().map(ToString::to_string).collect()
}

/// The documented form; see `join --help`.
fn object(event: &Event<'_>) -> Value {
    match event {
        Event::Up { node, port, creation } => {
            json!({"event": "up", "node": node.as_str(), "port": port, "creation": creation.0})
        }
        Event::Http { address } => json!({"event": "http", "address": address.to_string()}),
        Event::NodeUp { node, visible, flags } => json!({
            "event": "node_up", "node": node.as_str(), "visible": visible,
            "flags": flags.names().collect::<Vec<_>>(),
        }),
        Event::NodeDown { node, reason } => {
            json!({"event": "node_down", "node": node.as_str(), "reason": reason})
        }
        Event::PeerUp { pid, version } => json!({
            "event": "peer_up", "node": pid.node.as_str(), "pid": pid.to_string(),
            "version": version.to_string(),
        }),
        Event::PeerDown { pid, reason } => json!({
            "event": "peer_down", "node": pid.node.as_str(), "pid": pid.to_string(),
            "reason": reason.to_string(),
        }),
        Event::Join { group, pids } => {
            json!({"event": "join", "group": group.to_string(), "pids": strings(pids)})
        }
        Event::Leave { group, pids } => {
            json!({"event": "leave", "group": group.to_string(), "pids": strings(pids)})
        }
        Event::Put { node, key, value } => json!({
            "event": "put", "node": node.as_str(), "key": key.to_string(),
            "value": value.to_string(),
        }),
        Event::Delete { node, key } => {
            json!({"event": "delete", "node": node.as_str(), "key": key.to_string()})
        }
        Event::LocalData { node, data } => {
            json!({"event": "local_data", "node": node.as_str(), "data": data.to_string()})
        }
        Event::Update { node, update } => {
            json!({"event": "update", "node": node.as_str(), "update": update.to_string()})
        }
        Event::Lagged => json!({"event": "lagged"}),
        Event::Message { pid, term } => {
            json!({"event": "message", "pid": pid.to_string(), "term": term.to_string()})
        }
        Event::Reply { command, result: Ok(ok) } => {
            json!({"event": "reply", "command": command, "ok": ok})
        }
        Event::Reply { command, result: Err(error) } => {
            json!({"event": "reply", "command": command, "error": error})
        }
    }
}

fn text(event: &Event<'_>) -> String {
    match event {
        Event::Up { node, port, .. } => format!("up         {node}, port {port}"),
        Event::Http { address } => format!("http       http://{address}/"),
        Event::NodeUp { node, visible, flags } => {
            let kind = if *visible { "visible" } else { "hidden" };
            format!("node_up    {node}, {kind}{}", agreed(*flags))
        }
        Event::NodeDown { node, reason } => format!("node_down  {node}, {reason}"),
        Event::PeerUp { pid, version } => format!("peer_up    {pid}, version {version}"),
        Event::PeerDown { pid, reason } => format!("peer_down  {pid}, {reason}"),
        Event::Join { group, pids } => format!("join       {group} {}", words(pids)),
        Event::Leave { group, pids } => format!("leave      {group} {}", words(pids)),
        Event::Put { node, key, value } => format!("put        {node} {key} {value}"),
        Event::Delete { node, key } => format!("delete     {node} {key}"),
        Event::LocalData { node, data } => format!("local_data {node} {data}"),
        Event::Update { node, update } => format!("update     {node} {update}"),
        Event::Lagged => {
            "lagged     updates were left out: this output is read too slowly".to_owned()
        }
        Event::Message { pid, term } => format!("message    {pid} {term}"),
        Event::Reply { result: Ok(Value::Array(all)), .. } if all.is_empty() => "(none)".to_owned(),
        Event::Reply { result: Ok(Value::Array(all)), .. } => {
            all.iter().map(plain).collect::<Vec<_>>().join("\n")
        }
        Event::Reply { result: Ok(Value::Null), .. } => "ok".to_owned(),
        Event::Reply { result: Ok(ok), .. } => plain(ok),
        Event::Reply { result: Err(error), .. } => format!("error: {error}"),
    }
}

fn words(pids: &[Pid]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => fields.values().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// One line on stdout, for commands that don't print events.
pub(crate) fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What not every connection has, in words: `, atom cache, fragments`.
fn agreed(flags: Flags) -> String {
    let words = [
        (Flags::DIST_HDR_ATOM_CACHE, ", atom cache"),
        (Flags::FRAGMENTS, ", fragments"),
        (Flags::SPAWN, ", spawn"),
        (Flags::ALTACT_SIG, ", priority"),
    ];
    words.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, word)| *word).collect()
}

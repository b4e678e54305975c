//! The model as JSON, for the page and for whoever likes: bounded, however large the cluster is.
//!
//! Of nodes the first [`MOST_NODES`] are told, and how many there are; of the picture as many. Times are in seconds,
//! rates a second; what isn't known is `null`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use data_publisher::term::NodeName;
use serde_json::{Value, json};

use super::history::Sample;
use super::ready::Readiness;
use super::search::Found;
use super::state::{NodeRow, Snapshot};

/// Nodes that are told.
const MOST_NODES: usize = 200;

/// Nodes in the picture.
const MOST_DRAWN: usize = 60;

/// What `/state` is; written once for all who get it.
pub(super) fn state(snapshot: &Snapshot) -> Arc<str> {
    snapshot.json.get_or_init(|| object(snapshot).to_string().into()).clone()
}

fn object(snapshot: &Snapshot) -> Value {
    let Snapshot { scope, nodes, history, .. } = snapshot;
    let seconds = |time: std::time::SystemTime| {
        time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    };
    let closed: serde_json::Map<_, _> = (snapshot.closed.iter())
        .filter(|(.., count)| *count > 0)
        .map(|(reason, _, count)| ((*reason).to_owned(), json!(count)))
        .collect();
    let series = |of: &dyn Fn(&Sample) -> Value| history.iter().map(of).collect::<Value>();
    let ready = match snapshot.ready {
        Readiness::Ready => "ready",
        Readiness::Waiting => "waiting",
        Readiness::Stopped => "stopped",
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "at": seconds(snapshot.at),
        "node": {
            "name": snapshot.name.as_str(), "creation": snapshot.creation, "port": snapshot.port,
            "started": seconds(snapshot.started), "processes": snapshot.processes,
            "queued_bytes": snapshot.queued_bytes,
        },
        "scope": {
            "name": scope.name, "module": scope.module, "entries": scope.entries[1],
            "count": scope.count, "answers": scope.answers, "peers": scope.peers,
            "synced": scope.synced, "subscribers": scope.subscribers,
            "updates_in": scope.updates.0, "updates_out": scope.updates.1,
            "refused": scope.refused.iter().map(|(_, count)| count).sum::<u64>(),
        },
        "ready": ready,
        "awaited": scope.awaited.iter().take(10).map(NodeName::as_str).collect::<Vec<_>>(),
        "nodes": nodes.iter().take(MOST_NODES).map(node).collect::<Value>(),
        "nodes_total": nodes.len(),
        "picture": picture(&snapshot.name, nodes),
        "closed": closed,
        "history": {
            "updates_in": series(&|sample| rate(sample.updates_in)),
            "updates_out": series(&|sample| rate(sample.updates_out)),
            "bytes_in": series(&|sample| rate(sample.bytes_in)),
            "bytes_out": series(&|sample| rate(sample.bytes_out)),
            "queued_bytes": series(&|sample| json!(sample.queued_bytes)),
            "slowest": series(&|sample| time(sample.slowest)),
            "median": series(&|sample| time(sample.median)),
        },
    })
}

fn node(row: &NodeRow) -> Value {
    let peer = row
        .peer
        .as_ref()
        .map(|peer| json!({"pid": peer.pid, "version": peer.version, "synced": peer.synced}));
    json!({
        "name": row.name.as_str(), "visible": row.visible, "creation": row.creation,
        "agreed": row.agreed, "up_for": row.up_for.as_secs(), "round_trip": time(row.round_trip),
        "silent_for": rate(row.silent_for.as_secs_f64()),
        "bytes_in": rate(row.rates.bytes_in), "bytes_out": rate(row.rates.bytes_out),
        "received_bytes": row.received.0, "sent_bytes": row.sent.0,
        "queued_bytes": row.queued_bytes, "peer": peer,
    })
}

/// Who is connected to whom, as far as we know: we to those we're connected to, and they to those they say they are.
/// `{"nodes": [{"name", "kind": "us" | "up" | "known"}], "edges": [[I, J]], "total": N}`
fn picture(us: &NodeName, nodes: &[NodeRow]) -> Value {
    let mut places: BTreeMap<&NodeName, usize> = BTreeMap::from([(us, 0)]);
    let mut drawn = vec![json!({"name": us.as_str(), "kind": "us"})];
    // Those who are only known come after all that we're connected to. Who isn't drawn isn't listened to.
    let up = nodes.iter().map(|row| (&row.name, "up"));
    let heard = || nodes.iter().take(MOST_DRAWN - 1);
    let known = heard().flat_map(|row| row.knows.iter()).map(|name| (name, "known"));
    let mut total = 1;
    for (name, kind) in up.chain(known) {
        if places.contains_key(name) {
            continue;
        }
        // Beyond what is drawn, too, so that each is counted once.
        places.insert(name, total);
        total += 1;
        if drawn.len() < MOST_DRAWN {
            drawn.push(json!({"name": name.as_str(), "kind": kind}));
        }
    }
    let mut edges = BTreeSet::new();
    let between = |one: usize, other: usize| (one.min(other), one.max(other));
    for row in heard() {
        let Some(&place) = places.get(&row.name) else { continue };
        edges.insert(between(0, place));
        for known in row.knows.iter() {
            if let Some(&other) = places.get(known)
                && other != place
            {
                edges.insert(between(place, other));
            }
        }
    }
    let edges: Value =
        edges.iter().filter(|(_, far)| *far < drawn.len()).map(|(a, b)| json!([a, b])).collect();
    json!({"nodes": drawn, "edges": edges, "total": total})
}

/// `{rows: [{name, count, detail}], matching, total}`.
pub(super) fn found(found: &Found) -> Value {
    let row = |row: &super::search::Row| json!({"name": row.name, "count": row.count, "detail": row.detail});
    json!({
        "rows": found.rows.iter().map(row).collect::<Value>(),
        "matching": found.matching, "total": found.total,
    })
}

/// One place after the point is enough for what is drawn.
fn rate(value: f64) -> Value {
    json!((value * 10.0).round() / 10.0)
}

/// Seconds, to the microsecond.
fn time(value: Option<Duration>) -> Value {
    value.map_or(Value::Null, |value| json!(value.as_micros() as f64 / 1e6))
}

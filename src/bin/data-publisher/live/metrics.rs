//! `/metrics`, in the text format of Prometheus, version 0.0.4.
//!
//! Names follow its conventions: a prefix, base units (seconds, bytes), `_total` for counters, `_info` for what is told by
//! labels. `docs/metrics.md` lists them all; a test compares.

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::ready::Readiness;
use super::state::{NodeRow, Snapshot};

/// What `/metrics` is.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    ours(&mut text, snapshot);
    connections(&mut text, snapshot);
    scope(&mut text, snapshot);
    text.0
}

fn ours(text: &mut Text, snapshot: &Snapshot) {
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    text.family("build_info", Kind::Gauge, "The program; always 1.").sample(&build, 1);
    let creation = snapshot.creation.to_string();
    text.family("node_info", Kind::Gauge, "Our node; always 1.")
        .sample(&[("node", snapshot.name.as_str()), ("creation", &creation)], 1);
    text.family("start_time_seconds", Kind::Gauge, "When the view began, in seconds since 1970.")
        .sample(&[], since_1970(snapshot.started));
    text.family("processes", Kind::Gauge, "Processes of our node.").sample(&[], snapshot.processes);
    text.family(
        "queued_bytes",
        Kind::Gauge,
        "Bytes queued for all nodes together, which sockets haven't taken yet.",
    )
    .sample(&[], snapshot.queued_bytes);
    text.family("connections", Kind::Gauge, "Nodes that are connected.")
        .sample(&[], snapshot.nodes.len());
    let mut closed =
        text.family("connections_closed_total", Kind::Counter, "Connections that closed, by why.");
    for (reason, _, count) in &snapshot.closed {
        closed.sample(&[("reason", reason)], count);
    }
    let help = "Peers given up for what somebody should look at, by why.";
    let mut shed = text.family("peer_shed_total", Kind::Counter, help);
    for (reason, _, count) in snapshot.closed.iter().filter(|(_, is_fault, _)| *is_fault) {
        shed.sample(&[("reason", reason)], count);
    }
}

fn connections(text: &mut Text, snapshot: &Snapshot) {
    type Value = fn(&NodeRow) -> Option<f64>;
    let families: [(&str, Kind, &str, Value); 9] = [
        (
            "connection_received_bytes_total",
            Kind::Counter,
            "Bytes from a node, over this connection.",
            |row| Some(row.received.0 as f64),
        ),
        (
            "connection_sent_bytes_total",
            Kind::Counter,
            "Bytes to a node, over this connection.",
            |row| Some(row.sent.0 as f64),
        ),
        (
            "connection_received_signals_total",
            Kind::Counter,
            "Messages and other signals from a node, over this connection.",
            |row| Some(row.received.1 as f64),
        ),
        (
            "connection_sent_signals_total",
            Kind::Counter,
            "Messages and other signals to a node, over this connection.",
            |row| Some(row.sent.1 as f64),
        ),
        (
            "connection_queued_bytes",
            Kind::Gauge,
            "Bytes queued for a node, which its socket hasn't taken yet.",
            |row| Some(row.queued_bytes as f64),
        ),
        (
            "connection_unhandled_bytes",
            Kind::Gauge,
            "Bytes from a node that are in mailboxes of ours.",
            |row| Some(row.unhandled_bytes as f64),
        ),
        ("connection_age_seconds", Kind::Gauge, "How long a connection has been up.", |row| {
            Some(row.up_for.as_secs_f64())
        }),
        (
            "connection_silence_seconds",
            Kind::Gauge,
            "How long nothing has come from a node, not even a tick.",
            |row| Some(row.silent_for.as_secs_f64()),
        ),
        (
            "connection_round_trip_seconds",
            Kind::Gauge,
            "How long a node's last answer took. Missing while there's none.",
            |row| row.round_trip.map(|took| took.as_secs_f64()),
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = text.family(name, kind, help);
        for row in &snapshot.nodes {
            if let Some(value) = value(row) {
                family.sample(&[("peer", row.name.as_str())], value);
            }
        }
    }
}

fn scope(text: &mut Text, snapshot: &Snapshot) {
    let scope = &snapshot.scope;
    let of: &[(&str, &str)] = &[("scope", &scope.name)];
    let labels = [("scope", scope.name.as_str()), ("module", scope.module)];
    text.family("scope_info", Kind::Gauge, "The scope, and what runs in it; always 1.")
        .sample(&labels, 1);
    let mut one = |name, kind, help, value: f64| {
        text.family(name, kind, help).sample(of, value);
    };
    let truth = |is_so| if is_so { 1.0 } else { 0.0 };
    let (gauge, counter) = (Kind::Gauge, Kind::Counter);
    one("scope_up", gauge, "Whether the scope answers.", truth(scope.answers));
    one(
        "scope_ready",
        gauge,
        "Whether every connected peer has answered, as /readyz.",
        truth(snapshot.ready == Readiness::Ready),
    );
    one("scope_entries", gauge, "Groups of pg, keys of kv.", scope.count as f64);
    one("scope_peers", gauge, "Processes on other nodes that run the scope.", scope.peers as f64);
    one("scope_peers_synced", gauge, "Those of them whose data is here.", scope.synced as f64);
    one("scope_subscribers", gauge, "Subscribers of the scope.", scope.subscribers as f64);
    one(
        "scope_received_updates_total",
        counter,
        "Updates of peers that were applied.",
        scope.updates.0 as f64,
    );
    one(
        "scope_published_updates_total",
        counter,
        "Changes of our own data, each told to all peers.",
        scope.updates.1 as f64,
    );
    one(
        "scope_received_snapshots_total",
        counter,
        "All the data of a peer, at once.",
        scope.snapshots.0 as f64,
    );
    one(
        "scope_sent_snapshots_total",
        counter,
        "All our data, to one peer each.",
        scope.snapshots.1 as f64,
    );
    let mut refused =
        text.family("scope_refused_total", Kind::Counter, "Messages the scope ignored, by why.");
    for (reason, count) in &scope.refused {
        refused.sample(&[("scope", &scope.name), ("reason", reason)], count);
    }
    let mut peers =
        text.family("scope_peer_info", Kind::Gauge, "Who runs the scope, and how; always 1.");
    for row in &snapshot.nodes {
        let Some(peer) = &row.peer else { continue };
        let version = peer.version.as_deref().unwrap_or_default();
        let labels =
            [("scope", scope.name.as_str()), ("peer", row.name.as_str()), ("version", version)];
        peers.sample(&labels, 1);
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
}

/// All that was written so far.
#[derive(Debug, Default)]
struct Text(String);

/// The samples of one name.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Text {
    /// Begins a name. Writing to a string never fails.
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP data_publisher_{name} {help}");
        let _ = writeln!(self.0, "# TYPE data_publisher_{name} {kind}");
        Family { text: &mut self.0, name }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "data_publisher_{}", self.name);
        for (place, (label, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

/// A label's value: backslash, quote and line feed are written as two characters.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::testing::snapshot;
    use super::*;

    /// A sample: labels, and the value, which is a number.
    type Sample = (BTreeMap<String, String>, String);

    #[derive(Debug, Default)]
    struct Parsed {
        kind: String,
        help: String,
        samples: Vec<Sample>,
    }

    /// Reads the format as its documentation has it, and takes nothing else.
    fn parse(text: &str) -> BTreeMap<String, Parsed> {
        let mut all: BTreeMap<String, Parsed> = BTreeMap::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'), "the last line must end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                current = name.to_owned();
                let fresh = Parsed { help: help.to_owned(), ..Parsed::default() };
                assert!(all.insert(current.clone(), fresh).is_none(), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert_eq!(name, current, "TYPE follows HELP");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                kind.clone_into(&mut all.get_mut(name).expect(line).kind);
            } else {
                let (name, sample) = sample(line);
                assert_eq!(name, current, "samples are under their name: {line}");
                let family = all.get_mut(name).expect(line);
                assert!(
                    family.samples.iter().all(|(labels, _)| *labels != sample.0),
                    "{line} twice"
                );
                family.samples.push(sample);
            }
        }
        all
    }

    fn sample(line: &str) -> (&str, Sample) {
        let end = line.find(['{', ' ']).expect(line);
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (label, after) = rest.split_once("=\"").expect(line);
                let is_label = |c: char| c.is_ascii_lowercase() || c == '_';
                assert!(!label.is_empty() && label.chars().all(is_label), "{line}");
                let mut value = String::new();
                let mut characters = after.chars();
                loop {
                    match characters.next().expect(line) {
                        '"' => break,
                        '\\' => value.push(match characters.next().expect(line) {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            c => panic!("\\{c} in {line}"),
                        }),
                        c => value.push(c),
                    }
                }
                assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
                rest = characters.as_str();
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ').expect(line);
        assert!(value.parse::<f64>().is_ok(), "{line}");
        (name, (labels, value.to_owned()))
    }

    #[test]
    fn what_is_written_can_be_read_and_follows_the_conventions() {
        let all = parse(&text(&snapshot()));
        for (name, family) in &all {
            assert!(name.starts_with("data_publisher_"), "{name}");
            assert!(!family.help.is_empty() && !family.samples.is_empty(), "{name}: {family:?}");
            assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
            for unit in ["_ms", "_millis", "_kb", "_minutes", "_count"] {
                assert!(!name.ends_with(unit), "{name}");
            }
            if name.ends_with("_info") {
                assert!(family.samples.iter().all(|(_, value)| value == "1"), "{name}");
            }
        }
        let value = |name: &str| all[&format!("data_publisher_{name}")].samples[0].1.as_str();
        assert_eq!(value("connections"), "2");
        assert_eq!(value("connection_round_trip_seconds"), "0.00025");
        assert_eq!(value("scope_entries"), "12");
        let shed = &all["data_publisher_peer_shed_total"].samples;
        assert_eq!(shed.len(), 1, "only faults: {shed:?}");
    }

    #[test]
    fn a_label_comes_back_whatever_is_in_it() {
        let odd = "a \"quote\", a \\ and a\nline";
        let mut snapshot = snapshot();
        odd.clone_into(&mut snapshot.scope.name);
        let all = parse(&text(&snapshot));
        assert_eq!(all["data_publisher_scope_entries"].samples[0].0["scope"], odd);
    }

    #[test]
    fn the_document_lists_all_and_no_other() {
        let document = include_str!("../../../../docs/metrics.md");
        let row = |line: &str| {
            let name = line.strip_prefix("| `data_publisher_")?.split(['`', '{']).next()?;
            Some(format!("data_publisher_{name}"))
        };
        let listed: BTreeSet<_> = document.lines().filter_map(row).collect();
        let told: BTreeSet<_> = parse(&text(&snapshot())).into_keys().collect();
        assert_eq!(listed, told);
    }
}

//! A snapshot for tests of those who show it.

use std::time::{Duration, SystemTime};

use data_publisher::term::NodeName;

use super::history::{Rates, Sample};
use super::ready::Readiness;
use super::state::{NodeRow, PeerRow, ScopeRow, Snapshot};
use crate::words;

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a node's name")
}

fn node(text: &str, round_trip: Option<u64>, peer: Option<(&str, &str)>) -> NodeRow {
    NodeRow {
        name: name(text),
        creation: 7,
        visible: true,
        agreed: "atom cache, fragments".to_owned(),
        up_for: Duration::from_secs(3_700),
        silent_for: Duration::from_secs(3),
        received: (123_456, 789),
        sent: (4_567, 89),
        rates: Rates { bytes_in: 2_048.0, bytes_out: 12.0 },
        queued_bytes: 0,
        unhandled_bytes: 0,
        round_trip: round_trip.map(Duration::from_micros),
        knows: [name("rust1@127.0.0.1")].into(),
        peer: peer.map(|(pid, version)| PeerRow {
            pid: pid.to_owned(),
            version: Some(version.to_owned()),
            synced: true,
        }),
    }
}

/// Two nodes, of which one runs the scope.
pub(crate) fn snapshot() -> Snapshot {
    let sample = |second: i32| Sample {
        updates_in: f64::from(second % 20) * 100.0,
        updates_out: f64::from(second % 7),
        bytes_in: 2_048.0,
        slowest: Some(Duration::from_micros(250)),
        ..Sample::default()
    };
    Snapshot {
        at: SystemTime::now(),
        name: name("rust1@127.0.0.1"),
        creation: 5,
        port: 40_111,
        started: SystemTime::now(),
        processes: 9,
        queued_bytes: 0,
        nodes: vec![
            node("a@127.0.0.1", Some(250), Some(("<a@127.0.0.1.92.0>", "1"))),
            node("b@127.0.0.1", None, None),
        ],
        closed: vec![("slow", true, 1), ("disconnected", false, 2)],
        scope: ScopeRow {
            name: "pg".to_owned(),
            module: "pg",
            entries: words::GROUPS,
            count: 12,
            answers: true,
            peers: 1,
            synced: 1,
            subscribers: 2,
            updates: (1_000, 10),
            snapshots: (1, 1),
            refused: vec![("spoofed", 0), ("unknown", 3)],
            awaited: vec![name("b@127.0.0.1")],
        },
        ready: Readiness::Waiting,
        history: (0..120).map(sample).collect(),
        json: std::sync::OnceLock::new(),
    }
}

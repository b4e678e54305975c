//! Leaving when the user or the system asks for it, whatever else goes on.
//!
//! Mostly the session hears of it and ends by itself. It can't while somebody who should read our output doesn't: a
//! full pipe holds the thread that writes. So there's a second one who listens, on a task of its own. And a hundred
//! thousand processes need longer to end one by one than anybody wants to wait: then the connections just close,
//! which tells other nodes the same.

use std::time::Duration;

use data_publisher::Node;

use super::service::Service;
use crate::commands::asked_to_end;

/// How long the session has for ending by itself, before the node is stopped for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it takes at most: within two seconds all is over, on a busy machine, too.
const LIMIT: Duration = Duration::from_millis(1600);

/// As shells have it for a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Ends the process, with its node, if it doesn't end by itself once it was asked to. Asked twice, it ends at once.
pub(super) fn guard(node: &Node) {
    let node = node.clone();
    tokio::spawn(async move {
        asked_to_end().await;
        // No task: those who run them may all be busy with the end.
        std::thread::spawn(|| {
            std::thread::sleep(LIMIT);
            std::process::exit(0);
        });
        Service::stopping();
        let polite = async {
            tokio::time::sleep(PATIENCE).await;
            node.stop().await;
        };
        tokio::select! {
            () = polite => std::process::exit(0),
            () = asked_to_end() => std::process::exit(INTERRUPTED),
        }
    });
}

//! From an error to one line that says what to do.

use std::error::Error as _;
use std::fmt::Write;

use data_publisher::epmd::EpmdError;
use data_publisher::node::{ConnectError, StartError};

/// The error, its causes, and the cure where we know one; all on one line.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    // A transparent error repeats its source's text.
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !line.ends_with(&cause) {
            let _ = write!(line, ": {cause}");
        }
    }
    if let Some(cure) = cure(error) {
        let _ = write!(line, ". {cure}");
    }
    line.replace('\n', " ")
}

fn cure(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return of_connect(error);
    }
    match error.downcast_ref::<StartError>()? {
        StartError::NameTaken { .. } => {
            Some("Choose another --name, or stop the other node".to_owned())
        }
        StartError::Epmd { port, .. } => {
            Some(format!("Start one with `data-publisher epmd --port {port}` or `epmd -daemon`"))
        }
        StartError::Listen { address, .. } if address.port() != 0 => {
            Some("Choose another --port, or leave it out for any free one".to_owned())
        }
        _ => None,
    }
}

fn of_connect(error: &ConnectError) -> Option<String> {
    Some(match error {
        ConnectError::NoSuchNode { node } => format!(
            "See `data-publisher names {}` for those it knows; is the node up, with -name or -sname?",
            node.host()
        ),
        ConnectError::BadCookie { .. } => {
            "Give the cluster's cookie with --cookie or --cookie-file; on a node of it, \
             `erlang:get_cookie()` shows it"
                .to_owned()
        }
        ConnectError::Epmd { node, source } => match &**source {
            EpmdError::NotRunning { .. } => format!(
                "Does any Erlang node run on {}, and is the EPMD port right (--epmd-port)?",
                node.host()
            ),
            _ if source.source().is_some() => {
                format!("Check the host name {} and that its EPMD can be reached", node.host())
            }
            _ => return None,
        },
        ConnectError::Timeout { .. } => {
            "It is hung, stopped, or a firewall drops the packets to its port".to_owned()
        }
        ConnectError::Io { .. } => {
            "EPMD knows a port, but nothing can be reached there: a firewall, or a node that died"
                .to_owned()
        }
        ConnectError::WrongName { .. } => {
            "Its EPMD entry is stale; try again in a moment".to_owned()
        }
        ConnectError::NotAllowed { .. } => {
            "Check net_kernel:allow/1 there, and that our --name isn't used by another".to_owned()
        }
        _ => return None,
    })
}

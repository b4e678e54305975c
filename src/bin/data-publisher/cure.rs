//! From an error to one line that says what to do.

use std::fmt::Write;

use data_publisher::epmd::EpmdError;
use data_publisher::gen_server::CallError;
use data_publisher::node::{ConnectError, CookieError, HandshakeError, StartError, TlsError};
use data_publisher::rpc::RpcError;

/// The error, its causes, and the cure where we know one; all on one line.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // A transparent error repeats its source's text.
        if !line.ends_with(&cause) {
            let _ = write!(line, ": {cause}");
        }
    }
    if let Some(cure) = error.chain().find_map(cure) {
        let _ = write!(line, ". {cure}");
    }
    one_line(&line)
}

/// What is wrong with the command line; without the invitation to try `--help` on further lines.
pub(crate) fn of_usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").filter(|text| !text.starts_with("For more information"));
    let all: Vec<String> = paragraphs.map(one_line).collect();
    let line = all.join(". ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cure(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        of_connect(error)
    } else if let Some(error) = error.downcast_ref::<CookieError>() {
        of_cookie(error)
    } else if let Some(error) = error.downcast_ref::<CallError>() {
        of_call(error)
    } else if let Some(error) = error.downcast_ref::<RpcError>() {
        of_rpc(error)
    } else {
        error.downcast_ref::<StartError>().and_then(of_start)
    }
}

fn of_call(error: &CallError) -> Option<String> {
    Some(match error {
        CallError::NoProc { .. } => {
            "`registered()` on the node lists the names it has; in Elixir they begin with `Elixir.`"
                .to_owned()
        }
        CallError::Timeout { .. } => {
            "Is it a gen_server, and not busy? --timeout waits longer".to_owned()
        }
        CallError::Exit { .. } => {
            "Did it understand the request? The node's log says more".to_owned()
        }
        _ => return None,
    })
}

fn of_rpc(error: &RpcError) -> Option<String> {
    Some(match error {
        RpcError::Exception(raised) if raised.reason.is_atom("undef") => {
            "The node has no such function with so many arguments; ARGS is the list of them"
                .to_owned()
        }
        RpcError::Timeout { .. } => "--timeout waits longer".to_owned(),
        RpcError::Refused { reason, .. } if *reason == *"notsup" => {
            "It is no Erlang node, or one before OTP 23".to_owned()
        }
        _ => return None,
    })
}

fn of_start(error: &StartError) -> Option<String> {
    Some(match error {
        StartError::NameTaken { .. } => "Choose another --name, or stop the other node".to_owned(),
        StartError::Epmd { source: EpmdError::BadReply { .. }, .. } => {
            "Another program has the port; choose another --epmd-port".to_owned()
        }
        StartError::Listen { address, .. } if address.port() != 0 => {
            "Choose another --port, or leave it out for any free one".to_owned()
        }
        StartError::Listen { .. } => "Choose another --listen, an address of this host".to_owned(),
        StartError::Cookie(error) => return of_cookie(error),
        _ => return None,
    })
}

fn of_cookie(error: &CookieError) -> Option<String> {
    matches!(error, CookieError::NoFile { .. })
        .then(|| "Or use --cookie-file, --cookie or DATA_PUBLISHER_COOKIE".to_owned())
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
            // The others say it themselves.
            _ => return None,
        },
        ConnectError::Tls { source, .. } => match source {
            TlsError::UnknownCa => {
                "Give the CA's certificate with --tls-cacertfile, or the node one signed by it"
                    .to_owned()
            }
            TlsError::WrongName { .. } => {
                "A node's certificate needs the host part of its name as subjectAltName".to_owned()
            }
            TlsError::NotTls | TlsError::NoAnswer => {
                "Leave the --tls options out to connect without TLS".to_owned()
            }
            _ => return None,
        },
        ConnectError::Handshake { source, .. } => match &**source {
            HandshakeError::SpeaksTls => {
                "Give --tls-certfile and --tls-cacertfile, or --tls-optfile".to_owned()
            }
            HandshakeError::Closed { .. } => {
                "Is it an Erlang node that listens there? If so, its log says why it closed"
                    .to_owned()
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
        ConnectError::WrongName { node, found } if node.short() == found.short() => {
            format!("Use that name, {found}: host part and all")
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

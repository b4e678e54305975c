//! `global_name_server`: what keeps `global` on other nodes from waiting for us, and no more.
//!
//! We are never one of global's nodes: no names, no locks, no part in its protocol. We must not send
//! `init_connect`: half of that protocol leaves a lock set in the cluster for as long as we are
//! connected. But a visible node is asked, and must answer:
//!
//! - `{init_connect, ...}`: without an `in_sync`, `global:sync/0` waits for us for ever;
//! - `{set_lock, Id}` and `{del_lock, Id}`: without `true`, `global:set_lock/1..3` and `trans` with
//!   all nodes wait for us for ever.
//!
//! Source: `global:handle_cast/2`, `global:set_lock/3`, OTP 25 to 29.

use crate::gen_server::{read_call, reply_destination};
use crate::node::Process;
use crate::term::{Destination, Term};
use crate::{atom, tuple};

pub(super) fn answer(process: &Process, message: &Term) {
    if let Some(call) = read_call(message) {
        let reply = match call.request.tuple_elements() {
            Ok([tag, ..]) if tag.is_atom("set_lock") || tag.is_atom("del_lock") => true.into(),
            // Not the question of any `global`: other nodes of this library look for nodes with it.
            _ if call.request.is_atom("get_known") => {
                Term::list_of(process.router().visible_nodes().iter().map(Term::from))
            }
            _ => tuple![atom!("error"), tuple![atom!("unknown_call"), call.request]],
        };
        process.send(reply_destination(call.from, call.tag), tuple![call.tag, reply]);
        return;
    }
    let Some([cast]) = message.tagged("$gen_cast") else { return };
    let Some([_version, node, _]) = cast.tagged("init_connect") else { return };
    let Ok(node) = node.node_name() else { return };
    let in_sync = tuple![atom!("in_sync"), &process.pid().node, true];
    let to = Destination::Name(atom!("global_name_server"), node);
    process.send(to, tuple![atom!("$gen_cast"), in_sync]);
}

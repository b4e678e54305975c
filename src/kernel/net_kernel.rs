//! `net_kernel`: says that we are there (`net_adm:ping/1`).

use crate::gen_server::{read_call, reply_destination};
use crate::node::Process;
use crate::term::Term;
use crate::{atom, tuple};

/// `{is_auth, Node}` gets `yes`: who could ask has the cookie. Any other call gets
/// `{error, {unknown_call, Request}}` rather than no answer, so that nobody waits.
///
/// Source: `net_kernel:handle_call/3`.
pub(super) fn answer(process: &Process, message: &Term) {
    let Some(call) = read_call(message) else { return };
    let reply = match call.request.tagged("is_auth") {
        Some([_]) => atom!("yes").into(),
        _ => tuple![atom!("error"), tuple![atom!("unknown_call"), call.request]],
    };
    process.send(reply_destination(call.from, call.tag), tuple![call.tag, reply]);
}

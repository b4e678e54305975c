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

use crate::gen_server::{Caller, Context, GenServer, Next, Reply};
use crate::term::{Destination, NodeName, Term};
use crate::{atom, tuple};

pub(super) struct Global;

impl GenServer for Global {
    /// Who asked while nobody had the name would wait for ever, and a peer may connect before this has
    /// started: so all who may have are answered.
    async fn init(&mut self, context: &Context) -> Result<(), Term> {
        for node in context.process().router().visible_nodes() {
            say_in_sync(context, node);
        }
        Ok(())
    }

    async fn handle_call(&mut self, request: Term, _: Caller, context: &Context) -> Reply {
        Reply::Now(match request.tuple_elements() {
            Ok([tag, ..]) if tag.is_atom("set_lock") || tag.is_atom("del_lock") => true.into(),
            // Not the question of any `global`: other nodes of this library look for nodes with it.
            _ if request.is_atom("get_known") => {
                Term::list_of(context.process().router().visible_nodes().iter().map(Term::from))
            }
            _ => tuple![atom!("error"), tuple![atom!("unknown_call"), request]],
        })
    }

    async fn handle_cast(&mut self, request: Term, context: &Context) -> Next {
        if let Some([_version, node, _]) = request.tagged("init_connect")
            && let Ok(node) = node.node_name()
        {
            say_in_sync(context, node);
        }
        Next::Continue
    }

    fn state_term(&self) -> Term {
        atom!("global_name_server").into()
    }
}

/// That we have nothing to resolve with that node; a second time changes nothing there.
fn say_in_sync(context: &Context, node: NodeName) {
    let in_sync = tuple![atom!("in_sync"), &context.pid().node, true];
    let to = Destination::Name(atom!("global_name_server"), node);
    context.process().send(to, tuple![atom!("$gen_cast"), in_sync]);
}

//! `net_kernel`: says that we are there (`net_adm:ping/1`).

use crate::gen_server::{Caller, Context, GenServer, Reply};
use crate::term::Term;
use crate::{atom, tuple};

pub(super) struct NetKernel;

impl GenServer for NetKernel {
    /// `{is_auth, Node}` gets `yes`: who could ask has the cookie. Any other call gets
    /// `{error, {unknown_call, Request}}` rather than no answer, so that nobody waits.
    ///
    /// Source: `net_kernel:handle_call/3`.
    async fn handle_call(&mut self, request: Term, _: Caller, _: &Context) -> Reply {
        Reply::Now(match request.tagged("is_auth") {
            Some([_]) => atom!("yes").into(),
            _ => tuple![atom!("error"), tuple![atom!("unknown_call"), request]],
        })
    }

    fn state_term(&self) -> Term {
        atom!("net_kernel").into()
    }
}

//! `rex`, the server behind `rpc` before OTP 23, and still behind `rpc:block_call`, `rpc:sbcast` and
//! `rpc:eval_everywhere`; hidden C nodes and older libraries write to it themselves.
//!
//! Source: `rpc:handle_call/3`, `rpc:handle_cast/2`, `rpc:handle_info/2`, OTP 25 to 29.

use super::allowed::Rpc;
use super::exception::{Class, Exception};
use crate::gen_server::{self, Caller, Context, GenServer, Next, Reply};
use crate::node::{Node, Received};
use crate::term::{Atom, Destination, List, Term};
use crate::{atom, tuple};

struct Rex(Rpc);

pub(super) fn start(node: &Node) {
    gen_server::start_registered(node, atom!("rex"), Rex(node.rpc()))
        .expect("a node that just started has no names yet");
}

impl GenServer for Rex {
    async fn init(&mut self, context: &Context) -> Result<(), Term> {
        // Exit signals from peers must not take a service down.
        context.process().trap_exit(true);
        Ok(())
    }

    /// `{call, M, F, Args, GroupLeader}`; `block_call` doesn't block here, since nobody gains.
    async fn handle_call(&mut self, request: Term, caller: Caller, _: &Context) -> Reply {
        let work = read(&request, "call").or_else(|| read(&request, "block_call"));
        let Some((module, function, args)) = work else {
            return Reply::Now(tuple![atom!("error"), tuple![atom!("unknown_call"), request]]);
        };
        let Some(place) = self.0.admit() else {
            return Reply::Now(badrpc(Exception::error(atom!("system_limit"))));
        };
        let rpc = self.0.clone();
        tokio::spawn(async move {
            let _place = place;
            let result = rpc.call(&module, &function, args).await;
            caller.reply_soon(result.unwrap_or_else(badrpc)).await;
        });
        Reply::Later
    }

    /// `{cast, M, F, Args, GroupLeader}`.
    async fn handle_cast(&mut self, request: Term, _: &Context) -> Next {
        if let Some((module, function, args)) = read(&request, "cast")
            && let Some(place) = self.0.admit()
        {
            let rpc = self.0.clone();
            tokio::spawn(async move {
                let _place = place;
                let _ = rpc.call(&module, &function, args).await;
            });
        }
        Next::Continue
    }

    /// `{From, {sbcast, Name, Message}}` of `rpc:sbcast/3`: the message is passed on, and `From`
    /// hears whether somebody has the name.
    async fn handle_info(&mut self, info: Received, context: &Context) -> Next {
        if let Received::Message { term, .. } = &info
            && let Ok([Term::Pid(from), what]) = term.tuple::<2>()
            && let Some([Term::Atom(name), message]) = what.tagged("sbcast")
            && let Some(node) = context.node()
        {
            let here = node.name();
            let answer = if node.whereis(name).is_some() {
                let to = Destination::Name(name.clone(), here.clone());
                context.process().send(to, message);
                here.into()
            } else {
                tuple![atom!("nonexisting_name"), name]
            };
            context.process().send(from, tuple![atom!("rex"), here, answer]);
        }
        Next::Continue
    }

    fn state_term(&self) -> Term {
        Term::NIL
    }
}

fn read(request: &Term, tag: &str) -> Option<(Atom, Atom, List)> {
    match request.tagged(tag)? {
        [Term::Atom(module), Term::Atom(function), Term::List(args), _leader] => {
            Some((module.clone(), function.clone(), args.clone()))
        }
        _ => None,
    }
}

/// What `catch` makes of an exception, and `rpc` of that.
fn badrpc(exception: Exception) -> Term {
    let exit = match exception.class {
        Class::Throw => return exception.reason,
        Class::Exit => exception.reason,
        Class::Error => tuple![exception.reason, exception.stacktrace],
    };
    tuple![atom!("badrpc"), tuple![atom!("EXIT"), exit]]
}

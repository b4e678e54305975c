//! `rex`, the server behind `rpc` before OTP 23, and still behind `rpc:block_call`, `rpc:sbcast` and
//! `rpc:eval_everywhere`; C nodes and other libraries write to it themselves.
//!
//! Source: `rpc:handle_call/3`, `rpc:handle_cast/2`, `rpc:handle_info/2`, OTP 25 to 29.

use super::allowed::Rpc;
use super::exception::{Class, Exception};
use crate::gen_server::{self, Caller, Context, GenServer, Next, Reply};
use crate::node::{Node, Received};
use crate::term::{Atom, List, Term};
use crate::{atom, tuple};

struct Rex(Rpc);

pub(super) fn start(node: &Node) {
    let rpc = node.rpc();
    gen_server::keep(node, atom!("rex"), move || Rex(rpc.clone()));
}

impl GenServer for Rex {
    /// `{call, M, F, Args, GroupLeader}`; `block_call` doesn't block here, since nobody gains.
    async fn handle_call(&mut self, request: Term, caller: Caller, context: &Context) -> Reply {
        let work = read(&request, "call").or_else(|| read(&request, "block_call"));
        let Some((module, function, args)) = work else {
            return Reply::Now(tuple![atom!("error"), tuple![atom!("unknown_call"), request]]);
        };
        let Some(place) = self.0.admit() else {
            return Reply::Now(badrpc(Exception::error(atom!("system_limit"))));
        };
        let rpc = self.0.clone();
        let hold = (place, context.take_credit());
        tokio::spawn(async move {
            let _hold = hold;
            let result = rpc.call(&module, &function, args).await;
            caller.reply_soon(result.unwrap_or_else(badrpc)).await;
        });
        Reply::Later
    }

    /// `{cast, M, F, Args, GroupLeader}`.
    async fn handle_cast(&mut self, request: Term, context: &Context) -> Next {
        if let Some((module, function, args)) = read(&request, "cast")
            && let Some(place) = self.0.admit()
        {
            let rpc = self.0.clone();
            let hold = (place, context.take_credit());
            tokio::spawn(async move {
                let _hold = hold;
                let _ = rpc.call(&module, &function, args).await;
            });
        }
        Next::Continue
    }

    /// What comes without `gen_server`, each answered by a plain message:
    ///
    /// - `{From, {call, M, F, Args, GroupLeader}}` of `ei_rpc`, `erl_call` and `Jinterface`:
    ///   `{rex, Result}`;
    /// - `{From, {sbcast, Name, Message}}` of `rpc:sbcast/3`: the message is passed on, and `From`
    ///   hears `{rex, Node, Node}`, or `{rex, Node, {nonexisting_name, Name}}`;
    /// - `{From, {send, Name, Message}}`: `{From, Message}` is passed on, and only that nobody has
    ///   the name is answered.
    async fn handle_info(&mut self, info: Received, context: &Context) -> Next {
        let Received::Message { term, origin } = &info else { return Next::Continue };
        let Ok([Term::Pid(from), what]) = term.tuple::<2>() else { return Next::Continue };
        if read(what, "call").is_some() {
            let caller = context.caller(from.clone(), atom!("rex"));
            if let Reply::Now(reply) = self.handle_call(what.clone(), caller.clone(), context).await
            {
                caller.reply(reply);
            }
            return Next::Continue;
        }
        let here = &context.pid().node;
        // As if it had come to that process itself, with what it holds against its connection.
        let pass_on = |name: &Atom, message: Term| {
            let router = context.process().router();
            router.pass_on(name, message, origin.clone(), context.take_credit())
        };
        let answer = if let Some([Term::Atom(name), message]) = what.tagged("sbcast") {
            if pass_on(name, message.clone()) { here.into() } else { nonexisting(name) }
        } else if let Some([Term::Atom(name), message]) = what.tagged("send") {
            if pass_on(name, tuple![from, message]) {
                return Next::Continue;
            }
            nonexisting(name)
        } else {
            return Next::Continue;
        };
        context.process().send(from, tuple![atom!("rex"), here, answer]);
        Next::Continue
    }

    fn state_term(&self) -> Term {
        Term::NIL
    }
}

fn nonexisting(name: &Atom) -> Term {
    tuple![atom!("nonexisting_name"), name]
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

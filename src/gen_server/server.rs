//! Servers: processes of ours that answer calls, take casts and end with a reason.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures::FutureExt;

use super::{Shown, Sys, Verdict, is_call, read_call, reply_to};
use crate::node::router::Router;
use crate::node::{
    Credit, Envelope, Node, Origin, Process, Quiet, Received, RegisterError, WeakNode,
};
use crate::term::{Atom, Pid, Term};
use crate::{atom, tuple};

/// A server, with the callbacks of `gen_server`. Runs by [`start`]; its state is the value itself.
///
/// Callbacks run one after the other in a task of their own. While one awaits, messages wait in
/// the mailbox, so what takes long belongs into another task, with the [`Caller`] to reply to.
///
/// ```
/// use data_publisher::gen_server::{Caller, Context, GenServer, Next, Reply};
/// use data_publisher::term::Term;
/// use data_publisher::{atom, tuple};
///
/// struct Counter(i64);
///
/// impl GenServer for Counter {
///     async fn handle_call(&mut self, request: Term, _: Caller, _: &Context) -> Reply {
///         if request == atom!("get") {
///             Reply::Now(self.0.into())
///         } else {
///             Reply::Now(tuple![atom!("error"), atom!("badarg")])
///         }
///     }
///
///     async fn handle_cast(&mut self, request: Term, _: &Context) -> Next {
///         if let Some([Term::Integer(n)]) = request.tagged("add") {
///             self.0 += n;
///         }
///         Next::Continue
///     }
///
///     fn state_term(&self) -> Term {
///         self.0.into() // what `sys:get_state/1` shows
///     }
/// }
/// ```
///
/// # How it ends
///
/// - A callback says so: [`terminate`](Self::terminate) is called, and those who monitor the
///   process or are linked to it hear the reason. So it is when `gen_server:stop/1` or
///   [`stop`](super::stop) asks for it.
/// - An exit signal that isn't trapped, or the end of the node: the callback that runs is dropped
///   where it awaits, `terminate` isn't called.
/// - A callback panics: the reason is `{panic, Text}`, `terminate` isn't called. The node and all
///   other processes live on.
pub trait GenServer: Send + 'static {
    /// Before the first message; in OTP's `init/1` too the place to monitor or trap exits. An error
    /// is the reason to end with.
    fn init(&mut self, context: &Context) -> impl Future<Output = Result<(), Term>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// A call.
    fn handle_call(
        &mut self,
        request: Term,
        caller: Caller,
        context: &Context,
    ) -> impl Future<Output = Reply> + Send;

    /// A cast. Default: ignored.
    fn handle_cast(
        &mut self,
        request: Term,
        context: &Context,
    ) -> impl Future<Output = Next> + Send {
        let _ = (request, context);
        async { Next::Continue }
    }

    /// Anything else: a message, a `Down`, a trapped exit signal. Default: ignored.
    ///
    /// An `{io_request, ...}` only comes here if [`init`](Self::init) has asked for them, by
    /// [`receive_io_requests`](Process::receive_io_requests) of [`Context::process`].
    fn handle_info(
        &mut self,
        info: Received,
        context: &Context,
    ) -> impl Future<Output = Next> + Send {
        let _ = (info, context);
        async { Next::Continue }
    }

    /// The last thing that is called. See [How it ends](Self#how-it-ends).
    fn terminate(&mut self, reason: &Term, context: &Context) -> impl Future<Output = ()> + Send {
        let _ = (reason, context);
        async {}
    }

    /// What `sys:get_state/1` and `sys:get_status/1` show. Default: the name of the Rust type, as a
    /// binary.
    fn state_term(&self) -> Term {
        Term::binary_of(std::any::type_name::<Self>())
    }
}

/// What follows a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// This reply.
    Now(Term),
    /// The reply comes later, by the [`Caller`].
    Later,
    /// The end, for this reason. Without a reply the caller gets an exit with the same reason.
    Stop {
        /// What those who watch hear.
        reason: Term,
        /// What the caller gets before that.
        reply: Option<Term>,
    },
}

/// What follows a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next message.
    Continue,
    /// The end, for this reason.
    Stop(Term),
}

/// Who called: `From` of `handle_call/3`. May be kept, and replied to later and from any task.
///
/// Who drops the last copy without a reply leaves the caller waiting until its timeout, as in OTP.
#[derive(Clone, Debug)]
pub struct Caller {
    pid: Pid,
    tag: Term,
    server: Pid,
    router: Arc<Router>,
}

impl Caller {
    /// The process that called.
    pub fn pid(&self) -> &Pid {
        &self.pid
    }

    /// Replies, as `gen_server:reply/2`. `false` when there is no connection to the caller any more.
    /// A second reply is as good as none: the caller waits for one only.
    ///
    /// In place of a reply larger than [`MAX_MESSAGE`](crate::wire::MAX_MESSAGE) the caller gets
    /// `{error, {system_limit, too_large}}`.
    pub fn reply(self, reply: impl Into<Term>) -> bool {
        reply_to(&self.router, &self.server, (&self.pid, &self.tag), reply.into())
    }

    /// As [`reply`](Self::reply), once there's room: for large replies from tasks of their own, which
    /// may otherwise be more at a time than the caller's node can take, so that it's shed. Waits while
    /// more than [`Limits::soft_mark`](crate::node::Limits::soft_mark) bytes are queued for that node
    /// and it takes some of them at least each second.
    pub async fn reply_soon(self, reply: impl Into<Term>) -> bool {
        let reply = reply.into();
        let router = self.router.clone();
        let connection = router.table().up(&self.pid.node);
        let _room = match &connection {
            Some(connection) => connection.queue().room_soon().await,
            None => None,
        };
        self.reply(reply)
    }
}

/// What a callback has at hand.
#[derive(Debug)]
pub struct Context {
    process: Process,
    node: WeakNode,
    /// What the message being handled holds against its connection.
    in_hand: Mutex<Option<Credit>>,
}

impl Context {
    /// The server's pid.
    pub fn pid(&self) -> &Pid {
        self.process.pid()
    }

    /// The server's process, to send, monitor and link as.
    pub fn process(&self) -> &Process {
        &self.process
    }

    fn new(process: Process, node: &Node) -> Self {
        Self { process, node: node.downgrade(), in_hand: Mutex::default() }
    }

    fn hold(&self, credit: Option<Credit>) {
        *self.in_hand.lock().expect("no panic under this lock") = credit;
    }

    /// What the message being handled holds against its connection, for who keeps any of it for longer:
    /// else it's given back when the callback returns.
    pub(crate) fn take_credit(&self) -> Option<Credit> {
        self.in_hand.lock().expect("no panic under this lock").take()
    }

    /// Who asked in another way than by a call, and gets `{Tag, Reply}`.
    pub(crate) fn caller(&self, pid: Pid, tag: impl Into<Term>) -> Caller {
        let router = self.process.router().clone();
        Caller { pid, tag: tag.into(), server: self.pid().clone(), router }
    }

    /// The node; `None` once it is stopping. Who keeps it keeps the node running.
    pub fn node(&self) -> Option<Node> {
        self.node.upgrade()
    }
}

/// Starts a server; it has a pid at once, and runs until it [ends](GenServer#how-it-ends).
///
/// Nothing but its own end stops it: what is returned is a pid to give to others.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn start<S: GenServer>(node: &Node, server: S) -> Pid {
    run(node, node.spawn(), server)
}

/// As [`start`], with a name: `gen_server:call({Name, Node}, Request)` reaches it.
///
/// # Errors
///
/// [`RegisterError::Taken`].
///
/// # Panics
///
/// As [`start`].
pub fn start_registered<S: GenServer>(
    node: &Node,
    name: impl Into<Atom>,
    server: S,
) -> Result<Pid, RegisterError> {
    let process = node.spawn();
    node.register(name, process.pid())?;
    Ok(run(node, process, server))
}

fn run<S: GenServer>(node: &Node, process: Process, server: S) -> Pid {
    let pid = process.pid().clone();
    let context = Context::new(process, node);
    let header = format!("Status for server {pid}");
    tokio::spawn(Running { server, context, sys: Sys::default(), header }.run());
    pid
}

/// Starts a service that other nodes expect under its name, and that is there for as long as the
/// node: no exit signal ends it, not even `kill`, `sys` neither ends nor suspends it, and after a
/// panic it's made and registered anew. On the BEAM the end of such a process is that of its node,
/// which other nodes would notice; a node that lives without it would be worse.
///
/// # Panics
///
/// As [`start`], and when the name is taken: services are the first to register.
pub(crate) fn keep<S, F>(node: &Node, name: Atom, make: F)
where
    S: GenServer,
    F: Fn() -> S + Send + 'static,
{
    let mut context = registered(node, &name).expect("a node that just started has no names yet");
    let node = node.downgrade();
    tokio::spawn(async move {
        let quiet = Quiet::default();
        loop {
            let header = format!("Status for service {name}");
            Running { server: make(), context, sys: Sys::fixed(), header }.run().await;
            // As its node stops, a new process has ended before it could be registered.
            let Some(node) = node.upgrade() else { return };
            context = match registered(&node, &name) {
                Ok(context) => context,
                Err(RegisterError::NoProcess { .. }) => return,
                Err(error) => return log::warn!("{}: no more {name}: {error}", node.name()),
            };
            quiet.warn(node.name().as_str(), "ended", &format!("{name} has ended and starts anew"));
        }
    });
}

fn registered(node: &Node, name: &Atom) -> Result<Context, RegisterError> {
    let process = node.spawn();
    process.outlive_signals();
    node.register(name.clone(), process.pid())?;
    Ok(Context::new(process, node))
}

struct Running<S> {
    server: S,
    context: Context,
    sys: Sys,
    /// What `sys:get_status/1` says it is.
    header: String,
}

impl<S: GenServer> Running<S> {
    /// Until the server ends; then so does its process.
    async fn run(mut self) {
        let reason = match AssertUnwindSafe(self.serve()).catch_unwind().await {
            Ok(Some(reason)) => reason,
            // An exit signal has ended it, and has told everybody.
            Ok(None) => return,
            Err(panic) => {
                let text = text_of(&*panic);
                log::error!("{}: a callback panicked: {text}", self.context.pid());
                tuple![atom!("panic"), Term::binary_of(text)]
            }
        };
        self.context.process.exit(reason);
    }

    /// Gives the reason to end with.
    ///
    /// Before each call of a peer that takes replies slower than it asks for them, it waits for that
    /// peer a little. Services don't: all nodes need them, a peer could have them wait again and again,
    /// and their replies are small, or come from tasks of their own.
    async fn serve(&mut self) -> Option<Term> {
        let Self { server, context, sys, header } = self;
        if let Err(reason) = unless_ended(context, server.init(context)).await? {
            return Some(reason);
        }
        loop {
            let envelope = match sys.next() {
                Some(envelope) => envelope,
                None => context.process.receive_sealed().await?,
            };
            if let Received::Message { term, origin: Origin::Connection(peer) } = &envelope.received
                && !sys.is_fixed()
                && is_call(term)
                && peer.queue().is_crowded()
            {
                unless_ended(context, peer.queue().follow()).await?;
            }
            let shown = || Shown { header: header.clone(), state: server.state_term() };
            let next = match sys.judge(&context.process, envelope, shown) {
                Verdict::Handle(Envelope { received, credit }) => {
                    context.hold(credit);
                    let next = unless_ended(context, handle(server, context, received)).await?;
                    context.hold(None);
                    next
                }
                Verdict::Done => Next::Continue,
                Verdict::Terminate(reason) => Next::Stop(reason),
            };
            if let Next::Stop(reason) = next {
                unless_ended(context, server.terminate(&reason, context)).await?;
                return Some(reason);
            }
        }
    }
}

/// The callback's result, unless an exit signal ends the process before it is there.
async fn unless_ended<T>(context: &Context, callback: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = context.process.ended() => None,
        result = callback => Some(result),
    }
}

async fn handle<S: GenServer>(server: &mut S, context: &Context, received: Received) -> Next {
    let Received::Message { term, .. } = &received else {
        return server.handle_info(received, context).await;
    };
    if let Some([request]) = term.tagged("$gen_cast") {
        return server.handle_cast(request.clone(), context).await;
    }
    let Some(call) = read_call(term) else { return server.handle_info(received, context).await };
    let caller = context.caller(call.from.clone(), call.tag);
    match server.handle_call(call.request.clone(), caller.clone(), context).await {
        Reply::Now(reply) => {
            caller.reply(reply);
            Next::Continue
        }
        Reply::Later => Next::Continue,
        Reply::Stop { reason, reply } => {
            if let Some(reply) = reply {
                caller.reply(reply);
            }
            Next::Stop(reason)
        }
    }
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

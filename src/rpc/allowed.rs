//! The functions other nodes may call here, and the processes that run them.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, RwLock, RwLockWriteGuard};

use futures::FutureExt;
use futures::future::BoxFuture;
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exception::Exception;
use crate::gen_server::text_of;
use crate::node::{Node, Order, Process, Quiet, Spawner};
use crate::term::{Atom, List, Term};
use crate::{atom, tuple};

/// Functions of all nodes that may run here at the same time; above it a request gets
/// `system_limit`, as from a BEAM with too many processes.
const MOST_RUNNING: usize = 1024;

/// The functions other nodes may call on a node; from [`Node::rpc`]. Clones are the same.
#[derive(Clone, Debug)]
pub struct Rpc(Arc<Allowed>);

pub(super) struct Allowed {
    functions: RwLock<FxHashMap<Name, Function>>,
    places: Arc<Semaphore>,
    quiet: Arc<Quiet>,
}

type Name = (Atom, Atom, usize);
type Function = Arc<dyn Fn(List) -> BoxFuture<'static, Result<Term, Exception>> + Send + Sync>;

impl Node {
    /// The functions other nodes may call here.
    pub fn rpc(&self) -> Rpc {
        Rpc(Allowed::of(self))
    }
}

impl Rpc {
    /// From now on `Module:Function` with so many arguments may be called from any node of the
    /// cluster. The function gets the arguments, as many as `arity`. One that panics is an error at
    /// the caller. Replaces one of the same name.
    ///
    /// It runs in a task of its own, dropped where it awaits when somebody ends its process. At most
    /// 1,024 run at a time.
    pub fn allow<F, R>(&self, module: Atom, function: Atom, arity: u8, run: F)
    where
        F: Fn(List) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Term, Exception>> + Send + 'static,
    {
        let run: Function = Arc::new(move |args| run(args).boxed());
        self.0.functions().insert((module, function, arity.into()), run);
    }

    /// Allows a function no more; `false` if it wasn't.
    pub fn refuse(&self, module: &Atom, function: &Atom, arity: u8) -> bool {
        let name = (module.clone(), function.clone(), arity.into());
        self.0.functions().remove(&name).is_some()
    }

    /// Calls what is allowed, as another node would.
    pub(super) async fn call(
        &self,
        module: &Atom,
        function: &Atom,
        args: List,
    ) -> Result<Term, Exception> {
        self.0.call(module, function, args).await
    }

    /// A place for one more function.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.admit()
    }
}

impl Allowed {
    /// The one of the node, which calls it a spawner.
    fn of(node: &Node) -> Arc<Self> {
        let spawner = node.router().spawner(|| Arc::new(Self::default()));
        let any: Arc<dyn Any + Send + Sync> = spawner.clone();
        any.downcast().expect("there is no other spawner")
    }

    fn functions(&self) -> RwLockWriteGuard<'_, FxHashMap<Name, Function>> {
        self.functions.write().expect("no panic under this lock")
    }

    /// The result, in time; the function is looked up at once.
    fn call(
        &self,
        module: &Atom,
        function: &Atom,
        args: List,
    ) -> impl Future<Output = Result<Term, Exception>> + Send + 'static {
        let name = (module.clone(), function.clone(), args.len());
        let found = self.functions.read().expect("no panic under this lock").get(&name).cloned();
        let (module, function, arity) = name;
        let quiet = self.quiet.clone();
        async move {
            let Some(run) = found else { return Err(Exception::undef(&module, &function, &args)) };
            // The call itself may panic as well as the future it gives.
            let result = AssertUnwindSafe(async { run(args).await }).catch_unwind().await;
            let result = result.unwrap_or_else(|panic| {
                let text = text_of(&*panic);
                // Whoever may call it may call it again and again.
                let name = format!("{module}:{function}/{arity}");
                if let Some(more) = quiet.allows(&name, "panicked") {
                    log::error!("{name} panicked: {text}{more}");
                }
                Err(Exception::error(tuple![atom!("panic"), Term::binary_of(text)]))
            });
            result.map_err(|exception| exception.in_function(&module, &function, arity as u32))
        }
    }
}

impl Spawner for Allowed {
    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    fn run(&self, order: Order, process: Process) {
        let asker = order.asker();
        let Order { module, function, args, hold } = order;
        let work = Work::read(module, function, args);
        let work = match work {
            Ok(work) => work,
            Err(reason) => return process.exit(reason),
        };
        let result = self.call(&work.module, &work.function, work.args);
        tokio::spawn(async move {
            let _hold = hold;
            // Its end is its result, and may be large.
            let done = async { (result.await, asker.queue().room_soon().await) };
            let (result, _room) = tokio::select! {
                biased;
                () = process.ended() => return,
                done = done => done,
            };
            process.exit(match (result, work.mark) {
                (Ok(value), Some(mark)) => tuple![mark, atom!("return"), value],
                (Err(exception), Some(mark)) => exception.marked(&mark),
                (Ok(_), None) => atom!("normal").into(),
                (Err(exception), None) => exception.uncaught(),
            });
        });
    }
}

/// What a process is to run, and how it says what came of it.
struct Work {
    module: Atom,
    function: Atom,
    args: List,
    /// Of an `erpc:execute_call/4`: the exit reason is the result.
    mark: Option<Term>,
}

impl Work {
    /// `erpc:execute_call(Mark, M, F, Args)`, `erpc:execute_call(M, F, Args)`,
    /// `erpc:execute_cast(M, F, Args)`, or any function itself. An error is the reason to end with.
    fn read(module: Atom, function: Atom, args: List) -> Result<Self, Term> {
        let by_erpc =
            module == *"erpc" && (function == *"execute_call" || function == *"execute_cast");
        let (mark, named) = match &args[..] {
            [mark, rest @ ..] if by_erpc && rest.len() == 3 && function == *"execute_call" => {
                (Some(mark), rest)
            }
            [_, _, _] if by_erpc => (None, &args[..]),
            _ => return Ok(Self { module, function, args, mark: None }),
        };
        let [Term::Atom(module), Term::Atom(function), Term::List(args)] = named else {
            let badarg = tuple![atom!("erpc"), atom!("badarg")];
            return Err(match mark {
                Some(mark) => tuple![mark, atom!("error"), badarg],
                None => tuple![badarg, Term::NIL],
            });
        };
        let (module, function) = (module.clone(), function.clone());
        Ok(Self { module, function, args: args.clone(), mark: mark.cloned() })
    }
}

impl Default for Allowed {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MOST_RUNNING));
        Self { functions: RwLock::default(), places, quiet: Arc::default() }
    }
}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.read().expect("no panic under this lock");
        let mut names: Vec<_> = functions.keys().collect();
        names.sort_unstable();
        let names =
            names.iter().map(|(module, function, arity)| format!("{module}:{function}/{arity}"));
        f.debug_list().entries(names).finish()
    }
}

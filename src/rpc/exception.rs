//! Exceptions, as functions raise them and as they travel in the exit reasons of `erpc`.

use std::fmt;

use crate::term::{Atom, BadTerm, List, Reference, Term};
use crate::{atom, list, tuple};

/// What a function raised instead of returning.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// How.
    pub class: Class,
    /// What.
    pub reason: Term,
    /// Where, of an error: `[{Module, Function, ArityOrArgs, Location}]`.
    pub stacktrace: Term,
}

/// How an exception was raised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// `error(Reason)`, or a fault such as `badarg` and `undef`.
    Error,
    /// `exit(Reason)`; also `{signal, Reason}` when somebody ended the process that ran the
    /// function.
    Exit,
    /// `throw(Reason)`.
    Throw,
}

impl Exception {
    /// `error(Reason)`.
    pub fn error(reason: impl Into<Term>) -> Self {
        Self { class: Class::Error, reason: reason.into(), stacktrace: Term::NIL }
    }

    /// `exit(Reason)`.
    pub fn exit(reason: impl Into<Term>) -> Self {
        Self { class: Class::Exit, ..Self::error(reason) }
    }

    /// `throw(Reason)`.
    pub fn throw(reason: impl Into<Term>) -> Self {
        Self { class: Class::Throw, ..Self::error(reason) }
    }

    /// The error `badarg`.
    pub fn badarg() -> Self {
        Self::error(atom!("badarg"))
    }

    /// There is no such function.
    pub(super) fn undef(module: &Atom, function: &Atom, args: &List) -> Self {
        let place = tuple![module, function, args, Term::NIL];
        Self { stacktrace: list![place], ..Self::error(atom!("undef")) }
    }

    /// With the function in the stack trace, unless one is there.
    pub(super) fn in_function(mut self, module: &Atom, function: &Atom, arity: u32) -> Self {
        if self.class == Class::Error && self.stacktrace == Term::NIL {
            self.stacktrace = list![tuple![module, function, arity, Term::NIL]];
        }
        self
    }

    /// Why the process ends that `erpc` has started: with the mark of the call.
    pub(super) fn marked(self, mark: &Term) -> Term {
        let Self { class, reason, stacktrace } = self;
        match class {
            Class::Error => tuple![mark, atom!("error"), reason, stacktrace],
            Class::Exit => tuple![mark, atom!("exit"), reason],
            Class::Throw => tuple![mark, atom!("throw"), reason],
        }
    }

    /// Why any other process ends in which it isn't caught.
    pub(super) fn uncaught(self) -> Term {
        let Self { class, reason, stacktrace } = self;
        match class {
            Class::Error => tuple![reason, stacktrace],
            Class::Exit => reason,
            Class::Throw => tuple![tuple![atom!("nocatch"), reason], stacktrace],
        }
    }
}

/// Reads why the process of an `erpc:execute_call/4` ended:
/// `{Mark, return, Value}`, `{Mark, throw | exit, Reason}`, `{Mark, error, Reason, Stack}`,
/// `{Mark, error, {erpc, Reason}}`, or anything when it was ended from outside.
///
/// Source: `erpc:execute_call/4`, `erpc:call_result/4`, OTP 25 to 29.
pub(super) fn read(reason: &Term, mark: &Reference) -> Result<Term, Exception> {
    let ours = |term: &Term| matches!(term, Term::Reference(reference) if reference == mark);
    match reason.tuple_elements() {
        Ok([first, how, value]) if ours(first) => match how {
            how if how.is_atom("return") => Ok(value.clone()),
            how if how.is_atom("throw") => Err(Exception::throw(value)),
            how if how.is_atom("exit") => Err(Exception::exit(value)),
            _ => Err(Exception::error(value)),
        },
        Ok([first, _, value, stacktrace]) if ours(first) => {
            Err(Exception { stacktrace: stacktrace.clone(), ..Exception::error(value) })
        }
        _ => Err(Exception::exit(tuple![atom!("signal"), reason])),
    }
}

/// As the shell has it: `exception error: undef`.
impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Error => "error",
            Class::Exit => "exit",
            Class::Throw => "throw",
        };
        write!(f, "exception {class}: {}", self.reason)
    }
}

impl std::error::Error for Exception {}

/// An argument of another shape is the error `badarg`, so that `?` does in an allowed function.
impl From<BadTerm> for Exception {
    fn from(_: BadTerm) -> Self {
        Self::badarg()
    }
}

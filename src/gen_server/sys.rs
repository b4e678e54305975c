//! What `sys` asks of a process: `{system, {Pid, Tag}, Request}`, answered by `{Tag, Reply}`.
//!
//! | request | answer |
//! | --- | --- |
//! | `get_state` | `{ok, State}`; to callers before OTP 26.1 `State` |
//! | `get_status` | `{status, Pid, {module, gen_server}, [PDict, running or suspended, Parent, Debug, Misc]}` |
//! | `suspend`, `resume` | `ok` |
//! | `{terminate, Reason}` | `ok`, and the process ends |
//! | `{replace_state, Fun}` | an error: there is no Erlang here to run the fun |
//! | any other | `{error, {unknown_system_msg, Request}}` |
//!
//! The services of a node are neither suspended nor ended: to them these requests are unknown.
//!
//! While a process is suspended, all other messages wait, in their order. They count as unhandled,
//! so what a peer can make us keep stays bounded.
//!
//! Source: `sys:handle_system_msg/8`, `gen_server:format_status/2`, OTP 25 to 29.

use std::collections::VecDeque;

use super::{Call, alias_of, read_labelled};
use crate::node::{Envelope, Process, Received};
use crate::term::Term;
use crate::{atom, list, tuple};

/// Where a process stands for `sys`.
#[derive(Debug, Default)]
pub(crate) struct Sys {
    /// Whether nobody may suspend or end the process.
    fixed: bool,
    suspended: bool,
    /// What came while it was suspended.
    waiting: VecDeque<Envelope>,
}

/// What is to be done with something received.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Handle it.
    Handle(Envelope),
    /// Nothing: it was answered, or waits.
    Done,
    /// End with this reason.
    Terminate(Term),
}

/// What a process shows of itself.
pub(crate) struct Shown {
    /// What it is, for people: `Status for scope pg`.
    pub(crate) header: String,
    pub(crate) state: Term,
}

impl Sys {
    /// For a process that nobody suspends or ends.
    pub(crate) fn fixed() -> Self {
        Self { fixed: true, ..Self::default() }
    }

    /// Something received, or brought by [`next`](Self::next). `shown` is asked only when somebody
    /// wants to see it.
    pub(crate) fn judge(
        &mut self,
        process: &Process,
        envelope: Envelope,
        shown: impl FnOnce() -> Shown,
    ) -> Verdict {
        let Some(call) = read_system(&envelope.received) else {
            if self.suspended {
                self.waiting.push_back(envelope);
                return Verdict::Done;
            }
            return Verdict::Handle(envelope);
        };
        if let Some([reason]) = call.request.tagged("terminate")
            && !self.fixed
        {
            call.reply(process, atom!("ok"));
            return Verdict::Terminate(reason.clone());
        }
        let reply = match call.request {
            Term::Atom(atom) if *atom == *"suspend" && !self.fixed => self.turn(true),
            Term::Atom(atom) if *atom == *"resume" && !self.fixed => self.turn(false),
            _ => answer(process, &call, self.suspended, shown),
        };
        call.reply(process, reply);
        Verdict::Done
    }

    /// What waited while the process was suspended, once it no longer is: comes before what is in
    /// the mailbox.
    pub(crate) fn next(&mut self) -> Option<Envelope> {
        if self.suspended { None } else { self.waiting.pop_front() }
    }

    pub(crate) fn has_next(&self) -> bool {
        !self.suspended && !self.waiting.is_empty()
    }

    /// Whether nobody may suspend or end the process.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended
    }

    fn turn(&mut self, suspended: bool) -> Term {
        self.suspended = suspended;
        atom!("ok").into()
    }
}

fn read_system(received: &Received) -> Option<Call<'_>> {
    match received {
        Received::Message { term, .. } => read_labelled(term, "system"),
        _ => None,
    }
}

fn answer(
    process: &Process,
    call: &Call<'_>,
    suspended: bool,
    shown: impl FnOnce() -> Shown,
) -> Term {
    let request = call.request;
    match request {
        Term::Atom(atom) if *atom == *"get_state" => {
            let state = shown().state;
            if is_older(call.tag) { state } else { tuple![atom!("ok"), state] }
        }
        Term::Atom(atom) if *atom == *"get_status" => status(process, suspended, shown()),
        Term::Tuple(_) if request.tagged("replace_state").is_some() => {
            let function = tuple![atom!("gen_server"), atom!("system_replace_state")];
            let exception = tuple![atom!("error"), atom!("notsup")];
            tuple![atom!("error"), tuple![atom!("callback_failed"), function, exception]]
        }
        _ => tuple![atom!("error"), tuple![atom!("unknown_system_msg"), request]],
    }
}

/// Whether a caller's `sys` takes the reply to `get_state` for the state itself: what it says of
/// its release is how long its aliases are, three words as in OTP 25 and not five as in 27 and 29.
fn is_older(tag: &Term) -> bool {
    alias_of(tag).is_some_and(|alias| alias.words().len() <= 3)
}

/// As that of any `gen_server` started without a link: it is its own parent.
fn status(process: &Process, suspended: bool, shown: Shown) -> Term {
    let running = if suspended { atom!("suspended") } else { atom!("running") };
    let data = |pairs: Vec<(&str, Term)>| {
        let pairs = pairs.into_iter().map(|(key, value)| tuple![Term::string_of(key), value]);
        tuple![atom!("data"), Term::list_of(pairs)]
    };
    let misc = list![
        tuple![atom!("header"), Term::string_of(&shown.header)],
        data(vec![
            ("Status", (&running).into()),
            ("Parent", process.pid().into()),
            ("Logged events", Term::NIL),
        ]),
        data(vec![("State", shown.state)])
    ];
    tuple![
        atom!("status"),
        process.pid(),
        tuple![atom!("module"), atom!("gen_server")],
        list![Term::NIL, running, process.pid(), Term::NIL, misc]
    ]
}

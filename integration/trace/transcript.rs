//! A transcript as it lies in its file; `erlang/test/recorder.erl` says how it's written.

use data_publisher::term::{Atom, Creation, Destination, Map, NodeName, Pid, Reference, Term};

/// What one scope of OTP 29 did.
pub(crate) struct Transcript {
    pub(crate) scope: Atom,
    pub(crate) module: String,
    pub(crate) options: Map,
    pub(crate) me: Pid,
    /// Nodes that were connected when it started.
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) steps: Vec<Step>,
}

/// A message, and what was done because of it.
pub(crate) struct Step {
    /// Where in the file, from 1.
    pub(crate) line: usize,
    /// `None` for what was done at the start.
    pub(crate) message: Option<Term>,
    pub(crate) effects: Vec<Effect>,
}

/// What the engine did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Send { to: Destination, message: Term },
    Monitor { reference: Reference, pid: Pid },
    Demonitor { reference: Reference },
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send { to, message } => write!(f, "out {to} {message}"),
            Self::Monitor { reference, pid } => write!(f, "monitor {reference} {pid}"),
            Self::Demonitor { reference } => write!(f, "demonitor {reference}"),
        }
    }
}

impl Transcript {
    /// The error names the line.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut transcript: Option<Self> = None;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('%') {
                continue;
            }
            Self::read_line(number, line, &mut transcript)
                .map_err(|error| format!("line {number}: {error}"))?;
        }
        transcript.ok_or_else(|| "there's no `start`".to_owned())
    }

    fn read_line(number: usize, line: &str, into: &mut Option<Self>) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').ok_or("a word alone")?;
        let terms = terms(rest)?;
        let Some(transcript) = into else {
            let ("start", [Term::Atom(scope), Term::Atom(module), Term::Map(options), me, nodes]) =
                (word, terms.as_slice())
            else {
                return Err("it doesn't begin with `start`".to_owned());
            };
            let nodes = nodes.list().map_err(display)?.iter().map(Term::node_name);
            *into = Some(Self {
                scope: scope.clone(),
                module: module.to_string(),
                options: options.clone(),
                me: me.pid().map_err(display)?.clone(),
                nodes: nodes.collect::<Result<_, _>>().map_err(display)?,
                steps: vec![Step { line: number, message: None, effects: Vec::new() }],
            });
            return Ok(());
        };
        let effect = match (word, terms.as_slice()) {
            ("in", [message]) => {
                let message = Some(message.clone());
                transcript.steps.push(Step { line: number, message, effects: Vec::new() });
                return Ok(());
            }
            ("out", [to, message]) => {
                Effect::Send { to: destination(to)?, message: message.clone() }
            }
            ("monitor", [Term::Reference(reference), Term::Pid(pid)]) => {
                Effect::Monitor { reference: reference.clone(), pid: pid.clone() }
            }
            ("demonitor", [Term::Reference(reference)]) => {
                Effect::Demonitor { reference: reference.clone() }
            }
            _ => return Err(format!("no line of a transcript: {line}")),
        };
        transcript.steps.last_mut().ok_or("no step")?.effects.push(effect);
        Ok(())
    }
}

fn destination(term: &Term) -> Result<Destination, String> {
    match term {
        Term::Pid(pid) => Ok(Destination::from(pid)),
        Term::Reference(reference) => Ok(Destination::Alias(reference.clone())),
        _ => {
            let [name, node] = term.tuple::<2>().map_err(display)?;
            let name = name.atom().map_err(display)?.clone();
            Ok(Destination::Name(name, node.node_name().map_err(display)?))
        }
    }
}

fn terms(mut text: &str) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    while !text.trim_start().is_empty() {
        let (term, rest) = Term::parse_prefix(text).map_err(display)?;
        terms.push(rewrite(&term, &alive));
        text = rest;
    }
    Ok(terms)
}

fn display(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What an atom such as `'<b.1>'` or `'#1'` stands for.
fn alive(term: &Term) -> Option<Term> {
    let text = term.atom().ok()?.as_str();
    if let Some(number) = text.strip_prefix('#') {
        let word = number.parse().ok()?;
        return Some(Reference::new(host("a")?, Creation(1), &[word, 0, 0])?.into());
    }
    let (node, number) = text.strip_prefix('<')?.strip_suffix('>')?.split_once('.')?;
    let id = number.parse().ok()?;
    Some(Pid { node: host(node)?, id, serial: 0, creation: Creation(1) }.into())
}

fn host(name: &str) -> Option<NodeName> {
    NodeName::new(&format!("{name}@127.0.0.1")).ok()
}

/// The term with each part replaced for which there is something else, the outermost first.
pub(crate) fn rewrite(term: &Term, change: &impl Fn(&Term) -> Option<Term>) -> Term {
    if let Some(other) = change(term) {
        return other;
    }
    let inner = |term: &Term| rewrite(term, change);
    match term {
        Term::Tuple(elements) => Term::tuple_of(elements.iter().map(inner).collect::<Vec<_>>()),
        Term::List(list) => Term::list_of(list.iter().map(inner)),
        Term::ImproperList(list) => {
            Term::list_with_tail(list.elements().iter().map(inner).collect(), inner(list.tail()))
        }
        Term::Map(map) => {
            Term::Map(map.pairs().iter().map(|(key, value)| (inner(key), inner(value))).collect())
        }
        _ => term.clone(),
    }
}

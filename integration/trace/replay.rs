//! Feeds a transcript to an engine of ours and compares what the two want done.
//!
//! What goes to one process is compared in order; what goes to different ones isn't ordered, for
//! nobody could see it. (OTP tells its peers in the order of their pids, ours in that of their
//! formats.) A list of pids is a bag, as `pg` has it. Timers and news of peers, which OTP's engine
//! doesn't have, are left out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use data_publisher::engine::{Action, DataPublisher, Engine, EngineOptions, Input, MonitorId};
use data_publisher::term::{Destination, NodeName, Pid, Reference, Term};

use super::account::{Account, Module};
use super::rules::{self, Counts};
use super::transcript::{Effect, Step, Transcript, rewrite};

/// Replays a whole transcript; the error says where the two differ first, without the file's name.
pub(crate) fn replay<P: DataPublisher>(
    transcript: &Transcript,
    module: Module,
    publisher: P,
    counts: &mut Counts,
) -> Result<(), String> {
    let standalone = transcript.options.get(&data_publisher::atom!("standalone").into());
    let standalone = standalone.is_some_and(|value| value.is_atom("true"));
    let version = publisher.version();
    let options = EngineOptions::default().standalone(standalone);
    let me = &transcript.me;
    let mut replay = Replay {
        engine: Engine::new(transcript.scope.clone(), me.clone(), publisher, options),
        monitors: BTreeMap::new(),
        references: BTreeMap::new(),
    };
    let mut account = Account::new(module, me.clone(), version.0, standalone);
    for step in &transcript.steps {
        replay
            .step(step, &transcript.nodes, &mut account, counts)
            .map_err(|error| format!("{}: {error}", step.line))?;
    }
    let last = transcript.steps.last().map_or(0, |step| step.line);
    account.left_uncompared().map_or(Ok(()), |text| Err(format!("{last}: {text}")))
}

struct Replay<P: DataPublisher> {
    engine: Engine<P>,
    /// Which monitor of ours is the one of a reference.
    monitors: BTreeMap<Reference, MonitorId>,
    /// Which reference of the transcript a subscription's of ours is.
    references: BTreeMap<Reference, Reference>,
}

impl<P: DataPublisher> Replay<P> {
    fn step(
        &mut self,
        step: &Step,
        nodes: &[NodeName],
        account: &mut Account,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let inputs = match &step.message {
            Some(message) => vec![self.input(message)?],
            None => nodes.iter().cloned().map(Input::NodeUp).collect(),
        };
        let mut actions = Vec::new();
        for input in inputs {
            self.engine.handle(input, &mut actions);
            self.engine.check();
        }
        let mut expected = step.effects.clone();
        let mut got = self.effects(actions, &expected)?;

        account.hears(step.message.as_ref());
        rules::apply(account, step.message.as_ref(), &mut expected, &mut got, counts);
        account.heard(step.message.as_ref());
        compare(&normal(expected), &normal(got))
    }

    fn input(&self, message: &Term) -> Result<Input<P>, String> {
        if let Some([node]) = message.tagged("nodeup") {
            return Ok(Input::NodeUp(node.node_name().map_err(|error| error.to_string())?));
        }
        if let Some([node]) = message.tagged("nodedown") {
            return Ok(Input::NodeDown(node.node_name().map_err(|error| error.to_string())?));
        }
        if let Ok([_, Term::Reference(reference), process, Term::Pid(pid), reason]) =
            message.tuple::<5>()
            && process.is_atom("process")
        {
            let monitor = *self.monitors.get(reference).ok_or("the monitor doesn't run here")?;
            return Ok(Input::Down { monitor, pid: pid.clone(), reason: reason.clone() });
        }
        let from = sender(message).ok_or("it doesn't say who sent it")?.node.clone();
        let ours = |theirs: &Term| {
            let theirs = theirs.reference().ok()?;
            let mut all = self.references.iter();
            all.find(|(_, known)| *known == theirs).map(|(ours, _)| ours.into())
        };
        Ok(Input::Message { from, message: rewrite(message, &ours) })
    }

    /// What our engine wants done, in the words of the transcript.
    fn effects(
        &mut self,
        actions: Vec<Action<P>>,
        expected: &[Effect],
    ) -> Result<Vec<Effect>, String> {
        let mut awaited: VecDeque<(&Reference, &Pid)> = VecDeque::new();
        for effect in expected {
            if let Effect::Monitor { reference, pid } = effect {
                awaited.push_back((reference, pid));
            }
        }
        let mut effects = Vec::new();
        for action in actions {
            match action {
                Action::Send { to, message } => effects.push(Effect::Send { to, message }),
                Action::Publish { peers, message } => {
                    effects.extend(peers.iter().map(|peer| Effect::Send {
                        to: Destination::from(peer),
                        message: message.clone(),
                    }));
                }
                Action::Monitor { id, pid } => {
                    let place = awaited.iter().position(|(_, awaited)| **awaited == pid);
                    let Some((reference, _)) = place.and_then(|place| awaited.remove(place)) else {
                        return Err(format!("ours watches {pid}, OTP doesn't"));
                    };
                    self.monitors.insert(reference.clone(), id);
                    effects.push(Effect::Monitor { reference: reference.clone(), pid });
                }
                Action::Demonitor { id } => {
                    let mut all = self.monitors.iter();
                    let found = all.find(|(_, known)| **known == id);
                    let (reference, _) = found.ok_or("ours stops to watch a stranger")?;
                    effects.push(Effect::Demonitor { reference: reference.clone() });
                }
                Action::After { .. } | Action::PeerUp { .. } | Action::PeerDown { .. } => {}
                Action::Notify { .. } | Action::Subscribed { .. } | Action::Updated { .. } => {
                    return Err("it answers somebody who isn't there".to_owned());
                }
            }
        }
        self.learn_reference(expected, &effects);
        for effect in &mut effects {
            if let Effect::Send { message, .. } = effect {
                *message = rewrite(message, &|ours| {
                    self.references.get(ours.reference().ok()?).map(Term::from)
                });
            }
        }
        Ok(effects)
    }

    /// In the answer to a subscriber, `{Tag, {Ref, Initial}}`, the reference is a new one.
    fn learn_reference(&mut self, expected: &[Effect], got: &[Effect]) {
        let new = |effects: &[Effect]| {
            effects.iter().find_map(|effect| {
                let Effect::Send { message, .. } = effect else { return None };
                let [_, answer] = message.tuple::<2>().ok()?;
                let [reference, _] = answer.tuple::<2>().ok()?;
                reference.reference().ok().cloned()
            })
        };
        if let (Some(theirs), Some(ours)) = (new(expected), new(got)) {
            self.references.insert(ours, theirs);
        }
    }
}

/// The process a message is from, going by what it says.
fn sender(message: &Term) -> Option<&Pid> {
    if let Some([from, _]) = message.tagged("$gen_call") {
        return from.tuple::<2>().ok()?[0].pid().ok();
    }
    let message = message.tagged("$gen_cast").map_or(message, |inner| &inner[0]);
    message.tuple_elements().ok()?.get(1)?.pid().ok()
}

/// In order of whom it concerns, with bags sorted.
fn normal(mut effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &mut effects {
        if let Effect::Send { message, .. } = effect {
            *message = rewrite(message, &|term| {
                let list = term.list().ok()?;
                let all_pids = list.iter().all(|element| element.pid().is_ok());
                let mut pids: Vec<Term> = list.iter().cloned().collect();
                pids.sort();
                (all_pids && !pids.is_empty()).then(|| Term::list_of(pids))
            });
        }
    }
    effects.sort_by_key(|effect| match effect {
        Effect::Send { to, .. } => to.to_string(),
        Effect::Monitor { pid, .. } => pid.to_string(),
        Effect::Demonitor { reference } => reference.to_string(),
    });
    effects
}

fn compare(expected: &[Effect], got: &[Effect]) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    let mut text = String::from("they differ\n");
    for (whose, effects, others) in [("OTP 29", expected, got), ("ours", got, expected)] {
        let _ = writeln!(text, "  {whose}:");
        for effect in effects {
            let mark = if others.contains(effect) { ' ' } else { '!' };
            let _ = writeln!(text, "  {mark} {effect}");
        }
    }
    Err(text)
}

//! Local data of any publisher: compared by its own `data_diff`, shown as the terms it would send.

use crate::engine::{DataPublisher, Engine, Wire};
use crate::term::{BadTerm, Term};

/// Most characters of a term in a report.
const MOST: usize = 400;

/// What `owner` has, as `reader` reads it from what it would be sent; `None` if that isn't one term.
pub(super) fn copy<P: DataPublisher>(
    reader: &Engine<P>,
    owner: &Engine<P>,
) -> Option<Result<P::LocalData, BadTerm>> {
    let format = reader.version().min(owner.version());
    match owner.publisher().translate_local_data(owner.me(), format, owner.local_data()) {
        Wire::Term(data) => Some(reader.publisher().read_local_data(&data)),
        Wire::Plain(_) => None,
    }
}

/// What `data_diff` says of two data that aren't equal.
pub(super) fn apart<P: DataPublisher>(
    engine: &Engine<P>,
    one: &P::LocalData,
    other: &P::LocalData,
) -> Option<String> {
    let text = |update: Option<P::Update>| update.map(|update| update_text(engine, &update));
    let there = text(engine.publisher().data_diff(one, other));
    let back = text(engine.publisher().data_diff(other, one));
    let nothing = || String::from("nothing");
    (there.is_some() || back.is_some()).then(|| {
        format!(
            "from one to the other it's {}, and back {}",
            there.unwrap_or_else(nothing),
            back.unwrap_or_else(nothing)
        )
    })
}

/// What is wrong if `data_diff` doesn't lead from one to the other.
pub(super) fn leads<P: DataPublisher>(
    engine: &Engine<P>,
    mut from: P::LocalData,
    to: &P::LocalData,
) -> Option<String> {
    let publisher = engine.publisher();
    let (start, end) = (data_text(engine, &from), data_text(engine, to));
    let Some(update) = publisher.data_diff(&from, to) else {
        let back = publisher.data_diff(to, &from)?;
        let back = update_text(engine, &back);
        return Some(format!(
            "data_diff from {start} to {end} finds no difference, and {back} in the other direction"
        ));
    };
    let text = update_text(engine, &update);
    publisher.update_local_data(update, &mut from);
    apart(engine, &from, to)?;
    let reached = data_text(engine, &from);
    Some(format!("data_diff from {start} to {end} is {text}, and applying that leads to {reached}"))
}

/// Local data as it's sent to one of our own version.
pub(super) fn data_text<P: DataPublisher>(engine: &Engine<P>, data: &P::LocalData) -> String {
    wire_text(&engine.publisher().translate_local_data(engine.me(), engine.version(), data))
}

/// An update as it's sent to one of our own version.
pub(super) fn update_text<P: DataPublisher>(engine: &Engine<P>, update: &P::Update) -> String {
    wire_text(&engine.publisher().translate_update(engine.me(), engine.version(), update))
}

fn wire_text(wire: &Wire) -> String {
    match wire {
        Wire::Term(term) => message_text(term),
        Wire::Plain(messages) => {
            messages.iter().map(message_text).collect::<Vec<_>>().join(", then ")
        }
    }
}

/// A term, cut where it's long.
pub(super) fn message_text(term: &Term) -> String {
    let text = term.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

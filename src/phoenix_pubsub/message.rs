//! What goes over the wire: `{forward_to_local, Topic, Message, Dispatcher}`, and the message of
//! channels.
//!
//! The worker that gets it passes the message to the topic's subscribers by the dispatcher's function,
//! and crashes if the topic is no binary, the dispatcher no module it has, or the message one the
//! dispatcher doesn't take. So there are two dispatchers, which each Phoenix has, and a channel's
//! message is checked before it leaves.

use crate::atom;
use crate::term::{Atom, Map, Term};
use crate::tuple;

/// The module that hands a message to subscribers there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dispatcher {
    /// Sends it to the subscribed processes; any message will do.
    PubSub,
    /// Writes it once as JSON for all clients of channels, to whose sockets it goes straight.
    Channel,
}

impl Dispatcher {
    fn module(self) -> Atom {
        match self {
            Self::PubSub => atom!("Elixir.Phoenix.PubSub"),
            Self::Channel => atom!("Elixir.Phoenix.Channel.Server"),
        }
    }
}

/// `{forward_to_local, Topic, Message, Dispatcher}`.
pub(super) fn forward(topic: &str, message: &Term, dispatcher: Dispatcher) -> Term {
    tuple![atom!("forward_to_local"), Term::binary_of(topic), message, dispatcher.module()]
}

/// The topic and message of what another node forwards; `None` for any other message. The dispatcher
/// may be any module: here all subscribers are alike.
pub(super) fn read_forward(message: &Term) -> Option<(&[u8], &Term)> {
    match message.tagged("forward_to_local")? {
        [Term::Binary(topic), message, Term::Atom(_)] => Some((topic, message)),
        _ => None,
    }
}

/// What a channel broadcasts, `%Phoenix.Socket.Broadcast{}`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Broadcast {
    /// The channel's topic.
    pub topic: String,
    /// The event's name.
    pub event: String,
    /// A map, unless a node sends another; `{binary, Bytes}` has been seen.
    pub payload: Term,
}

impl Broadcast {
    /// One that may leave: its payload can be written as JSON.
    pub(super) fn new(topic: &str, event: &str, payload: Term) -> Result<Self, NotJson> {
        if !matches!(payload, Term::Map(_)) {
            return Err(NotJson { what: "a payload that is no map".to_owned() });
        }
        check_json(&payload)?;
        Ok(Self { topic: topic.to_owned(), event: event.to_owned(), payload })
    }

    /// Reads the map that the struct is; `None` for any other term.
    pub fn read(term: &Term) -> Option<Self> {
        let Term::Map(map) = term else { return None };
        let text = |key: &Atom| match map.get(&key.into())? {
            Term::Binary(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
            _ => None,
        };
        let is_broadcast =
            map.len() == 4 && map.get(&atom!("__struct__").into())? == &struct_name();
        Some(Self {
            topic: is_broadcast.then(|| text(&atom!("topic")))??,
            event: text(&atom!("event"))?,
            payload: map.get(&atom!("payload").into())?.clone(),
        })
    }
}

fn struct_name() -> Atom {
    atom!("Elixir.Phoenix.Socket.Broadcast")
}

/// The map that the struct is.
impl From<Broadcast> for Term {
    fn from(broadcast: Broadcast) -> Self {
        let Broadcast { topic, event, payload } = broadcast;
        crate::map! {
            atom!("__struct__") => struct_name(),
            atom!("topic") => Self::binary_of(topic),
            atom!("event") => Self::binary_of(event),
            atom!("payload") => payload,
        }
    }
}

/// The payload of a channel's event can't be written as JSON by Elixir, so it mustn't leave.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} can't be written as JSON, as Phoenix does for a channel's clients")]
pub struct NotJson {
    /// What there is that JSON hasn't.
    pub what: String,
}

/// Whether Elixir's encoders (`Jason`, `JSON`) write this without raising: maps whose keys are atoms,
/// numbers or text, proper lists, numbers, atoms, text. Structs have encoders only by the grace of the
/// node that gets them, so none is let through.
fn check_json(payload: &Term) -> Result<(), NotJson> {
    // Not by recursion: what a user builds may be of any depth.
    let mut open = vec![payload];
    while let Some(term) = open.pop() {
        match term {
            Term::Map(map) => {
                if is_struct(map) {
                    return Err(not_json("a struct", term));
                }
                for (key, value) in map.pairs() {
                    match key {
                        Term::Atom(_) | Term::Integer(_) | Term::BigInteger(_) | Term::Float(_) => {
                        }
                        Term::Binary(bytes) if is_text(bytes) => {}
                        _ => return Err(not_json("the key", key)),
                    }
                    open.push(value);
                }
            }
            Term::List(list) => open.extend(list.iter()),
            Term::Atom(_) | Term::Integer(_) | Term::BigInteger(_) | Term::Float(_) => {}
            Term::Binary(bytes) if is_text(bytes) => {}
            Term::Binary(_) => return Err(not_json("a binary that isn't UTF-8,", term)),
            _ => return Err(not_json("the term", term)),
        }
    }
    Ok(())
}

fn not_json(what: &str, term: &Term) -> NotJson {
    NotJson { what: format!("{what} {}", crate::term::Excerpt(term)) }
}

fn is_struct(map: &Map) -> bool {
    map.get(&atom!("__struct__").into()).is_some()
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::{Creation, NodeName, Pid};
    use crate::{list, map};

    #[test]
    fn a_forwarded_message_is_read_as_it_is_written_and_no_other_is() {
        let message = tuple![atom!("user"), 1];
        let sent = forward("room:1", &message, Dispatcher::PubSub);
        let expected = "{forward_to_local,<<\"room:1\">>,{user,1},'Elixir.Phoenix.PubSub'}";
        assert_eq!(sent, expected.parse::<Term>().unwrap());
        assert_eq!(read_forward(&sent), Some((&b"room:1"[..], &message)));
        for other in [
            "{forward_to_local,room,m,'Elixir.Phoenix.PubSub'}",
            "{forward_to_local,\"room\",m,'Elixir.Phoenix.PubSub'}",
            "{forward_to_local,<<\"room\">>,m,\"d\"}",
            "{forward_to_local,<<\"room\">>,m}",
            "{forward_to_local,none,<<\"room\">>,m,d}",
            "{forward,<<\"room\">>,m,d}",
            "[]",
        ] {
            assert_eq!(read_forward(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_broadcast_is_the_map_of_its_struct() {
        let payload: Term = map! {atom!("body") => Term::binary_of("hé")};
        let broadcast = Broadcast::new("room:1", "new", payload.clone()).unwrap();
        let term = Term::from(broadcast.clone());
        let expected = "#{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast', \
                        topic => <<\"room:1\">>, event => <<\"new\">>, \
                        payload => #{body => <<\"hé\"/utf8>>}}";
        assert_eq!(term, expected.parse::<Term>().unwrap());
        assert_eq!(Broadcast::read(&term), Some(broadcast));
        for other in [
            "#{topic => <<\"t\">>, event => <<\"e\">>, payload => #{}}",
            "#{'__struct__' => x, topic => <<\"t\">>, event => <<\"e\">>, payload => #{}}",
            "#{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast', \
             topic => t, event => <<\"e\">>, payload => #{}}",
            "{}",
        ] {
            assert_eq!(Broadcast::read(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_payload_that_cannot_be_json_stays_here() {
        for good in [
            "#{}",
            "#{a => 1, <<\"b\">> => [1.5, nil, true, <<\"x\">>, #{2 => []}], 3 => \"charlist\"}",
            "#{n => 123456789012345678901234567890}",
        ] {
            assert!(Broadcast::new("t", "e", good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in [
            "[]",
            "<<\"text\">>",
            "{binary, <<1>>}",
            "#{a => {1, 2}}",
            "#{a => [1|2]}",
            "#{a => <<255>>}",
            "#{<<255>> => 1}",
            "#{{1} => 1}",
            "#{[1] => 1}",
            "#{a => [#{b => <0.1.0>}]}",
            "#{a => #{'__struct__' => 'Elixir.Date', day => 1}}",
            "#{'__struct__' => x}",
        ] {
            let Ok(payload) = bad.parse::<Term>() else { continue };
            assert!(Broadcast::new("t", "e", payload).is_err(), "{bad}");
        }
        let node = NodeName::new("a@h").unwrap();
        let pid = Pid { node, id: 1, serial: 0, creation: Creation(1) };
        assert!(Broadcast::new("t", "e", map! {atom!("a") => list![pid]}).is_err());
    }
}

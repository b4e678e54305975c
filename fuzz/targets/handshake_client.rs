//! We dial a peer that says anything, in any pieces: only the one we wanted, with the cookie, is let in.

use data_publisher::Cookie;
use data_publisher::fuzzing::{Party, dial};
use data_publisher::term::NodeName;
use data_publisher::wire::Flags;

use super::handshake_server::say;
use super::peer::{self, Peer, messages};
use super::script::{Script, Splits};

const STATUSES: [&[u8]; 8] = [
    b"sok",
    b"sok",
    b"sok_simultaneous",
    b"salive",
    b"snok",
    b"snot_allowed",
    b"snamed:us@h",
    b"s",
];

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let options = script.byte();
    let (tls, knows) = (options & 1 != 0, options & 2 == 0);
    let status = STATUSES[usize::from(options >> 2 & 7)];
    let is_wanted = options & 0x20 == 0;
    let cookie = Cookie::new("kept to ourselves").expect("a cookie");
    let theirs = if knows { cookie.clone() } else { Cookie::new("guessed").expect("a cookie") };
    let name = |name: &str| NodeName::new(name).expect("a name");
    let us = Party { name: name("us@h"), cookie: cookie.clone(), tls };

    let splits = Splits::new(script.byte());
    let mut step = 0;
    let mut is_honest = true;
    let mut peer = Peer::new(splits, |told| {
        if script.is_empty() && !is_honest {
            return None;
        }
        let right = match step {
            0 => Some(status.to_vec()),
            1 => {
                let text = if is_wanted { b"peer@h" } else { b"poor@h" };
                let flags = Flags::OFFERED.0.to_be_bytes();
                Some([b"N", &flags[..], &[1, 2, 3, 4], &[0, 0, 0, 7], &[0, 6], text].concat())
            }
            2 => question_of(told, tls).map(|number| [b"a", &theirs.digest(number)[..]].concat()),
            _ => None,
        };
        let said = say(&mut script, right, tls, &mut is_honest);
        step += 1;
        said
    });
    let outcome = peer::run(dial(&mut peer, &us, &name("peer@h")));

    let (told, read) = (std::mem::take(&mut peer.told), std::mem::take(&mut peer.read));
    drop(peer);
    let (told, is_whole) = messages(&told, tls);
    assert!(is_whole, "half a message");
    assert_eq!(told.first().and_then(|name| name.first()), Some(&b'N'));
    assert!(told.len() <= 3, "{} messages", told.len());
    let goes_on = matches!(status, b"sok" | b"sok_simultaneous" | b"salive");
    match outcome {
        Ok(flags) => {
            assert!(knows, "in without the cookie");
            assert!(flags.missing_required().is_none(), "{flags}");
            assert!(messages(&read, tls).1, "it read more than the handshake");
            let answers = told.iter().filter(|message| **message == b"strue").count();
            assert_eq!(told.len(), 2 + answers);
        }
        Err(error) => {
            let _ = error.to_string();
            let is_right = is_honest && knows && is_wanted && goes_on;
            assert!(!is_right, "an honest peer was refused: {error}");
        }
    }
    assert!(read.len() <= 3 * (4 + 4096), "read without an end");
}

/// The number in our reply, if that was the last thing told.
fn question_of(told: &[u8], tls: bool) -> Option<u32> {
    let last = *messages(told, tls).0.last()?;
    let number = last.strip_prefix(b"r")?.get(..4)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

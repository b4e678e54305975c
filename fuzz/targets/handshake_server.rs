//! A peer dials us and says anything, in any pieces: whoever doesn't know the cookie learns nothing.

use data_publisher::Cookie;
use data_publisher::fuzzing::{Party, Verdict, accept};
use data_publisher::term::NodeName;
use data_publisher::wire::Flags;

use super::peer::{self, Peer, framed, messages};
use super::script::{Script, Splits};

const VERDICTS: [Verdict; 8] = [
    Verdict::Ok,
    Verdict::Ok,
    Verdict::OkSimultaneous,
    Verdict::Alive,
    Verdict::Alive,
    Verdict::Nok,
    Verdict::NotAllowed,
    Verdict::Ok,
];

pub(super) fn run(input: &[u8]) {
    let mut script = Script(input);
    let options = script.byte();
    let (tls, knows) = (options & 1 != 0, options & 2 == 0);
    let verdict = VERDICTS[usize::from(options >> 2 & 7)];
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
        let right = match (step, verdict) {
            (0, _) => {
                let text = b"peer@h";
                let flags = Flags::OFFERED.0.to_be_bytes();
                Some([b"N", &flags[..], &[0, 0, 0, 7], &[0, 6], text].concat())
            }
            (1, Verdict::Alive) => Some(b"strue".to_vec()),
            (1, _) | (2, Verdict::Alive) => challenge_of(told, tls)
                .map(|challenge| [b"r", &[1, 2, 3, 4][..], &theirs.digest(challenge)].concat()),
            _ => None,
        };
        let said = say(&mut script, right, tls, &mut is_honest);
        step += 1;
        said
    });
    let outcome = peer::run(accept(&mut peer, &us, verdict));

    let (told, read) = (std::mem::take(&mut peer.told), std::mem::take(&mut peer.read));
    drop(peer);
    let (told, is_whole) = messages(&told, tls);
    assert!(is_whole, "half a message");
    let proofs = told.iter().filter(|message| message.first() == Some(&b'a')).count();
    match outcome {
        Ok(Some((peer, flags))) => {
            assert!(knows, "{peer} is in without the cookie");
            assert!(flags.missing_required().is_none(), "{flags}");
            let (said, is_whole) = messages(&read, tls);
            assert!(is_whole, "it read more than the handshake");
            let theirs = said.last().and_then(|reply| reply.get(1..5)?.try_into().ok());
            let proof = cookie.digest(u32::from_be_bytes(theirs.expect("a challenge")));
            assert_eq!(told.last(), Some(&&*[b"a", &proof[..]].concat()));
        }
        Ok(None) => {
            assert!(matches!(verdict, Verdict::Nok | Verdict::NotAllowed));
            assert_eq!(proofs, 0, "a proof for one that was refused");
        }
        Err(error) => {
            let _ = error.to_string();
            assert!(!(is_honest && knows), "an honest peer was refused: {error}");
            assert_eq!(proofs, 0, "a proof for one that has none");
        }
    }
    assert!(read.len() <= 3 * (4 + 4096), "read without an end");
}

/// What a peer says in place of what is right there.
pub(super) fn say(
    script: &mut Script<'_>,
    right: Option<Vec<u8>>,
    tls: bool,
    is_honest: &mut bool,
) -> Option<Vec<u8>> {
    let how = script.byte() % 6;
    if how == 0 {
        return right.map(|right| framed(&right, tls));
    }
    *is_honest = false;
    let mut right = right.unwrap_or_default();
    Some(match how {
        1 => {
            let (at, flip) = (usize::from(script.u16()), script.byte());
            let len = right.len().max(1);
            if let Some(byte) = right.get_mut(at % len) {
                *byte ^= flip;
            }
            framed(&right, tls)
        }
        2 => framed(script.counted(), tls),
        3 => script.counted().to_vec(),
        4 => {
            right.truncate(script.byte().into());
            framed(&right, tls)
        }
        _ => {
            right.extend_from_slice(script.counted());
            framed(&right, tls)
        }
    })
}

/// The number in the challenge that was the last thing told.
fn challenge_of(told: &[u8], tls: bool) -> Option<u32> {
    let last = *messages(told, tls).0.last()?;
    let number = last.strip_prefix(b"N")?.get(8..12)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

//! Our engine against OTP 29's, message by message: transcripts of what OTP's engine did on a real
//! node are replayed into ours, and what the two want done must be equal, term by term.
//!
//! Nothing of Erlang is needed. The transcripts lie beside this file; `erlang/test/recorder.erl`
//! wrote them and says how they read, and the test `trace_live` of the target `integration` records
//! them again on a real node and finds them unchanged.
//!
//! Where the two differ on purpose there is a rule in [`rules`], as narrow as it can be. Three of the
//! differences are of the protocol:
//!
//! 1. A peer's version is what its hello said, and the label of our own local data is the lower of
//!    the two versions ([`LowerLabel`](rules::Rule), `VersionOfTheHello`).
//! 2. An update that comes before the local data it belongs to isn't applied (`EarlyUpdate`).
//! 3. What changes nothing isn't passed on, so no group is empty (`NothingChanged`, `EmptyGroup`).
//!
//! The others are of manners, and in the end everybody knows the same: `ShortHello` and
//! `OneLeaveForEachPid` spare the older releases, `NotAskedYet` holds back what follows on data that
//! wasn't sent, `YoungestSpeaks` keeps a node that restarts from being shown twice, `DeathOfAMember`
//! says the same in fewer words, and `EndedMonitor` has no effect.
//!
//! Not recorded is what kills OTP's engine: a message that `pg` doesn't know, a call that none does.
//!
//! Each rule has to be of use, or the test fails: a difference that is gone takes its rule with it.

#[path = "../publishers/mod.rs"]
mod publishers;

mod account;
mod replay;
mod rules;
mod transcript;

use std::path::Path;

use data_publisher::atom;
use data_publisher::engine::Version;
use data_publisher::pg::PgPublisher;
use data_publisher::term::Term;

use account::Module;
use publishers::names::{Format, Names};
use rules::Counts;
use transcript::Transcript;

#[test]
#[expect(clippy::print_stdout, reason = "how often each rule was needed")]
fn our_engine_does_what_otp_29_does_but_for_the_differences_we_want() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/trace");
    let files = std::fs::read_dir(&directory).expect("the directory is there");
    let mut files: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 20, "only {} transcripts", files.len());

    let mut counts = Counts::new();
    let mut steps = 0;
    let mut failures = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("it can be read");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match Transcript::read(&text) {
            Ok(transcript) => {
                steps += transcript.steps.len();
                if let Err(error) = replayed(&transcript, &mut counts) {
                    failures.push(format!("integration/trace/{name}:{error}"));
                }
            }
            Err(error) => failures.push(format!("integration/trace/{name}: {error}")),
        }
    }

    println!("{} transcripts, {steps} steps; {counts:?}", files.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for rule in rules::ALL {
        assert!(counts.contains_key(&rule), "{rule:?} is of no use any more");
    }
}

fn replayed(transcript: &Transcript, counts: &mut Counts) -> Result<(), String> {
    if transcript.module == "pg" {
        return replay::replay(transcript, Module::Pg, PgPublisher::new(), counts);
    }
    let option = |name| transcript.options.get(&Term::Atom(name)).cloned();
    let version = option(atom!("version")).ok_or("no version")?;
    let (format, number) = match option(atom!("format")) {
        Some(Term::Integer(1)) => (Format::One, 1),
        Some(Term::Integer(2)) => (Format::Two, 2),
        _ => return Err("no format".to_owned()),
    };
    let names = Names::new(format, Version(version));
    replay::replay(transcript, Module::Names(number), names, counts)
}

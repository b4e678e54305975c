//! Writes the first inputs of all targets into `fuzz/corpus`: what real nodes of OTP 25, 27 and 29 say
//! to each other and to their EPMD, recorded on the way, and bytes written by hand. `scripts/fuzz
//! --capture` runs it; no file holds a time, but creations, pids and challenges are new each time.

mod by_hand;
mod record;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_publisher::term::Term;
use data_publisher::wire::outbound::Order;
use data_publisher::wire::{
    Deframer, Flags, FragmentLimits, Inbound, MAX_MESSAGE, Outbound, Signal, encode, signal,
};

use crate::record::{Recording, Talk};

/// Frames and terms beyond are cut, to keep the repository small.
const LARGE: usize = 600;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("the folder of the corpus is missing")?;
    let corpus = Corpus(folder.into());
    by_hand::write(&corpus)?;
    let mut seen = BTreeSet::new();
    for release in ["25", "27", "29"] {
        let erl =
            std::env::var(format!("FUZZ_OTP_{release}")).context("not started by scripts/fuzz")?;
        let recording = record::record(Path::new(&erl)).await?;
        corpus.recorded(release, &recording, &mut seen)?;
    }
    Ok(())
}

/// The folder with one folder for each target.
pub(crate) struct Corpus(PathBuf);

impl Corpus {
    pub(crate) fn put(&self, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.0.join(target);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    /// A term, for all that reads terms.
    pub(crate) fn put_term(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put("term", name, bytes)?;
        self.put("round_trip", name, bytes)
    }

    fn recorded(
        &self,
        otp: &str,
        recording: &Recording,
        seen: &mut BTreeSet<String>,
    ) -> Result<()> {
        for (index, Talk { asked, answered }) in recording.epmd.iter().enumerate() {
            let kind = asked.get(2).copied().unwrap_or_default();
            let question = match kind {
                120 => 0,
                122 => 1,
                _ => 2,
            };
            if !seen.insert(format!("epmd {otp} {kind}")) {
                continue;
            }
            let name = format!("otp{otp}_{index}");
            self.put("epmd_server", &name, &[&[0, 0], &asked[..]].concat())?;
            self.put("epmd_client", &name, &[&[question, 0], &answered[..]].concat())?;
        }
        let counted = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
        let (name, challenge) = (&recording.name, &recording.challenge);
        let said = [&[0, 0, 2][..], &counted(name)].concat();
        self.put("handshake_server", &format!("otp{otp}"), &said)?;
        // Flags and creation are theirs; the name is the one that is dialled there.
        let challenge = [&challenge[..17], b"\0\x06peer@h"].concat();
        let said = [&[0, 0, 0, 2][..], &counted(&challenge)].concat();
        self.put("handshake_client", &format!("otp{otp}"), &said)?;

        for (direction, stream) in
            [("to", &recording.frames.asked), ("from", &recording.frames.answered)]
        {
            self.stream(&format!("otp{otp}_{direction}"), stream, seen)?;
        }
        Ok(())
    }

    /// All that one node sent to the other after the handshake.
    fn stream(&self, name: &str, stream: &[u8], seen: &mut BTreeSet<String>) -> Result<()> {
        let mut deframer = Deframer::new(MAX_MESSAGE);
        deframer.buffer().extend_from_slice(stream);
        let limits = FragmentLimits { sequences: 64, bytes: MAX_MESSAGE, message: MAX_MESSAGE };
        let mut inbound = Inbound::new(Flags::OFFERED, limits);
        // To a scope that runs a publisher of terms: that its node is up, and each message.
        let (mut cut, mut heard) = (Vec::new(), vec![0, 9]);
        while let Some(frame) = deframer.next_frame()? {
            let length = frame.len().min(LARGE);
            cut.extend_from_slice(&(length as u32).to_be_bytes());
            cut.extend_from_slice(&frame[..length]);
            if frame.is_empty() {
                continue;
            }
            let Some((read, _)) = inbound.frame(frame).context("a frame of a real node")? else {
                continue;
            };
            if let Signal::Send { message, .. } = &read {
                self.message(name, message, &mut heard, seen)?;
            }
            let kind = format!("{:?}", std::mem::discriminant(&read));
            if frame.len() <= LARGE && seen.insert(format!("signal {kind} {}", frame.len() / 16)) {
                let index = seen.len();
                for (form, flags) in [("plain", Flags::REQUIRED), ("listed", Flags::OFFERED)] {
                    let mut bytes = Vec::new();
                    if Outbound::new(flags).signal(&read, Order::Kept, &mut bytes).is_ok() {
                        self.put("signal", &format!("{name}_{index}_{form}"), &bytes[4..])?;
                    }
                }
                let mut newer = Vec::new();
                signal::encode(&read, Flags::OFFERED, &mut newer)?;
                self.put("signal", &format!("{name}_{index}_newer"), &newer[4..])?;
            }
        }
        self.put("fragments", name, &[&[0], &cut[..]].concat())?;
        self.put("deframer", name, &[&[1, 7, 1], &cut[..cut.len().min(2 * LARGE)]].concat())?;
        if heard.len() > 2 {
            self.put("engine", name, &heard)?;
        }
        Ok(())
    }

    fn message(
        &self,
        name: &str,
        message: &Term,
        heard: &mut Vec<u8>,
        seen: &mut BTreeSet<String>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes)?;
        if bytes.len() > LARGE {
            return Ok(());
        }
        let words = ["discover", "local_data", "update", "sync", "join", "leave"];
        let inner = message.tagged("$gen_cast").and_then(|cast| cast.first()).unwrap_or(message);
        if words.iter().any(|word| inner.tagged(word).is_some()) {
            heard.extend([0, 0]);
            heard.extend((bytes.len() as u16 - 1).to_be_bytes());
            heard.extend_from_slice(&bytes[1..]);
        }
        // One of each shape: that is the tags in it, more or less.
        let shape: String =
            message.to_string().chars().filter(|c| "{}[]<>#|.".contains(*c)).collect();
        if seen.insert(format!("term {shape}")) {
            let name = format!("{name}_{}", seen.len());
            self.put_term(&name, &bytes)?;
            self.put("text", &name, message.to_string().as_bytes())?;
        }
        Ok(())
    }
}

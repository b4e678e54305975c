//! The distribution protocol by hand: every byte is ours.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use data_publisher::Cookie;
use data_publisher::term::{Atom, Creation, NodeName, Pid, Reference, Term};
use data_publisher::wire::signal::{self, Signal, Target};
use data_publisher::wire::{Deframer, Flags, FragmentLimits, Inbound, MAX_MESSAGE};
use data_publisher::{atom, tuple};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{SOON, cookie};

/// What a raw peer offers: frames of the simplest kind.
pub(super) const FLAGS: Flags =
    Flags(Flags::OFFERED.0 & !(Flags::DIST_HDR_ATOM_CACHE.0 | Flags::FRAGMENTS.0));

pub(super) const CREATION: Creation = Creation(77);

/// One end of a connection.
pub(super) struct Raw {
    name: NodeName,
    socket: TcpStream,
    deframer: Deframer,
    inbound: Inbound,
}

/// `'N'`, the first message of a handshake.
pub(super) fn name_message(name: &[u8], flags: u64) -> Vec<u8> {
    let mut message = vec![b'N'];
    message.extend(flags.to_be_bytes());
    message.extend(CREATION.0.to_be_bytes());
    message.extend((name.len() as u16).to_be_bytes());
    message.extend(name);
    message
}

/// `'N'` with a challenge, the answer of the side that was dialled.
pub(super) fn challenge_message(name: &str, flags: u64, challenge: u32) -> Vec<u8> {
    let mut message = vec![b'N'];
    message.extend(flags.to_be_bytes());
    message.extend(challenge.to_be_bytes());
    message.extend(CREATION.0.to_be_bytes());
    message.extend((name.len() as u16).to_be_bytes());
    message.extend(name.as_bytes());
    message
}

/// Writes a message of the handshake.
pub(super) async fn say(socket: &mut TcpStream, message: &[u8]) -> Result<()> {
    let framed = [&(message.len() as u16).to_be_bytes(), message].concat();
    Ok(socket.write_all(&framed).await?)
}

/// Reads a message of the handshake; `None` when the other end has closed.
pub(super) async fn hear(socket: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let read = async {
        let Ok(length) = socket.read_u16().await else { return Ok(None) };
        let mut message = vec![0; usize::from(length)];
        socket.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    tokio::time::timeout(SOON, read).await.context("no message of a handshake")?
}

/// Waits for the other end to close; what it still sent.
pub(super) async fn closed(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let read = async { socket.read_to_end(&mut rest).await.is_ok() };
    tokio::time::timeout(SOON, read).await.context("it isn't closed")?;
    Ok(rest)
}

impl Raw {
    /// Connects and proves that it knows the cookie.
    pub(super) async fn dial(port: u16, name: &str) -> Result<Self> {
        Self::dial_offering(FLAGS, port, name).await
    }

    pub(super) async fn dial_offering(flags: Flags, port: u16, name: &str) -> Result<Self> {
        let (mut socket, status) = Self::knock_offering(flags, port, name).await?;
        ensure!(status.as_deref() == Some(b"sok"), "{name}: status {status:?}");
        Self::prove(&mut socket).await?;
        Self::over(flags, name, socket)
    }

    /// A connection whose handshake is done.
    pub(super) fn over(flags: Flags, name: &str, socket: TcpStream) -> Result<Self> {
        let limits = FragmentLimits { sequences: 64, bytes: MAX_MESSAGE, message: MAX_MESSAGE };
        Ok(Self {
            name: name.parse()?,
            socket,
            deframer: Deframer::new(MAX_MESSAGE),
            inbound: Inbound::new(flags, limits),
        })
    }

    /// Says its name; the status it gets.
    pub(super) async fn knock(port: u16, name: &str) -> Result<(TcpStream, Option<Vec<u8>>)> {
        Self::knock_offering(FLAGS, port, name).await
    }

    async fn knock_offering(
        flags: Flags,
        port: u16,
        name: &str,
    ) -> Result<(TcpStream, Option<Vec<u8>>)> {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        say(&mut socket, &name_message(name.as_bytes(), flags.0)).await?;
        let status = hear(&mut socket).await?;
        Ok((socket, status))
    }

    /// The rest of the handshake after an encouraging status.
    pub(super) async fn prove(socket: &mut TcpStream) -> Result<()> {
        let challenge = hear(socket).await?.context("no challenge")?;
        let number = challenge.get(9..13).context("a short challenge")?;
        let number = u32::from_be_bytes(number.try_into()?);
        let digest = Cookie::new(cookie())?.digest(number);
        say(socket, &[b"r", &4711_u32.to_be_bytes()[..], &digest].concat()).await?;
        let ack = hear(socket).await?.context("no acknowledgement")?;
        ensure!(ack[1..] == Cookie::new(cookie())?.digest(4711), "it doesn't know the cookie");
        Ok(())
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.name
    }

    /// A pid of this peer.
    pub(super) fn pid(&self, id: u32) -> Pid {
        Pid { node: self.name.clone(), id, serial: 0, creation: CREATION }
    }

    pub(super) fn reference(&self, word: u32) -> Reference {
        Reference::new(self.name.clone(), CREATION, &[word, 2, 3]).expect("three words")
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// Sends a frame: its length, then this.
    pub(super) async fn frame(&mut self, body: &[u8]) -> Result<()> {
        let frame = [&(body.len() as u32).to_be_bytes(), body].concat();
        self.write(&frame).await
    }

    pub(super) async fn signal(&mut self, signal: &Signal) -> Result<()> {
        let mut bytes = Vec::new();
        signal::encode(signal, FLAGS, &mut bytes)?;
        self.write(&bytes).await
    }

    /// Sends a message to a registered name or a pid.
    pub(super) async fn send(
        &mut self,
        to: impl Into<Target>,
        message: impl Into<Term>,
    ) -> Result<()> {
        let message =
            Signal::Send { from: Some(self.pid(1)), to: to.into(), message: message.into() };
        self.signal(&message).await
    }

    pub(super) async fn send_to_name(
        &mut self,
        name: &str,
        message: impl Into<Term>,
    ) -> Result<()> {
        self.send(Target::Name(Atom::new(name)?), message).await
    }

    /// The frame of a message to a registered name with this payload, right or wrong.
    pub(super) fn with_payload(&self, name: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let (from, to) = (self.pid(1), Target::Name(Atom::new(name)?));
        let mut frame = Vec::new();
        signal::encode_send_head(&from, &to, payload.len(), FLAGS, &mut frame)?;
        frame.extend_from_slice(payload);
        Ok(frame)
    }

    /// The next frame, ticks being empty ones; `None` when the other end has closed.
    pub(super) async fn next_frame(&mut self, limit: Duration) -> Result<Option<Vec<u8>>> {
        self.next_frame_with_pauses(limit, Duration::ZERO).await
    }

    /// The same with a pause after each read.
    pub(super) async fn next_frame_slowly(&mut self, pause: Duration) -> Result<Option<Vec<u8>>> {
        self.next_frame_with_pauses(SOON, pause).await
    }

    async fn next_frame_with_pauses(
        &mut self,
        limit: Duration,
        pause: Duration,
    ) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(frame) = self.deframer.next_frame()? {
                return Ok(Some(frame.to_vec()));
            }
            let read = self.socket.read_buf(self.deframer.buffer());
            match tokio::time::timeout(limit, read).await.context("no frame")? {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) if pause.is_zero() => {}
                Ok(_) => tokio::time::sleep(pause).await,
            }
        }
    }

    /// The signal of a frame; `None` if more fragments of it must come.
    pub(super) fn read(&mut self, frame: &[u8]) -> Result<Option<Signal>> {
        Ok(self.inbound.frame(frame)?.map(|(signal, _)| signal))
    }

    /// The next signal for which this has a value; others are skipped, as are ticks.
    pub(super) async fn expect<T>(
        &mut self,
        what: &str,
        mut is_meant: impl FnMut(&Signal) -> Option<T>,
    ) -> Result<T> {
        loop {
            let Some(frame) = self.next_frame(SOON).await.with_context(|| what.to_owned())? else {
                bail!("{what}: it closed");
            };
            if frame.is_empty() {
                continue;
            }
            if let Some((signal, _)) = self.inbound.frame(&frame)?
                && let Some(found) = is_meant(&signal)
            {
                return Ok(found);
            }
        }
    }

    /// Has the other end answer, and so do all that was said before; how long that takes.
    pub(super) async fn round_trip(&mut self, word: u32) -> Result<Duration> {
        let asked = Instant::now();
        let reference = self.reference(word);
        let tag = tuple![self.pid(1), &reference];
        let question = tuple![atom!("$gen_call"), tag, tuple![atom!("is_auth"), self.name()]];
        self.send_to_name("net_kernel", question).await?;
        self.expect("an answer of net_kernel", |signal| match signal {
            Signal::Send { message, .. } => {
                let tag = message.tuple::<2>().map(|[tag, _]| tag);
                tag.is_ok_and(|tag| *tag == Term::from(&reference)).then_some(())
            }
            _ => None,
        })
        .await?;
        Ok(asked.elapsed())
    }

    /// Waits until the other end has closed.
    pub(super) async fn wait_closed(&mut self) -> Result<()> {
        while self.next_frame(SOON).await.context("still open")?.is_some() {}
        Ok(())
    }
}

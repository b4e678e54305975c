//! The messages of a handshake as bytes, and how they travel: each after its length, of 16 bits, or of
//! 32 where the connection is TLS.
//!
//! Every message but the status has one shape, so what a peer sends is either taken apart in full or
//! an error that names the step. All integers are big-endian.

use std::io;

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{HandshakeError, Peer, Step, Us};
use crate::node::tls::TlsError;
use crate::term::{Creation, NodeName};
use crate::wire::Flags;

/// Most bytes of a message after its length. The longest legal one, a name of 255 characters of
/// four bytes each, has 1,039.
pub(crate) const MAX_FRAME: usize = 4096;

/// A stream that a handshake's messages travel on.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// How the length before a message is written.
    fn lengths(&self) -> Lengths;
}

/// The size of the length before a message.
///
/// Source: `{packet, 2}` in `inet_tcp_dist:gen_setup/6`, `{packet, 4}` in `inet_tls_dist:do_setup/7`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lengths {
    /// Two bytes: TCP.
    Two,
    /// Four bytes: TLS, from the first byte on as frames have it later.
    Four,
}

impl<C: Carrier> Carrier for &mut C {
    fn lengths(&self) -> Lengths {
        (**self).lengths()
    }
}

/// A status with which a handshake can go on or end well.
pub(super) enum Status {
    /// `ok` or `ok_simultaneous`: to the dialling side they are one.
    Ok,
    Nok,
    NotAllowed,
    Alive,
}

pub(super) async fn read_status<S: Carrier>(stream: &mut S) -> Result<Status, HandshakeError> {
    let frame = read_frame(stream, Step::Status).await?;
    match frame.split_first() {
        Some((b's', status)) => match status {
            b"ok" | b"ok_simultaneous" => Ok(Status::Ok),
            b"nok" => Ok(Status::Nok),
            b"not_allowed" => Ok(Status::NotAllowed),
            b"alive" => Ok(Status::Alive),
            // Also `named:`, which only answers the flag NAME_ME, and that we never offer.
            other => Err(HandshakeError::BadStatus { status: text_of(other) }),
        },
        _ => Err(malformed(Step::Status, "of another kind")),
    }
}

/// `s` and `named:` NameLen:16 Name Creation:32, the answer to a node that has no name.
pub(super) fn named_message(peer: &Peer) -> Vec<u8> {
    let name = peer.name.as_str().as_bytes();
    let mut message = b"snamed:".to_vec();
    message.extend((name.len() as u16).to_be_bytes());
    message.extend(name);
    message.extend(peer.creation.0.to_be_bytes());
    message
}

/// `'N' Flags:64 Creation:32 NameLen:16 Name`, the name of the dialling side.
pub(super) fn name_message(us: &Us) -> Vec<u8> {
    name_with(us, us.flags, None)
}

/// `'N' Flags:64 Challenge:32 Creation:32 NameLen:16 Name`. To who asked for a name `NAME_ME` is said
/// back: it only believes in what both have said.
pub(super) fn challenge_message(us: &Us, challenge: u32, peer: &Peer) -> Vec<u8> {
    name_with(us, us.flags | peer.flags & Flags::NAME_ME.0, Some(challenge))
}

fn name_with(us: &Us, flags: u64, challenge: Option<u32>) -> Vec<u8> {
    let name = us.name.as_str().as_bytes();
    let mut message = vec![b'N'];
    message.extend(flags.to_be_bytes());
    message.extend(challenge.into_iter().flat_map(u32::to_be_bytes));
    message.extend(us.creation.0.to_be_bytes());
    // At most 255 characters, so at most 1,020 bytes.
    message.extend((name.len() as u16).to_be_bytes());
    message.extend(name);
    message
}

/// A node that asks for a name only says its host: `erl -remsh` does. It gets a name and a creation
/// that it uses for as long as it runs.
///
/// Source: `net_kernel:ensure_node_name/2`, OTP 25 to 29.
pub(super) fn read_name(mut frame: &[u8]) -> Result<Peer, HandshakeError> {
    let flags = read_flags(&mut frame, Step::Name)?;
    if !Flags(flags).contains(Flags::NAME_ME) {
        return read_peer(frame, flags, Step::Name);
    }
    let (_, host) = read_creation_and_name(frame, Step::Name)?;
    let bad_name = || HandshakeError::BadName { name: text_of(host) };
    let host = std::str::from_utf8(host).map_err(|_| bad_name())?;
    // It's unlike all others by chance, as is that of a BEAM.
    let name = format!("{:X}@{host}", rand::random::<u64>());
    let name = NodeName::new(name.as_str()).map_err(|_| bad_name())?;
    Ok(Peer { name, flags, creation: Creation(rand::random_range(4..=u32::MAX)) })
}

pub(super) fn read_challenge(mut frame: &[u8]) -> Result<(Peer, u32), HandshakeError> {
    let flags = read_flags(&mut frame, Step::Challenge)?;
    let challenge = frame.try_get_u32().map_err(|_| malformed(Step::Challenge, "cut off"))?;
    Ok((read_peer(frame, flags, Step::Challenge)?, challenge))
}

/// What both messages begin with.
fn read_flags(frame: &mut &[u8], step: Step) -> Result<u64, HandshakeError> {
    match frame.try_get_u8() {
        Ok(b'N') => frame.try_get_u64().map_err(|_| malformed(step, "cut off")),
        Ok(b'n') => Err(malformed(step, "that of a node older than OTP 23")),
        _ => Err(malformed(step, "of another kind")),
    }
}

/// What both messages end with. Bytes after the name are left for protocols to come.
fn read_peer(frame: &[u8], flags: u64, step: Step) -> Result<Peer, HandshakeError> {
    let (creation, name) = read_creation_and_name(frame, step)?;
    let name = std::str::from_utf8(name)
        .ok()
        .and_then(|name| NodeName::new(name).ok())
        .ok_or_else(|| HandshakeError::BadName { name: text_of(name) })?;
    Ok(Peer { name, flags, creation })
}

fn read_creation_and_name(
    mut frame: &[u8],
    step: Step,
) -> Result<(Creation, &[u8]), HandshakeError> {
    let cut = |_| malformed(step, "cut off");
    let creation = Creation(frame.try_get_u32().map_err(cut)?);
    let length = usize::from(frame.try_get_u16().map_err(cut)?);
    Ok((creation, frame.get(..length).ok_or(malformed(step, "cut off"))?))
}

/// `'r' Challenge:32 Digest:16/binary`.
pub(super) fn reply_message(challenge: u32, digest: [u8; 16]) -> Vec<u8> {
    [b"r", &challenge.to_be_bytes()[..], &digest].concat()
}

pub(super) fn read_reply(frame: &[u8]) -> Result<(u32, [u8; 16]), HandshakeError> {
    match frame {
        [b'r', c3, c2, c1, c0, digest @ ..] => {
            Ok((u32::from_be_bytes([*c3, *c2, *c1, *c0]), read_digest(digest, Step::Reply)?))
        }
        _ => Err(malformed(Step::Reply, "of another kind")),
    }
}

/// `'a' Digest:16/binary`.
pub(super) fn read_ack(frame: &[u8]) -> Result<[u8; 16], HandshakeError> {
    match frame {
        [b'a', digest @ ..] => read_digest(digest, Step::Ack),
        _ => Err(malformed(Step::Ack, "of another kind")),
    }
}

fn read_digest(rest: &[u8], step: Step) -> Result<[u8; 16], HandshakeError> {
    rest.try_into().map_err(|_| malformed(step, "without a digest of 16 bytes"))
}

/// Writes a message with its length, as one write: two would wait for each other's acknowledgement.
pub(super) async fn write_frame<S>(
    stream: &mut S,
    step: Step,
    message: &[u8],
) -> Result<(), HandshakeError>
where
    S: Carrier,
{
    // Ours have at most 1,043 bytes.
    let length = message.len() as u16;
    let frame = match stream.lengths() {
        Lengths::Two => [&length.to_be_bytes(), message].concat(),
        Lengths::Four => [&u32::from(length).to_be_bytes(), message].concat(),
    };
    let written = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    written.await.map_err(|error| failed(step, error))
}

/// Reads a message and not a byte more. Memory grows with the bytes that came, not with the claim.
pub(super) async fn read_frame<S: Carrier>(
    stream: &mut S,
    step: Step,
) -> Result<Vec<u8>, HandshakeError> {
    let length = match stream.lengths() {
        Lengths::Two => stream.read_u16().await.map(usize::from),
        Lengths::Four => stream.read_u32().await.map(|length| length as usize),
    };
    let length = length.map_err(|error| failed(step, error))?;
    if matches!(length, 0x1503 | 0x1603) {
        // A record of TLS, an alert or a handshake, by its type and version.
        return Err(HandshakeError::SpeaksTls);
    }
    if length > MAX_FRAME {
        return Err(HandshakeError::TooLong { step, length });
    }
    let mut message = Vec::new();
    let mut stream = stream.take(length as u64);
    stream.read_to_end(&mut message).await.map_err(|error| failed(step, error))?;
    if message.len() < length {
        return Err(HandshakeError::Closed { step });
    }
    Ok(message)
}

fn failed(step: Step, source: io::Error) -> HandshakeError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let Some(error) = TlsError::in_stream(&source) {
        return HandshakeError::Tls(error);
    }
    match source.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
            HandshakeError::Closed { step }
        }
        _ => HandshakeError::Io { step, source },
    }
}

pub(super) fn malformed(step: Step, what: &'static str) -> HandshakeError {
    HandshakeError::Malformed { step, what }
}

/// Of what a peer sent, so much as an error should carry.
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(80).collect()
}

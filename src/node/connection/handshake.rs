//! How two nodes that meet find out who the other one is and that both know the cookie.
//!
//! [`dial`] is the side that connected. The other side goes step by step, [`receive_name`],
//! [`Offer::admit`] or [`Offer::refuse`], [`Admitted::challenge`], [`Authenticated::ack`], so that
//! the table of connections can decide in between, and end an older connection in time.
//!
//! Own code, not `erl_dist::handshake`: that never sends the answer to the status `alive`, as a
//! server doesn't read it, compares neither name nor flags, sends a length and its message in two
//! writes (43 ms on loopback instead of 1), and allocates what a peer claims.
//!
//! Before the peer has proven that it knows the cookie it costs us one buffer of at most
//! [`MAX_FRAME`] bytes. Nothing here has a deadline: the caller puts the whole handshake under one
//! `tokio::time::timeout_at`, so that a peer can't stretch it byte by byte.
//! After an error, and after a timeout, the only thing left to do with the stream is to close it.
//!
//! Exactly the handshake's bytes are read, so what follows in the stream is the first frame.
//!
//! Source: `dist_util.erl` and `net_kernel.erl`, OTP 25 to 29; "Distribution Protocol" in the ERTS
//! guide.

mod message;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use subtle::ConstantTimeEq as _;

pub(crate) use self::message::{Carrier, Lengths, MAX_FRAME};
use self::message::{
    Status, challenge_message, malformed, name_message, named_message, read_ack, read_challenge,
    read_frame, read_name, read_reply, read_status, reply_message, write_frame,
};
use crate::node::Cookie;
use crate::node::tls::TlsError;
use crate::term::{Creation, NodeName};
use crate::wire::Flags;

/// What we say of ourselves in every handshake.
#[derive(Clone, Debug)]
pub(crate) struct Us {
    /// Our full name.
    pub(crate) name: NodeName,
    /// The distribution flags we offer.
    pub(crate) flags: u64,
    /// Of this start of our node.
    pub(crate) creation: Creation,
    /// Given the flags a peer offers, the mandatory ones it lacks; 0 when it may connect.
    pub(crate) missing_flags: fn(u64) -> u64,
    challenges: Challenges,
}

impl Us {
    /// Made once for a node: handshakes that run at the same time know of each other by it.
    pub(crate) fn new(
        name: NodeName,
        flags: u64,
        creation: Creation,
        missing_flags: fn(u64) -> u64,
    ) -> Self {
        Self { name, flags, creation, missing_flags, challenges: Challenges::default() }
    }

    fn check_flags(&self, peer: &NodeName, offered: u64) -> Result<(), HandshakeError> {
        match (self.missing_flags)(offered) {
            0 => Ok(()),
            missing => Err(HandshakeError::MissingFlags { peer: peer.clone(), missing }),
        }
    }
}

/// Who is at the other end, and has proven to know the cookie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    /// Its full name.
    pub(crate) name: NodeName,
    /// The flags it offers. In force are those both sides offer.
    pub(crate) flags: u64,
    /// Of this start of the peer.
    pub(crate) creation: Creation,
}

/// The handshake of the side that connected; `peer` is whom it wanted to reach.
///
/// The peer is asked for its proof only after ours was sent: so the protocol has it. Cookies may
/// differ by peer, so ours for this one is given with it.
///
/// # Errors
///
/// [`HandshakeError::PeerDials`] is no failure: the peer's own dial is on its way here.
pub(crate) async fn dial<S>(
    mut stream: S,
    us: &Us,
    cookie: &Cookie,
    peer: &NodeName,
) -> Result<Peer, HandshakeError>
where
    S: Carrier,
{
    write_frame(&mut stream, Step::Name, &name_message(us)).await?;
    match read_status(&mut stream).await? {
        Status::Ok => {}
        Status::Nok => return Err(HandshakeError::PeerDials { peer: peer.clone() }),
        Status::NotAllowed => return Err(HandshakeError::NotAllowed { peer: peer.clone() }),
        // Who dials has no connection: the one the peer has is dead, as after our restart. `true`
        // has the peer end it and go on with this one.
        Status::Alive => write_frame(&mut stream, Step::AliveAnswer, b"strue").await?,
    }

    let challenge = read_frame(&mut stream, Step::Challenge).await?;
    let (answered, theirs) = read_challenge(&challenge)?;
    if answered.name != *peer {
        return Err(HandshakeError::WrongName {
            dialled: peer.clone(),
            answered: Box::new(answered.name),
        });
    }
    us.check_flags(peer, answered.flags)?;
    us.challenges.refuse_own(theirs, peer)?;

    let ours = us.challenges.draw();
    write_frame(&mut stream, Step::Reply, &reply_message(ours.number, cookie.digest(theirs)))
        .await?;
    let ack = match read_frame(&mut stream, Step::Ack).await {
        // A BEAM that finds our digest wrong just closes.
        Err(HandshakeError::Closed { .. }) => {
            return Err(HandshakeError::BadCookie { peer: peer.clone() });
        }
        ack => ack?,
    };
    check_digest(read_ack(&ack)?, cookie, ours.number, peer)?;
    Ok(answered)
}

/// The first step of the side that was connected to: the peer says who it is.
///
/// A peer that can never be a connection of ours is answered here: our own name with `nok`, as a
/// BEAM does, one without a mandatory flag with `not_allowed`.
///
/// # Errors
///
/// [`HandshakeError::BadName`], [`HandshakeError::OwnName`], [`HandshakeError::MissingFlags`], or
/// those of the stream.
pub(crate) async fn receive_name<S>(mut stream: S, us: &Us) -> Result<Offer<'_, S>, HandshakeError>
where
    S: Carrier,
{
    let frame = read_frame(&mut stream, Step::Name).await?;
    let peer = read_name(&frame)?;
    if peer.name == us.name {
        // What becomes of the answer is the peer's affair.
        let _ = write_frame(&mut stream, Step::Status, b"snok").await;
        return Err(HandshakeError::OwnName { name: peer.name });
    }
    if let Err(error) = us.check_flags(&peer.name, peer.flags) {
        let _ = write_frame(&mut stream, Step::Status, b"snot_allowed").await;
        return Err(error);
    }
    Ok(Offer { stream, us, peer })
}

/// A peer that said who it is, and has proven nothing yet.
#[derive(Debug)]
pub(crate) struct Offer<'a, S> {
    stream: S,
    us: &'a Us,
    peer: Peer,
}

/// Why a peer may go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    /// `ok`: nothing else leads to this peer. One that asked for a name gets it with this.
    Ok,
    /// `ok_simultaneous`: we dial it at the same time, and its name is the greater one. Our own
    /// dial is given up.
    OkSimultaneous,
    /// `alive`: a connection to it is up; it shall say whether it knows better. If it does, the
    /// old connection is to be ended between [`Admitted::challenge`], since until then anybody
    /// could have said so, and [`Authenticated::ack`].
    Alive,
}

/// Why a peer may not go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// `nok`: we dial it at the same time, and our name is the greater one. Only to be sent if that
    /// dial is carried through: the peer waits for it, up to 7 s, in the process that wanted us.
    Nok,
    /// `not_allowed`: we don't want it, for example since there are too many connections.
    NotAllowed,
}

impl<'a, S: Carrier> Offer<'a, S> {
    /// Who the peer says it is.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Lets the peer go on; after [`Admission::Alive`], only if it answers that it wants to.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::AlreadyConnected`] when the peer keeps the connection that is up, or those
    /// of the stream.
    pub(crate) async fn admit(
        mut self,
        admission: Admission,
    ) -> Result<Admitted<'a, S>, HandshakeError> {
        let nameless = Flags(self.peer.flags).contains(Flags::NAME_ME);
        let status = match admission {
            Admission::Ok if nameless => named_message(&self.peer),
            Admission::Ok => b"sok".to_vec(),
            Admission::OkSimultaneous => b"sok_simultaneous".to_vec(),
            Admission::Alive => b"salive".to_vec(),
        };
        write_frame(&mut self.stream, Step::Status, &status).await?;
        if admission == Admission::Alive {
            match &*read_frame(&mut self.stream, Step::AliveAnswer).await? {
                b"strue" => {}
                b"sfalse" => {
                    return Err(HandshakeError::AlreadyConnected { peer: self.peer.name });
                }
                _ => return Err(malformed(Step::AliveAnswer, "neither true nor false")),
            }
        }
        Ok(Admitted { stream: self.stream, us: self.us, peer: self.peer })
    }

    /// Tells the peer why it can't go on, and closes the stream if that was owned.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(crate) async fn refuse(mut self, refusal: Refusal) -> Result<(), HandshakeError> {
        let status: &[u8] = match refusal {
            Refusal::Nok => b"snok",
            Refusal::NotAllowed => b"snot_allowed",
        };
        write_frame(&mut self.stream, Step::Status, status).await
    }
}

/// A peer that may go on.
#[derive(Debug)]
pub(crate) struct Admitted<'a, S> {
    stream: S,
    us: &'a Us,
    peer: Peer,
}

impl<S: Carrier> Admitted<'_, S> {
    /// Has the peer prove that it knows the cookie.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::BadCookie`] when it doesn't, or those of the stream.
    pub(crate) async fn challenge(
        mut self,
        cookie: &Cookie,
    ) -> Result<Authenticated<S>, HandshakeError> {
        let ours = self.us.challenges.draw();
        let challenge = challenge_message(self.us, ours.number, &self.peer);
        write_frame(&mut self.stream, Step::Challenge, &challenge).await?;

        let reply = read_frame(&mut self.stream, Step::Reply).await?;
        let (theirs, digest) = read_reply(&reply)?;
        check_digest(digest, cookie, ours.number, &self.peer.name)?;
        self.us.challenges.refuse_own(theirs, &self.peer.name)?;
        Ok(Authenticated { stream: self.stream, peer: self.peer, proof: cookie.digest(theirs) })
    }
}

/// A peer that knows the cookie and waits for our proof.
pub(crate) struct Authenticated<S> {
    stream: S,
    peer: Peer,
    proof: [u8; 16],
}

impl<S: Carrier> Authenticated<S> {
    /// Who the peer is.
    #[cfg(test)]
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Proves to the peer that we know the cookie too. From here on it may send, and so may we.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub(crate) async fn ack(mut self) -> Result<Peer, HandshakeError> {
        let ack = [b"a", &self.proof[..]].concat();
        write_frame(&mut self.stream, Step::Ack, &ack).await?;
        Ok(self.peer)
    }
}

/// Without the proof: it's a digest of the cookie.
impl<S> fmt::Debug for Authenticated<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Why two nodes didn't connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// `nok`: the peer dials us at the same time and its dial is the one that counts. Wait for it.
    #[error("{peer} connects to us itself")]
    PeerDials {
        /// Whom we dialled.
        peer: NodeName,
    },
    /// The peer doesn't want us: it has a list of allowed nodes (`net_kernel:allow/1`), or we lack
    /// a flag that its release demands.
    #[error("{peer} doesn't allow us to connect; see net_kernel:allow/1 and its release there")]
    NotAllowed {
        /// Whom we dialled.
        peer: NodeName,
    },
    /// A connection to the peer is up, and whoever dialled keeps that one.
    #[error("{peer} is connected already")]
    AlreadyConnected {
        /// The other node.
        peer: NodeName,
    },
    /// Another node answered than the one dialled: the port belongs to another node by now.
    #[error("{answered} answered where {dialled} was dialled; look its port up again")]
    WrongName {
        /// Whom we dialled.
        dialled: NodeName,
        /// Who answered.
        answered: Box<NodeName>,
    },
    /// The peer refused our proof of the cookie, or its own proof is wrong.
    #[error("{peer} has another cookie; give both nodes the same one")]
    BadCookie {
        /// The other node.
        peer: NodeName,
    },
    /// The peer challenged us with a number we had just challenged somebody with: it lets us answer
    /// ourselves.
    #[error("{peer} sent our own challenge back; it's no node of this cluster")]
    OwnChallenge {
        /// Who says to be this node.
        peer: NodeName,
    },
    /// The peer's release lacks what we can't do without.
    #[error("{peer} lacks the distribution flags {}; it needs OTP 25 or later", Flags(*missing))]
    MissingFlags {
        /// The other node.
        peer: NodeName,
        /// The mandatory flags it doesn't offer.
        missing: u64,
    },
    /// The peer has our name.
    #[error("a node that connected has our own name {name}; give one of them another")]
    OwnName {
        /// Our name.
        name: NodeName,
    },
    /// It wasn't over in time.
    #[error("the handshake took too long")]
    Late,
    /// So many connections are up that no more are taken.
    #[error("{peer} is one too many, {most} connections are up")]
    TooMany {
        /// The other node.
        peer: NodeName,
        /// How many may be.
        most: usize,
    },
    /// It didn't come to a handshake: there is no TLS connection.
    #[error(transparent)]
    Tls(TlsError),
    /// The peer speaks TLS, and we don't.
    #[error("the peer speaks TLS and this node doesn't; give both nodes the same -proto_dist")]
    SpeaksTls,
    /// The name of the peer isn't `name@host`.
    #[error("a node that connected is called {name:?}, which isn't name@host")]
    BadName {
        /// What it says, cut to 80 characters.
        name: String,
    },
    /// The peer sent a status that can't be answered.
    #[error("the peer answered with the status {status:?}")]
    BadStatus {
        /// The status, cut to 80 characters.
        status: String,
    },
    /// A message announced as longer than 4 KiB.
    #[error("the peer's {step} is announced with {length} bytes; the most is {MAX_FRAME}")]
    TooLong {
        /// Where in the handshake.
        step: Step,
        /// The announced length.
        length: usize,
    },
    /// A message that isn't what the protocol has in this place.
    #[error("the peer's {step} is {what}")]
    Malformed {
        /// Where in the handshake.
        step: Step,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The peer closed the connection.
    #[error("the peer closed the connection when the {step} was due")]
    Closed {
        /// Where in the handshake.
        step: Step,
    },
    /// The socket failed.
    #[error("the connection failed when the {step} was due")]
    Io {
        /// Where in the handshake.
        step: Step,
        /// What the system said.
        source: io::Error,
    },
}

/// The messages of a handshake, in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// `send_name`, of the side that dials.
    Name,
    /// `send_status`, of the other side.
    Status,
    /// The answer to the status `alive`, of the side that dials.
    AliveAnswer,
    /// `send_challenge`, of the other side.
    Challenge,
    /// `send_challenge_reply`, of the side that dials.
    Reply,
    /// `send_challenge_ack`, of the other side.
    Ack,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "name",
            Self::Status => "status",
            Self::AliveAnswer => "answer to alive",
            Self::Challenge => "challenge",
            Self::Reply => "reply to the challenge",
            Self::Ack => "acknowledgement",
        })
    }
}

/// In constant time, so that nobody learns a digest byte by byte.
fn check_digest(
    digest: [u8; 16],
    cookie: &Cookie,
    challenge: u32,
    peer: &NodeName,
) -> Result<(), HandshakeError> {
    if bool::from(digest.ct_eq(&cookie.digest(challenge))) {
        Ok(())
    } else {
        Err(HandshakeError::BadCookie { peer: peer.clone() })
    }
}

/// The challenges of all handshakes of this node that are under way.
///
/// Somebody without the cookie can have us answer any number, by being dialled by us, and so
/// one we put to it on another connection. Hence no number of ours is ever answered.
#[derive(Clone, Debug, Default)]
struct Challenges(Arc<Mutex<HashSet<u32>>>);

impl Challenges {
    /// A number nobody can foresee, unlike all others under way.
    fn draw(&self) -> Challenge {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = rand::random();
        while !pending.insert(number) {
            number = rand::random();
        }
        Challenge { number, pending: self.clone() }
    }

    fn refuse_own(&self, number: u32, peer: &NodeName) -> Result<(), HandshakeError> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&number) {
            return Err(HandshakeError::OwnChallenge { peer: peer.clone() });
        }
        Ok(())
    }
}

/// A challenge of ours; dropping it ends its time.
#[derive(Debug)]
struct Challenge {
    number: u32,
    pending: Challenges,
}

impl Drop for Challenge {
    fn drop(&mut self) {
        self.pending.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

//! From a name or a fresh socket to a connection that is up: dialling, and being dialled.
//!
//! Each attempt is a task of its own, ends within [`Limits::setup_time`](crate::node::Limits), and
//! leaves the [table](super::table) saying how it ended.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::handshake::{self, Admission, HandshakeError, Offer, Peer, Refusal, Us};
use super::socket::{Socket, Transport};
use super::table::{Attempt, Claim, Failed, Knock, Outcome};
use super::{Connection, start};
use crate::node::ConnectError;
use crate::node::config::Visibility;
use crate::node::cookie::Cookie;
use crate::node::resolve::Lookup;
use crate::node::router::Router;
use crate::node::tls::TlsError;
use crate::term::NodeName;
use crate::wire::Flags;

/// What every handshake of this node needs.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) router: Arc<Router>,
    pub(crate) visibility: Visibility,
    pub(crate) lookup: Lookup,
    transport: Transport,
    cookie: Cookie,
    cookies: Vec<(NodeName, Cookie)>,
    us: Us,
}

impl Identity {
    pub(crate) fn new(
        router: Arc<Router>,
        visibility: Visibility,
        cookie: Cookie,
        cookies: Vec<(NodeName, Cookie)>,
        lookup: Lookup,
        transport: Transport,
    ) -> Self {
        let flags = offered(visibility).0;
        let us = Us::new(router.name().clone(), flags, router.creation(), missing_flags);
        Self { router, visibility, lookup, transport, cookie, cookies, us }
    }

    fn cookie_for(&self, peer: &NodeName) -> &Cookie {
        let own = self.cookies.iter().find(|(name, _)| name == peer);
        own.map_or(&self.cookie, |(_, cookie)| cookie)
    }

    /// Waits for a connection to a node, dialling unless somebody is at it.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        peer: &NodeName,
    ) -> Result<Arc<Connection>, ConnectError> {
        if peer == self.router.name() {
            return Err(ConnectError::Ourselves { node: peer.clone() });
        }
        // Two attempts may follow each other: ours, then the peer's that crossed it.
        let deadline = Instant::now() + self.router.limits().setup_time * 2;
        loop {
            let mut outcome: Outcome = match self.router.table().claim(peer) {
                Claim::Up => return self.up(peer),
                Claim::Wait(outcome) => outcome,
                Claim::Stopped => return Err(ConnectError::Stopped { node: peer.clone() }),
                Claim::Dial(attempt, cancel, outcome) => {
                    let (identity, peer) = (self.clone(), peer.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = cancel.cancelled() => {}
                            () = identity.dial(&peer, attempt) => {}
                        }
                    });
                    outcome
                }
            };
            let ended = match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
                Ok(Ok(ended)) => ended.clone().unwrap_or(Ok(())),
                Ok(Err(_)) | Err(_) => return Err(ConnectError::Timeout { node: peer.clone() }),
            };
            match ended {
                Ok(()) => return self.up(peer),
                Err(Failed::Ours(error)) => return Err(error),
                // Now it's us who dial, or whoever was faster.
                Err(Failed::Theirs) => {}
            }
        }
    }

    /// What was up a moment ago. A scope here knows of it when this returns: who connects and then waits for
    /// `Scope::ready` waits for this node, too.
    fn up(&self, peer: &NodeName) -> Result<Arc<Connection>, ConnectError> {
        let up = self.router.up_and_told(peer);
        up.ok_or_else(|| ConnectError::Closed { node: peer.clone() })
    }

    async fn dial(&self, peer: &NodeName, attempt: Attempt) {
        let deadline = Instant::now() + self.router.limits().setup_time;
        let late = || ConnectError::Timeout { node: peer.clone() };
        let dialled = timeout_at(deadline, self.try_dial(peer, attempt, deadline)).await;
        let error = match dialled.unwrap_or_else(|_| Err(late())) {
            Ok((socket, found)) => {
                if self.bring_up(attempt, &found, socket) {
                    return;
                }
                ConnectError::Closed { node: peer.clone() }
            }
            // The peer's own dial is on its way here and will take our place in the table.
            Err(ConnectError::Handshake { source, .. })
                if matches!(*source, HandshakeError::PeerDials { .. }) =>
            {
                self.router.table().give_way(peer, attempt);
                sleep_until(deadline).await;
                late()
            }
            Err(error) => error,
        };
        log::debug!("{peer}: not connected: {error}");
        self.router.table().fail(peer, attempt, Failed::Ours(error));
    }

    async fn try_dial(
        &self,
        peer: &NodeName,
        attempt: Attempt,
        deadline: Instant,
    ) -> Result<(Socket, Peer), ConnectError> {
        let node = || peer.clone();
        let socket = self.lookup.dial(peer).await?;
        let _ = socket.set_nodelay(true);
        // A BEAM without TLS waits for more of our hello until its time is up, and so is ours.
        let secured = timeout_at(deadline, self.transport.connect(socket, peer.host())).await;
        let mut socket = secured
            .unwrap_or(Err(TlsError::NoAnswer))
            .map_err(|source| ConnectError::Tls { node: node(), source })?;
        // Told our name, a BEAM of a lesser one gives its own dial up for ours: so not one word unless
        // ours counts.
        if !self.router.table().dialling(peer, attempt) {
            return Err(ConnectError::Closed { node: node() });
        }
        log::debug!("{peer}: dialling, {attempt:?}");
        let cookie = self.cookie_for(peer);
        let found = handshake::dial(&mut socket, &self.us, cookie, peer).await;
        let failed = |error: HandshakeError| ConnectError::handshake(peer, error.into());
        found.map(|found| (socket, found)).map_err(failed)
    }

    /// Serves a socket somebody opened to us, until the connection is up or refused.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<(), Arc<HandshakeError>> {
        let _ = socket.set_nodelay(true);
        let deadline = Instant::now() + self.router.limits().setup_time;
        let mut socket = match timeout_at(deadline, self.transport.accept(socket)).await {
            Ok(socket) => socket.map_err(HandshakeError::Tls)?,
            Err(_) => return Err(HandshakeError::Late.into()),
        };
        let offer = match timeout_at(deadline, handshake::receive_name(&mut socket, &self.us)).await
        {
            Ok(offer) => offer?,
            Err(_) => return Err(HandshakeError::Late.into()),
        };
        let peer = offer.peer().name.clone();
        let most = self.router.limits().connections;
        let (admission, attempt, cancel) =
            match self.router.table().knock(self.router.name(), &peer, most) {
                Knock::Admit(admission, attempt, cancel) => (admission, attempt, cancel),
                Knock::Refuse(refusal) => {
                    log::debug!("{peer}: refused, {refusal:?}");
                    let refused = timeout_at(deadline, offer.refuse(refusal)).await;
                    return match (refused, refusal) {
                        (Err(_), _) => Err(HandshakeError::Late.into()),
                        (Ok(Ok(())), Refusal::NotAllowed) => {
                            Err(HandshakeError::TooMany { peer, most }.into())
                        }
                        (Ok(result), _) => result.map_err(Arc::new),
                    };
                }
            };
        log::debug!("{peer}: knocks, {admission:?} {attempt:?}");
        let served = tokio::select! {
            // Another attempt has our place in the table: this socket just closes.
            () = cancel.cancelled() => {
                log::debug!("{peer}: {attempt:?} gives way");
                return Ok(());
            }
            served = timeout_at(deadline, self.serve(offer, admission, attempt)) => served,
        };
        match served.unwrap_or(Err(HandshakeError::Late)) {
            Ok(found) => {
                self.bring_up(attempt, &found, socket);
                Ok(())
            }
            Err(error) => {
                self.router.table().fail(&peer, attempt, Failed::Theirs);
                Err(Arc::new(error))
            }
        }
    }

    async fn serve(
        &self,
        offer: Offer<'_, &mut Socket>,
        admission: Admission,
        attempt: Attempt,
    ) -> Result<Peer, HandshakeError> {
        let peer = offer.peer().name.clone();
        let admitted = offer.admit(admission).await?;
        let proved = admitted.challenge(self.cookie_for(&peer)).await?;
        // Only now, since anybody may claim a name: the peer has the cookie, and it starts anew.
        if admission == Admission::Alive && !self.router.take_over(&peer, attempt) {
            return Err(HandshakeError::AlreadyConnected { peer });
        }
        proved.ack().await
    }

    fn bring_up(&self, attempt: Attempt, peer: &Peer, socket: Socket) -> bool {
        // Who asks for a name is answered that it gets one.
        let said = offered(self.visibility).with(Flags::NAME_ME);
        let flags = Flags(peer.flags).expand_digest().and(said);
        let connection = self.router.new_connection(peer.name.clone(), peer.creation, flags);
        let up = self.router.bring_up(attempt, &connection);
        if up {
            start(&self.router, &connection, socket);
        }
        up
    }
}

fn offered(visibility: Visibility) -> Flags {
    match visibility {
        Visibility::Visible => Flags::OFFERED.with(Flags::PUBLISHED),
        Visibility::Hidden => Flags::OFFERED,
    }
}

pub(crate) fn missing_flags(offered: u64) -> u64 {
    Flags::REQUIRED.0 & !Flags(offered).expand_digest().0
}

impl ConnectError {
    fn handshake(node: &NodeName, source: Arc<HandshakeError>) -> Self {
        let node = node.clone();
        match &*source {
            HandshakeError::BadCookie { .. } => Self::BadCookie { node },
            HandshakeError::NotAllowed { .. } => Self::NotAllowed { node },
            HandshakeError::Late => Self::Timeout { node },
            HandshakeError::Tls(error) => Self::Tls { node, source: error.clone() },
            HandshakeError::WrongName { answered, .. } => {
                let found = NodeName::clone(answered);
                Self::WrongName { node, found }
            }
            _ => Self::Handshake { node, source },
        }
    }
}

//! The door: the listening socket, and our name in EPMD for as long as the node runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::connection::handshake::HandshakeError;
use super::connection::setup::Identity;
use super::quiet::Quiet;
use super::tls::TlsError;
use crate::epmd::{BindError, Epmd, EpmdError, EpmdServer, NodeKind, Registration};
use crate::node::config::Visibility;

/// The pauses before a lost registration is tried again: from the first, doubling, to the longest,
/// which is that of OTP's `erl_epmd`. For ever.
const REGISTER_AGAIN: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// So long a lost EPMD may fail to answer before we run one: enough for one that is being restarted.
const BEFORE_OWN: Duration = Duration::from_secs(6);

/// How long a name may be taken by a node that is dead: EPMD frees it when it sees the socket
/// close, which may be a moment after the next start of the same node.
const DEAD_NAMESAKE: Duration = Duration::from_millis(500);

/// What a failed accept (no file descriptors left), or a name still taken, waits before the next
/// try.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Where to listen.
pub(super) struct Listen {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) embedded_epmd: bool,
}

/// Listens, registers the name, and serves both until cancelled. Returns the port.
pub(super) async fn start(
    identity: &Arc<Identity>,
    listen: Listen,
    cancel: CancellationToken,
) -> Result<u16, StartError> {
    let address = listen.address.unwrap_or_else(|| default_address(identity.router.name().host()));
    let address = SocketAddr::new(address, listen.port);
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();

    if let Some(epmd) = identity.lookup.epmd() {
        let embedded = listen.embedded_epmd;
        let (registration, own_epmd) = first_registration(identity, epmd, port, embedded).await?;
        let registered = Registered { epmd, registration, own_epmd, embedded };
        tokio::spawn(stay_registered(identity.clone(), port, registered, cancel.clone()));
    }
    tokio::spawn(accept(identity.clone(), listener, cancel));
    Ok(port)
}

/// A name at a loopback address is for this machine only; any other is for all who can reach us.
fn default_address(host: &str) -> IpAddr {
    match host.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => address,
        Ok(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ if host == "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Registers our name; starts an EPMD of our own if none answers and we may.
async fn first_registration(
    identity: &Identity,
    epmd: Epmd,
    port: u16,
    embedded: bool,
) -> Result<(Registration, Option<EpmdServer>), StartError> {
    let epmd_port = epmd.port();
    let mut own_epmd = None;
    let patience = Instant::now() + DEAD_NAMESAKE;
    loop {
        match register_once(identity, epmd, port).await {
            Ok(registration) => return Ok((registration, own_epmd)),
            Err(EpmdError::NotRunning { .. }) if embedded && own_epmd.is_none() => {
                match EpmdServer::bind_loopback(epmd_port).await {
                    Ok(server) => {
                        log::info!("no EPMD on port {epmd_port}: running our own");
                        own_epmd = Some(server);
                    }
                    // Somebody was faster: theirs will do.
                    Err(BindError::InUse { .. }) if Instant::now() < patience => {
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                    Err(error) => {
                        log::warn!("no EPMD of our own: {error}");
                        return Err(StartError::Epmd {
                            port: epmd_port,
                            source: EpmdError::NotRunning { at: format!("127.0.0.1:{epmd_port}") },
                        });
                    }
                }
            }
            Err(EpmdError::NameTaken { .. }) if Instant::now() < patience => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
            Err(EpmdError::NameTaken { .. }) => {
                return Err(StartError::NameTaken { node: identity.router.name().clone() });
            }
            Err(source) => return Err(StartError::Epmd { port: epmd_port, source }),
        }
    }
}

async fn register_once(
    identity: &Identity,
    epmd: Epmd,
    port: u16,
) -> Result<Registration, EpmdError> {
    let kind = match identity.visibility {
        Visibility::Visible => NodeKind::Visible,
        Visibility::Hidden => NodeKind::Hidden,
    };
    epmd.register(identity.router.name().short(), port, kind).await
}

/// A name that is registered, and the EPMD it's registered in if that is our own.
struct Registered {
    epmd: Epmd,
    registration: Registration,
    own_epmd: Option<EpmdServer>,
    embedded: bool,
}

/// Holds the registration, and gets it back whenever EPMD has died and returned. Our creation stays
/// what it is: it's the connections' and pids', not EPMD's. Ends with the node.
///
/// An EPMD that doesn't return was perhaps embedded in a node that has ended: then one of those left
/// runs the next.
async fn stay_registered(
    identity: Arc<Identity>,
    port: u16,
    registered: Registered,
    cancel: CancellationToken,
) {
    let Registered { epmd, mut registration, mut own_epmd, embedded } = registered;
    let name = identity.router.name();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = registration.lost() => log::warn!("{name}: EPMD has gone, registering again"),
        }
        let lost = Instant::now();
        let mut last_error = String::new();
        let mut pause = REGISTER_AGAIN;
        registration = loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match register_once(&identity, epmd, port).await {
                Ok(registration) => break registration,
                Err(EpmdError::NotRunning { .. })
                    if embedded && own_epmd.is_none() && lost.elapsed() >= BEFORE_OWN =>
                {
                    own_epmd = EpmdServer::bind_loopback(epmd.port()).await.ok();
                    if own_epmd.is_some() {
                        log::warn!("{name}: EPMD doesn't return: running our own");
                    }
                }
                // Once per cause, for as long as it lasts.
                Err(error) if error.to_string() != last_error => {
                    log::warn!("{name}: not registered: {error}");
                    last_error = error.to_string();
                }
                Err(_) => {}
            }
        };
        log::info!("{name}: registered again");
    }
}

/// Serves each socket in a task of its own, which ends with the handshake. Ends with the node.
async fn accept(identity: Arc<Identity>, listener: TcpListener, cancel: CancellationToken) {
    let quiet = Arc::new(Quiet::default());
    let handshakes = Arc::new(Semaphore::new(identity.router.limits().handshakes));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let us = identity.router.name().as_str();
                quiet.warn(us, "accepting", &format!("accepting failed: {error}"));
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Too many at once: the newest is closed by dropping it.
        let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
        let (identity, cancel, quiet) = (identity.clone(), cancel.clone(), quiet.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let result = tokio::select! {
                () = cancel.cancelled() => return,
                result = identity.accept(socket) => result,
            };
            let Err(error) = result else { return };
            if let HandshakeError::AlreadyConnected { .. }
            | HandshakeError::Closed { .. }
            | HandshakeError::Tls(TlsError::Closed) = *error
            {
                log::debug!("{address}: not connected: {error}");
            } else {
                // A port may differ each time; who is at the other end doesn't.
                let kind = match &*error {
                    HandshakeError::Tls(error) => error.kind(),
                    error => format!("{:?}", std::mem::discriminant(error)),
                };
                quiet.warn(&address.ip().to_string(), &kind, &format!("not connected: {error}"));
            }
        });
    }
}

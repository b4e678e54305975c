//! A real EPMD on a port that is the test's own.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::{Otp, SOON, wait_until, watchdog};

/// An EPMD on 127.0.0.1 to 127.0.0.3, to which nodes come by `ERL_EPMD_PORT`; ends when dropped.
pub(crate) struct Epmd {
    otp: Otp,
    port: Claim,
    child: Option<Child>,
}

impl Epmd {
    /// Starts an EPMD that nobody else knows.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_of(Otp::R29).await
    }

    /// The same with the EPMD of a certain release.
    pub(crate) async fn start_of(otp: Otp) -> Result<Self> {
        let mut epmd = Self { otp, port: Claim::new()?, child: None };
        epmd.restart().await?;
        Ok(epmd)
    }

    /// Kills it when it runs, and starts another one on the same port, which knows no node.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.kill();
        let port = self.port();
        let child = Command::new(self.otp.epmd().await?)
            .args(["-port", &port.to_string(), "-address", "127.0.0.1,127.0.0.2,127.0.0.3"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start epmd")?;
        watchdog::watch(child.id());
        self.child = Some(child);
        wait_until("epmd listens", SOON, async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())
        })
        .await?;
        Ok(())
    }

    /// Kills it; nodes that are connected with each other don't mind.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only for one that ended by itself.
            let _ = child.kill();
            watchdog::forget(child.id());
            let _ = child.wait();
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.port
    }

    /// The id of its process, when it runs.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A TCP port nobody has, nor will have while this process runs.
pub(crate) fn free_port() -> Result<u16> {
    static CLAIMS: Mutex<Vec<Claim>> = Mutex::new(Vec::new());
    let claim = Claim::new()?;
    let port = claim.port;
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    Ok(port)
}

/// A TCP port that is ours also while nothing listens on it, because we hold the UDP port of that number.
///
/// It's below those the system gives to sockets that don't ask for a certain one.
struct Claim {
    port: u16,
    _token: UdpSocket,
}

impl Claim {
    fn new() -> Result<Self> {
        const FIRST: u32 = 10_000;
        const COUNT: u32 = 22_000;
        static NEXT: AtomicU32 = AtomicU32::new(0);

        (0..COUNT)
            .find_map(|_| {
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                // Processes start at different places, so that they seldom try what another one has.
                let start = std::process::id().wrapping_mul(101);
                let port = (FIRST + start.wrapping_add(next) % COUNT) as u16;
                let token = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
                Some(Self { port, _token: token })
            })
            .context("no free port for epmd")
    }
}

//! Another host: a network namespace of its own, at the other end of a [`Cable`].

use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};

use super::cable::Cable;

/// A host with nothing on it but what is started there; gone when dropped, with all that runs on it.
pub(super) struct Host {
    namespace: String,
    /// Our address, on this side of the cable.
    pub(super) here: String,
    /// The host's.
    pub(super) there: String,
    pub(super) cable: Cable,
}

/// Whether there can be one; says why not if there can't.
pub(super) fn is_possible() -> bool {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| try_one().map_err(|error| format!("{error:#}")));
    if let Err(error) = tried {
        {
            // Not `println!`, which nobody sees of a test that passes.
            let text = format!("SKIPPED: no network namespaces or TUN devices here: {error}\n");
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
    tried.is_ok()
}

fn try_one() -> Result<()> {
    let name = format!("dp-{}-try", std::process::id());
    ip(&["netns", "add", &name])?;
    let tun = Cable::try_tun();
    ip(&["netns", "del", &name])?;
    tun
}

impl Host {
    /// A host with a cable to it that loses nothing, and has this MTU.
    pub(super) fn new(mtu: u16) -> Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Other runs of these tests may go on at the same time.
        let net = format!("10.{}.{number}", 64 + process % 64);
        let namespace = format!("dp-{process}-{number}");
        let (near, far) = (format!("dp{process}n{number}"), format!("dp{process}f{number}"));
        let (here, there) = (format!("{net}.1"), format!("{net}.2"));
        ip(&["netns", "add", &namespace])?;
        let cable = Cable::new(&near, &far, mtu)?;
        let this = Self { namespace, here, there, cable };
        let Self { namespace, here, there, .. } = &this;
        ip(&["link", "set", &far, "netns", namespace])?;
        for (link, own, other, inside) in [(&near, here, there, false), (&far, there, here, true)] {
            let within = |arguments: &[&str]| {
                let prefix = if inside { vec!["-n", namespace] } else { vec![] };
                ip(&[&prefix, arguments].concat())
            };
            within(&["addr", "add", own, "peer", other, "dev", link])?;
            within(&["link", "set", link, "up", "mtu", &mtu.to_string()])?;
        }
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        Ok(this)
    }

    /// A command that runs there.
    pub(super) fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its processes are their owners' to end; a namespace lives until then, nameless.
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("there is no `ip`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

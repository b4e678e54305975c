//! What a service manager is told: `systemd`'s by its notifications, which go nowhere without one.

use std::time::Duration;

/// The connection to the service manager.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// What it was told last.
    status: String,
}

impl Service {
    /// We can be dialled.
    #[expect(clippy::unused_self, reason = "there's one who tells")]
    pub(super) fn ready(&self) {
        imp::ready();
    }

    /// How things stand, in a line; told if it's news.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            imp::status(&status);
            self.status = status;
        }
    }

    /// We are alive, for a manager that watches that.
    #[expect(clippy::unused_self, reason = "there's one who tells")]
    pub(super) fn alive(&self) {
        imp::alive();
    }

    /// How often it must hear that at least; half of what it waits.
    pub(super) fn pause() -> Option<Duration> {
        imp::patience().map(|patience| patience / 2)
    }

    /// We are about to end.
    pub(super) fn stopping() {
        imp::stopping();
    }
}

#[cfg(unix)]
mod imp {
    use std::time::Duration;

    use sd_notify::NotifyState::{Ready, Status, Stopping, Watchdog};

    // Whoever can't be told has gone, which is no reason to go, too.
    pub(super) fn ready() {
        let _ = sd_notify::notify(&[Ready]);
    }

    pub(super) fn status(status: &str) {
        let _ = sd_notify::notify(&[Status(status)]);
    }

    pub(super) fn alive() {
        let _ = sd_notify::notify(&[Watchdog]);
    }

    pub(super) fn stopping() {
        let _ = sd_notify::notify(&[Stopping]);
    }

    pub(super) fn patience() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }
}

#[cfg(not(unix))]
mod imp {
    pub(super) fn ready() {}
    pub(super) fn status(_: &str) {}
    pub(super) fn alive() {}
    pub(super) fn stopping() {}
    pub(super) fn patience() -> Option<std::time::Duration> {
        None
    }
}

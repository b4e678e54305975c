//! A cable that loses, delays, doubles and reorders what goes over it, and can be cut either way.
//!
//! Both ends are TUN devices, so that the system's own TCP does all the rest; in between we carry one packet after
//! another. (Linux has `netem` for this, but not every kernel is built with it.)

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tun_rs::{AsyncDevice, DeviceBuilder};

/// What a cable does to a packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Of a hundred packets so many are lost.
    pub(super) lost: f64,
    /// So many come twice.
    pub(super) doubled: f64,
    /// Each takes so long, give or take `jitter`; so they overtake each other.
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    ToHost,
    FromHost,
}

/// Carries packets for as long as it's held.
pub(super) struct Cable {
    faults: [Shared; 2],
    _carriers: JoinSet<()>,
}

type Shared = Arc<Mutex<Faults>>;

impl Cable {
    /// Makes two devices and a cable between them without faults. Where the devices are is up to others.
    pub(super) fn new(near: &str, far: &str, mtu: u16) -> Result<Self> {
        let (near, far) = (Arc::new(device(near, mtu)?), Arc::new(device(far, mtu)?));
        let faults = [Shared::default(), Shared::default()];
        let mut carriers = JoinSet::new();
        carriers.spawn(carry(near.clone(), far.clone(), faults[0].clone(), 1));
        carriers.spawn(carry(far, near, faults[1].clone(), 2));
        Ok(Self { faults, _carriers: carriers })
    }

    /// Whether a device can be made.
    pub(super) fn try_tun() -> Result<()> {
        device(&format!("dp{}t", std::process::id()), 1500).map(drop)
    }

    /// From now on, both ways.
    pub(super) fn set(&self, faults: Faults) {
        self.set_way(Way::ToHost, faults);
        self.set_way(Way::FromHost, faults);
    }

    /// From now on, one way.
    pub(super) fn set_way(&self, way: Way, faults: Faults) {
        let place = usize::from(way == Way::FromHost);
        *self.faults[place].lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Nothing comes through any more, and nobody is told.
    pub(super) fn cut(&self) {
        self.set(Faults { lost: 100.0, ..Faults::default() });
    }

    /// All comes through.
    pub(super) fn heal(&self) {
        self.set(Faults::default());
    }
}

fn device(name: &str, mtu: u16) -> Result<AsyncDevice> {
    let device = DeviceBuilder::new().name(name).mtu(mtu).build_async();
    device.with_context(|| format!("can't make the TUN device {name}"))
}

/// What is drawn is the same each time; what it meets isn't.
async fn carry(from: Arc<AsyncDevice>, to: Arc<AsyncDevice>, faults: Shared, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut packet, mut under_way) = (vec![0; 65_536], JoinSet::new());
    loop {
        // An end that is just being moved or is down has nothing to say, and takes nothing.
        let Ok(length) = from.recv(&mut packet).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let Faults { lost, doubled, delay, jitter } =
            *faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_one_of = |percent: f64| random.random_bool(percent / 100.0);
        if is_one_of(lost) {
            continue;
        }
        let copies = 1 + usize::from(is_one_of(doubled));
        for _ in 0..copies {
            if delay.is_zero() {
                let _ = to.send(&packet[..length]).await;
                continue;
            }
            let least = delay.saturating_sub(jitter);
            let takes = least + (jitter * 2).mul_f64(random.random_range(0.0..1.0));
            let (to, packet) = (to.clone(), packet[..length].to_vec());
            under_way.spawn(async move {
                tokio::time::sleep(takes).await;
                let _ = to.send(&packet).await;
            });
        }
        while under_way.try_join_next().is_some() {}
    }
}

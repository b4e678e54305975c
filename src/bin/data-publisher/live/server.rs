//! The HTTP server: connections, and what none of them may do to the node.
//!
//! Everything a stranger can take is bounded: [`CONNECTIONS`] at a time, of which [`sse`](super::sse) lets a few stay;
//! headers in size and time; one request to a connection, answered and read within [`ANSWERED`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use super::site::Site;
use super::state::Model;

/// Connections at a time; others are closed at once.
const CONNECTIONS: usize = 64;

/// How long a request's headers may take to come.
const HEADERS: Duration = Duration::from_secs(5);

/// How long a connection may be there, unless it's a stream of events.
const ANSWERED: Duration = Duration::from_secs(15);

/// Bytes of a request that are buffered, its headers among them.
const BUFFER: usize = 16 * 1024;

/// Headers of a request.
const MOST_HEADERS: usize = 64;

/// A port that is taken and not yet served.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
}

/// One connection, as those who answer see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Visit {
    stays: Arc<AtomicBool>,
    end: CancellationToken,
}

impl Visit {
    /// It may be there for as long as it likes.
    pub(super) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Closes it, whatever is still to be written.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

impl Server {
    pub(super) fn new(listener: TcpListener, names: &[String]) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { listener, address, guard: Guard::new(names)? })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the set is dropped.
    pub(crate) fn serve(self, model: Model) -> JoinSet<()> {
        let site = Arc::new(Site::new(Arc::new(model), self.guard));
        let mut serving = JoinSet::new();
        serving.spawn(accept(self.listener, site));
        serving
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let Ok(place) = places.clone().try_acquire_owned() else {
                        log::debug!("--http: {from} is refused, {CONNECTIONS} are connected");
                        continue;
                    };
                    let site = site.clone();
                    connections.spawn(async move {
                        serve(stream, site).await;
                        drop(place);
                    });
                }
                // Too many files are open, most likely: that passes.
                Err(error) => {
                    log::debug!("--http: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, site: Arc<Site>) {
    let visit = Visit::default();
    let answer = service_fn(|request| site.answer(request, visit.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .max_headers(MOST_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    let late = async {
        tokio::time::sleep(ANSWERED).await;
        if visit.stays.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = connection => {
            if let Err(error) = served {
                log::debug!("--http: {error}");
            }
        }
        () = visit.end.cancelled() => {}
        () = late => {}
    }
}

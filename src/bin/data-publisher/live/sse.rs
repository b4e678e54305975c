//! The stream of events: `text/event-stream`, for the page and for `curl -N`.
//!
//! | event | data | |
//! | --- | --- | --- |
//! | `state` | as `/state` | at once, then every second |
//! | `happened` | `{at, event, node, subject, detail}` | each event; first those of a moment ago |
//! | `missed` | a number | so many events were left out: you read too slowly |
//!
//! A stream has a buffer and a time limit. One that doesn't take what it's sent is closed, and a browser comes back.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::event::Happened;
use super::json;
use super::server::Visit;
use super::state::Model;

/// Streams at a time.
const STREAMS: usize = 32;

/// Pieces that wait to be written.
const WAITING: usize = 16;

/// How long a piece may wait for room.
const PATIENCE: Duration = Duration::from_secs(20);

/// A stream that is so old ends; a browser starts the next.
const OLDEST: Duration = Duration::from_secs(60 * 60);

/// Whoever may still stream.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

type Pieces = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

impl Streams {
    /// A stream; `None` when there are too many.
    pub(super) fn start(&self, model: &Arc<Model>, visit: Visit) -> Option<Pieces> {
        let place = self.0.clone().try_acquire_owned().ok()?;
        let (sender, receiver) = mpsc::channel(WAITING);
        visit.stay();
        tokio::spawn(feed(model.clone(), sender, visit, place));
        let pieces = futures::stream::unfold(receiver, async |mut receiver| {
            let piece: Bytes = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        Some(StreamBody::new(pieces.boxed()))
    }
}

/// Writes until nobody reads any more. Ends the connection, too.
async fn feed(
    model: Arc<Model>,
    sender: mpsc::Sender<Bytes>,
    visit: Visit,
    _place: OwnedSemaphorePermit,
) {
    let oldest = Instant::now() + OLDEST;
    let (recent, mut events) = model.events();
    let mut snapshots = model.snapshots();
    let mut piece = String::new();
    write(&mut piece, "state", &json::state(&snapshots.borrow_and_update()));
    for event in &recent {
        happened(&mut piece, event);
    }
    loop {
        let bytes = std::mem::take(&mut piece).into();
        if sender.send_timeout(bytes, PATIENCE).await.is_err() || Instant::now() > oldest {
            break;
        }
        tokio::select! {
            changed = snapshots.changed() => {
                if changed.is_err() {
                    break;
                }
                write(&mut piece, "state", &json::state(&snapshots.borrow_and_update()));
            }
            event = events.recv() => match event {
                Ok(event) => happened(&mut piece, &event),
                Err(RecvError::Lagged(missed)) => write(&mut piece, "missed", &missed.to_string()),
                Err(RecvError::Closed) => break,
            },
            () = sender.closed() => break,
        }
    }
    visit.end();
}

fn happened(out: &mut String, event: &Happened) {
    write(out, "happened", &event.json().to_string());
}

/// JSON on one line has no line break that could end the event early.
fn write(out: &mut String, event: &str, data: &str) {
    // Writing to a string never fails.
    let _ = write!(out, "event: {event}\ndata: {data}\n\n");
}

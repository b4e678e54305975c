//! The subscribers here: which there are for each topic, and what each has yet to take.
//!
//! Nobody waits for a subscriber, and none loses anything in silence: one that is too far behind gets
//! what it was sent before, then a mark that says how many messages are missing, then what comes
//! after that.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::message::Broadcast;
use crate::term::Term;

/// What a subscription brings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A message, as a subscribed Elixir process gets it.
    Message(Term),
    /// What a channel broadcasts, `%Phoenix.Socket.Broadcast{}`.
    Broadcast(Broadcast),
    /// The subscriber was too far behind, see [`Options`](super::Options): so many messages are missing
    /// at this place.
    Lagged(u64),
}

/// The messages of a topic; a stream that ends with the pubsub. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
    topics: Weak<Topics>,
}

impl Subscription {
    /// The next message; `None` when the pubsub has stopped and all was taken. Cancel safe.
    pub async fn next(&mut self) -> Option<Notice> {
        futures::StreamExt::next(self).await
    }

    /// Ends the subscription, as dropping it does.
    pub fn unsubscribe(self) {}
}

impl futures::Stream for Subscription {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Notice>> {
        // Before the look, or what comes in between would be missed.
        self.inbox.waker.register(context.waker());
        let mut state = self.inbox.state();
        if let Some((message, bytes)) = state.queue.pop_front() {
            state.bytes -= bytes;
            drop(state);
            let broadcast = Broadcast::read(&message).map(Notice::Broadcast);
            return Poll::Ready(Some(broadcast.unwrap_or(Notice::Message(message))));
        }
        if state.missed > 0 {
            return Poll::Ready(Some(Notice::Lagged(std::mem::take(&mut state.missed))));
        }
        if state.closed { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(topics) = self.topics.upgrade() {
            topics.unsubscribe(&self.inbox);
        }
    }
}

/// All subscribers of a pubsub.
#[derive(Debug)]
pub(super) struct Topics {
    /// `None` after the end.
    open: Mutex<Option<ByTopic>>,
    behind: usize,
    behind_bytes: usize,
}

/// A standard map, hashed with a secret: what is looked up is a peer's choice.
type ByTopic = HashMap<Arc<[u8]>, Vec<Arc<Inbox>>>;

/// What one subscriber has yet to take.
#[derive(Debug)]
struct Inbox {
    topic: Arc<[u8]>,
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Each with its bytes on the wire.
    queue: VecDeque<(Term, usize)>,
    bytes: usize,
    /// How many were left out after the last of the queue. While it isn't 0 all are.
    missed: u64,
    closed: bool,
}

impl Topics {
    /// With the bounds of each subscriber.
    pub(super) fn new(behind: usize, behind_bytes: usize) -> Self {
        Self { open: Mutex::new(Some(HashMap::new())), behind, behind_bytes }
    }

    pub(super) fn subscribe(self: &Arc<Self>, topic: &str) -> Subscription {
        let topic: Arc<[u8]> = topic.as_bytes().into();
        let inbox = Arc::new(Inbox {
            topic: topic.clone(),
            state: Mutex::default(),
            waker: AtomicWaker::new(),
        });
        if let Some(topics) = self.open().as_mut() {
            topics.entry(topic).or_default().push(inbox.clone());
        } else {
            inbox.close();
        }
        Subscription { inbox, topics: Arc::downgrade(self) }
    }

    fn unsubscribe(&self, inbox: &Arc<Inbox>) {
        let mut open = self.open();
        let Some(topics) = open.as_mut() else { return };
        let Some(subscribers) = topics.get_mut(&inbox.topic) else { return };
        subscribers.retain(|other| !Arc::ptr_eq(other, inbox));
        if subscribers.is_empty() {
            topics.remove(&inbox.topic);
        }
    }

    /// Hands a message to all who have subscribed the topic, except one. `bytes` says how many it has
    /// on the wire; it's asked only if somebody has.
    pub(super) fn dispatch(
        &self,
        topic: &[u8],
        message: &Term,
        bytes: impl FnOnce() -> usize,
        except: Option<&Subscription>,
    ) {
        let open = self.open();
        let Some(subscribers) = open.as_ref().and_then(|topics| topics.get(topic)) else { return };
        let bytes = bytes();
        for inbox in subscribers {
            if !except.is_some_and(|except| Arc::ptr_eq(&except.inbox, inbox)) {
                inbox.put(message, bytes, self);
            }
        }
    }

    /// Ends all subscriptions, and those still to come.
    pub(super) fn close(&self) {
        let topics = self.open().take();
        topics.iter().flat_map(HashMap::values).flatten().for_each(|inbox| inbox.close());
    }

    fn open(&self) -> MutexGuard<'_, Option<ByTopic>> {
        self.open.lock().expect("no panic under this lock")
    }
}

impl Inbox {
    fn put(&self, message: &Term, bytes: usize, bounds: &Topics) {
        let mut state = self.state();
        // Looked at here as well: its reader may have taken all and not yet the mark.
        let is_full = state.queue.len() >= bounds.behind.max(1)
            || (!state.queue.is_empty() && state.bytes + bytes > bounds.behind_bytes);
        if state.missed > 0 || is_full {
            if state.missed == 0 {
                let topic = String::from_utf8_lossy(&self.topic);
                log::warn!("a subscriber of {topic:?} is {} messages behind", state.queue.len());
            }
            state.missed += 1;
        } else {
            state.queue.push_back((message.clone(), bytes));
            state.bytes += bytes;
        }
        drop(state);
        self.waker.wake();
    }

    fn close(&self) {
        self.state().closed = true;
        self.waker.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn topics(behind: usize, behind_bytes: usize) -> Arc<Topics> {
        Arc::new(Topics::new(behind, behind_bytes))
    }

    fn put(topics: &Topics, topic: &str, numbers: std::ops::Range<i64>, bytes: usize) {
        for number in numbers {
            topics.dispatch(topic.as_bytes(), &number.into(), || bytes, None);
        }
    }

    fn taken(subscription: &mut Subscription) -> Vec<Notice> {
        std::iter::from_fn(|| subscription.next().now_or_never().flatten()).collect()
    }

    fn messages(numbers: std::ops::Range<i64>) -> Vec<Notice> {
        numbers.map(|number| Notice::Message(number.into())).collect()
    }

    #[test]
    fn each_subscriber_of_the_topic_gets_all_in_order() {
        let topics = topics(100, 1000);
        let (mut a, mut b) = (topics.subscribe("t"), topics.subscribe("t"));
        let mut other = topics.subscribe("u");
        put(&topics, "t", 0..3, 1);
        topics.dispatch(b"t", &3.into(), || 1, Some(&b));
        assert_eq!(taken(&mut a), messages(0..4));
        assert_eq!(taken(&mut b), messages(0..3));
        assert_eq!(taken(&mut other), []);
        drop(a);
        drop(b);
        assert_eq!(topics.open().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn who_is_too_far_behind_is_told_where_how_many_are_missing() {
        let topics = topics(3, 1000);
        let mut slow = topics.subscribe("t");
        put(&topics, "t", 0..10, 1);
        let first = slow.next().now_or_never().flatten();
        assert_eq!(first, Some(Notice::Message(0.into())));
        // There's room now, but what comes belongs behind the mark.
        put(&topics, "t", 10..12, 1);
        assert_eq!(taken(&mut slow), [messages(1..3), vec![Notice::Lagged(9)]].concat());
        put(&topics, "t", 12..14, 1);
        assert_eq!(taken(&mut slow), messages(12..14));
    }

    #[test]
    fn bytes_count_as_well_and_one_message_may_have_any_number() {
        let topics = topics(100, 10);
        let mut slow = topics.subscribe("t");
        put(&topics, "t", 0..1, 50);
        put(&topics, "t", 1..3, 5);
        assert_eq!(taken(&mut slow), [messages(0..1), vec![Notice::Lagged(2)]].concat());
        put(&topics, "t", 3..6, 5);
        assert_eq!(taken(&mut slow), [messages(3..5), vec![Notice::Lagged(1)]].concat());
    }

    #[test]
    fn the_end_comes_after_what_was_sent() {
        let topics = topics(100, 1000);
        let mut early = topics.subscribe("t");
        put(&topics, "t", 0..1, 1);
        topics.close();
        put(&topics, "t", 1..2, 1);
        let mut late = topics.subscribe("t");
        assert_eq!(early.next().now_or_never(), Some(Some(Notice::Message(0.into()))));
        assert_eq!(early.next().now_or_never(), Some(None));
        assert_eq!(late.next().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn a_waiting_subscriber_wakes_up() {
        let topics = topics(100, 1000);
        let mut waiting = topics.subscribe("t");
        let woken = tokio::spawn(async move { waiting.next().await });
        tokio::task::yield_now().await;
        put(&topics, "t", 0..1, 1);
        assert_eq!(woken.await.unwrap(), Some(Notice::Message(0.into())));
    }
}

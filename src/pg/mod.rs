//! Process groups, as OTP's `pg`: a publisher for the [`engine`](crate::engine).
//!
//! Groups come to be when a process joins and end when the last one leaves; any term can name one. A
//! process may join several times, and leaves as often; when it ends it leaves all its groups. Each
//! node publishes the memberships of its own processes; the view, [`Members`], is the sum of all.
//!
//! Source: `pg`, OTP 25 to 29.

mod legacy;
mod members;
mod publisher;
mod shape;
#[cfg(test)]
mod tests;

pub use members::{Bag, Groups, Members};
pub use publisher::{Change, Event, Initial, PgPublisher, Subscription, View};
#[doc(hidden)]
pub use shape::is_allowed_shape;

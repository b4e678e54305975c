//! Who is in which group: bags of pids, one node's groups, and the view of all nodes that readers
//! share.
//!
//! A process that joined a group twice is in it twice, and leaves it as often. A group without
//! members isn't there.
//!
//! A list of pids that came as one stays one: a peer's groups, the view and who reads it share it,
//! until it changes. A change costs what it changes, however many groups there are and however many
//! members one has.
//!
//! The hash tables have a secret, for their keys are a peer's choice, see [`hash`].

mod ahead;
mod bag;
mod by_name;
mod groups;
mod hash;
mod name;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub(super) use ahead::look_ahead;
pub use bag::Bag;
pub(super) use by_name::ByName;
pub use groups::Groups;
pub(super) use hash::Secret;
pub(super) use name::Name;
pub use view::Members;
pub(super) use view::Origin;

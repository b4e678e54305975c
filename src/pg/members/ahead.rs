//! Reads what changes of several groups will, all at once, before they're made one after the other.
//!
//! A change finds its group in two tables, its peer's and the view's: each a place in an index, a value and a list of
//! pids, of which the next is known only when the one before is here. Of one change after the other that is a
//! wait each. Of many together it's one for each step, for a processor goes on reading where what it
//! reads doesn't depend on what hasn't come.

use smallvec::SmallVec;

use super::groups::Groups;
use super::name::Name;
use super::view::Members;
use crate::term::Term;

/// Most groups that are read ahead at once: what they bring into the smallest cache is still there when they change.
const MOST: usize = 32;

/// Reads what changes of these groups will, in a peer's data and in the view.
pub(in crate::pg) fn look_ahead<'a>(
    groups: impl Iterator<Item = &'a Term>,
    data: &Groups,
    view: &Members,
) {
    let mut hashes: SmallVec<[u64; MOST]> = groups.take(MOST).map(Name::hash_of).collect();
    hashes.dedup();
    for hash in &hashes {
        data.touch_place(*hash);
    }
    for bag in hashes.iter().filter_map(|hash| data.touch(*hash)) {
        bag.touch();
    }
    view.touch(&hashes);
}

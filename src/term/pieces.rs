//! A term taken apart where it stands, in bytes or wherever, without building it.

use super::{Pid, Term};

/// Reads a term piece by piece.
///
/// Each function takes what it names, if that comes next. With `None` something else does, or it's
/// written in an unusual way (a list in several parts, say) or is no term at all: then nothing more
/// is to be read here, and the whole is to be read as a [`Term`], which settles what it is.
pub trait Pieces {
    /// A tuple; how many elements follow.
    fn tuple(&mut self) -> Option<usize>;

    /// This atom.
    fn word(&mut self, text: &str) -> Option<()>;

    /// A pid.
    fn pid(&mut self) -> Option<Pid>;

    /// A proper list; how many elements follow, and then its [`end`](Self::end). Of an empty one
    /// nothing follows, nor does an end.
    fn list(&mut self) -> Option<usize>;

    /// The end of a proper list.
    fn end(&mut self) -> Option<()>;

    /// A map; how many keys follow, each with its value behind it. Whether one comes twice is left to
    /// the reader.
    fn map(&mut self) -> Option<usize>;

    /// Any term, whole.
    fn term(&mut self) -> Option<Term>;
}

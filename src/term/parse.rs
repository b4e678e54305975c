//! Terms read from Erlang syntax.

/// A text is no Erlang term.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message} at column {column}")]
pub struct ParseError {
    /// Characters from the start of the text, the first is 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

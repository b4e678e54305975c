//! Tests against real Erlang nodes of OTP 25, 27 and 29.

mod cli;
mod harness;
mod mixed;
mod partition;
mod support;
mod terms;

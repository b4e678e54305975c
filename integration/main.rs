//! Tests against real Erlang nodes of OTP 25, 27 and 29.

mod cli;
mod harness;
mod hostile;
mod mixed;
mod otp;
mod partition;
mod publish;
mod support;
mod terms;

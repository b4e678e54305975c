//! Tests against real Erlang nodes of OTP 25, 27 and 29.

mod calls;
mod cli;
mod discovery;
mod faults;
mod harness;
mod hostile;
mod member;
mod mixed;
mod names;
mod otp;
mod partition;
mod publish;
mod publishers;
mod pubsub;
mod support;
mod terms;
mod tls;
mod trace_live;

//! Publishers that several test targets share, each with what it doesn't use of them.

#![allow(dead_code, reason = "a target needs only some of it")]

pub(crate) mod names;

//! Publishers in the cluster of `data_publisher::testing`: those of this crate, one in two formats, and
//! some with a defect, which has to be found and said.

mod defects;
mod keys;
mod kv;
mod names;
mod pg;
#[path = "../publishers/mod.rs"]
mod publishers;

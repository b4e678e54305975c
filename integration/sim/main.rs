//! N engines, seeded, with a model.
fn main() {}

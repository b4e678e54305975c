//! Connections to EPMD, and an embedded one.

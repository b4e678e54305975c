//! TLS and plain TCP.

//! Bytes to frames to signals, and back.

//! Process groups, as OTP's `pg`: a publisher for the [`engine`](crate::engine).

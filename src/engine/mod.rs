//! The behaviour `data_publisher`, sans-IO.

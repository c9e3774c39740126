//! A whole fleet in one process over loopback, on synthetic data.

//! Shared helpers of tests: object server, failing store, mock clock, block writer.

//! The end-to-end tests, one binary. With the feature `peers` they run against real Prometheus, Thanos and MinIO.

mod edges;

//! Protobuf messages and gRPC services of Thanos and Prometheus remote read, with conversions.

//! Serves one Prometheus over StoreAPI and ships its blocks.

//! Listeners, TLS, health, metrics, logs and shutdown that every process shares.

//! A seeded fleet of Prometheus servers with known answers.

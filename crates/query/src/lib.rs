//! Endpoint discovery, fan-out and the HTTP API of the querier.

//! Compaction, downsampling, retention and cleaning of a bucket.

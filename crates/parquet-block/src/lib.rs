//! The Parquet form of a downsampled block.

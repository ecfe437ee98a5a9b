"""The lake: Parquet objects on S3 or in a folder; deterministic keys and bytes, conditional writes."""

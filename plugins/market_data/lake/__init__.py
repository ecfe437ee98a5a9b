"""The lake: objects under one root, in S3 or in a folder; deterministic keys, deterministic Parquet, conditional writes."""

"""Sources of index membership: pages and CSV files, read into constituents, changes and memberships."""

"""PostgreSQL 15 or later."""

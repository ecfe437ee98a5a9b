"""Oracle Database 19c to 26ai."""

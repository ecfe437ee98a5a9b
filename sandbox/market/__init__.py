"""What `make run` starts and tests use as servers. Never part of the image."""

"""Servers for `make run` and the tests. Not part of the image."""

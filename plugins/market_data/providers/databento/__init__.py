"""Databento."""

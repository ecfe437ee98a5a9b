"""Feeds, params of runs, universes, symbols: what users write, read and checked."""

"""Providers: a package for each, with its spec, hook, client and parser. ``_template`` is there to copy."""

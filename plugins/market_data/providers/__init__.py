"""One package per provider, with its spec, hook, client and parser. Copy ``_template`` for a new one."""

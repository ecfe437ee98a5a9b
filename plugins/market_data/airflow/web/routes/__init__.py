"""The routes, a module per page."""

"""Providers: what each can do, and the hook that asks it."""

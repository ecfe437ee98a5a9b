"""Addresses without the credentials that some people write into them."""

from __future__ import annotations

from urllib.parse import urlsplit


def holds_credentials(url: str) -> bool:
    """Return True if an address has a user name, a password or a query, all of which may be secret."""
    return any(sign in url for sign in "@?#")


def shown_url(url: str) -> str:
    """Return the host and port of an address, for messages. No part in which a secret may be is shown."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that cannot be read"
    return f"{host}:{port}" if port else host


def credentials_problem(field: str, url: str, instead: str) -> str | None:
    """Return a sentence if an address holds credentials; it does not show them.

    :param field: the name of the setting.
    :param instead: where credentials belong.
    """
    if not holds_credentials(url):
        return None
    return f"{field} holds a user name, a password or a query, which is not shown here; {instead}"

"""The HTML around every page. Its script fills in the content, as text."""

from __future__ import annotations

from html import escape
from pathlib import Path

STATIC = Path(__file__).with_name("static")
PAGES = {"feeds": "Feeds", "plan": "Plan", "coverage": "Coverage", "prices": "Prices", "quality": "Quality"}
"""Name of each page in its address, and its title, in the order of the navigation."""
TABS = {"run": "Run"}
"""Pages that are no part of the navigation: tabs of Airflow's own pages."""

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def shell(name: str) -> str:
    """Return the HTML of a page."""
    title = escape((PAGES | TABS)[name])
    links = "".join(
        f'<a href="{other}"{" aria-current=page" if other == name else ""}>{escape(text)}</a>' for other, text in PAGES.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Market data</title>
<link rel="stylesheet" href="static/look.css">
<link rel="icon" href="static/icon.svg">
<script src="static/theme.js"></script>
<link rel="modulepreload" href="static/base.js">
<script type="module" src="static/{name}.js"></script>
</head>
<body>
<header><nav aria-label="Market data">{links}</nav></header>
<main id="main" tabindex="-1"><h1>{title}</h1><p id="status" role="status">Loading ...</p><div id="page"></div></main>
</body>
</html>
"""

"""Prepare the pages of the repository for MkDocs: the hooks that ``mkdocs.yml`` names.

The pages are written for a reader of the repository. They link to files outside ``docs/``, indent lists by the width of their marker and
have diagrams that need a script from the internet. Here such files become pages of the site, and lists are indented as MkDocs wants them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PROJECT = Path(__file__).parents[1]
DOCS = "docs"
HOME = "README.md"
SOURCES = "files"
"""Folder of the site for files of the repository that pages link to."""

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
DIAGRAM = re.compile(r"^```mermaid\n.*?^```\n", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ *(`{3,})\w*")
ITEM = re.compile(r"^((?:\d+\.|[*-]) +)\S")


def site_path(path: str) -> str:
    """Return where the site has a page, file or folder of the repository; paths are from the root."""
    if path == HOME:
        return "index.md"
    if path == DOCS or path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    if (PROJECT / path).is_dir():
        return f"{SOURCES}/{path}/index.md"
    return path.lower() if path.endswith(".md") else f"{SOURCES}/{path}.md"


def targets(path: str, text: str) -> Iterator[str]:
    """Yield the files and folders of the repository that a page links to, as paths from the root."""
    for found in LINK.finditer(text):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[1]))
        if (PROJECT / target).exists():
            yield target


def with_links(path: str, text: str) -> str:
    """Return the text of a page with the links of the site. MkDocs reports those that resolve to nothing."""
    here = posixpath.dirname(site_path(path)) or "."

    def changed(found: re.Match[str]) -> str:
        target = next(targets(path, found[0]), None)
        return f"]({posixpath.relpath(site_path(target), here)}{found[2] or ''})" if target else found[0]

    return LINK.sub(changed, text)


def with_lists(lines: Sequence[str]) -> list[str]:
    """Return the lines with list items indented by four spaces, and a blank line before each list."""
    out: list[str] = []
    at, in_list = 0, False
    while at < len(lines):
        line = lines[at]
        at += 1
        if fence := FENCE.match(line):
            end = next((n for n in range(at, len(lines)) if lines[n].strip() == fence[1]), len(lines) - 1)
            out += [fence[0], *lines[at : end + 1]]  # without marks for our tests, such as "not-run"
            at, in_list = end + 1, False
        elif item := ITEM.match(line):
            start, width = at, len(item[1])
            while at < len(lines) and _belongs(lines, at, width):
                at += 1
            if out and out[-1].strip() and not in_list:
                out.append("")
            first, *others = with_lists([line[width:], *(one[width:] for one in lines[start:at])])
            out += [item[1].rstrip().ljust(4) + first, *(f"    {one}" if one.strip() else "" for one in others)]
            in_list = True
        else:
            in_list = in_list and not line.strip()
            out.append(line)
    return out


def _belongs(lines: Sequence[str], at: int, width: int) -> bool:
    """Return True if a line is part of an item whose text is indented by ``width``.

    A blank line is, if the next line is.
    """
    following = next((line for line in lines[at:] if line.strip()), "")
    return following[:width].isspace()


def for_site(path: str, text: str) -> str:
    """Return the text of a page as MkDocs needs it.

    Diagrams are left out: Material loads their script from another host, and the text below each says the same.
    """
    return "\n".join(with_lists(with_links(path, DIAGRAM.sub("", text)).splitlines())) + "\n"


def source_page(path: str) -> str:
    """Return a page that shows a file of the repository, or lists the files of a folder."""
    place = PROJECT / path
    if place.is_dir():
        names = sorted(one.name for one in place.iterdir() if one.is_file())
        return f"# {path}\n\n" + "".join(f"* [{name}]({name}.md)\n" for name in names)
    language = {".yaml": "yaml", ".yml": "yaml", ".py": "python"}.get(place.suffix, place.suffix.lstrip("."))
    return f"# {path}\n\n````{language}\n{place.read_text(encoding='utf-8').rstrip()}\n````\n"


def outside_pages() -> dict[str, str]:
    """Return what the site has from outside ``docs/``, by its path: the README and what pages link to."""
    found: dict[str, str] = {}
    waiting = [HOME, *(str(page.relative_to(PROJECT)) for page in sorted((PROJECT / DOCS).rglob("*.md")))]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        place = PROJECT / path
        if path in seen:
            continue
        seen.add(path)
        is_page = path.endswith(".md") and place.is_file()
        inside = path.startswith(f"{DOCS}/")
        if is_page:
            text = place.read_text(encoding="utf-8")
            waiting += targets(path, text)
        elif not inside and place.is_dir():
            waiting += [str(one.relative_to(PROJECT)) for one in place.iterdir() if one.is_file()]
        if not inside:
            found[site_path(path)] = for_site(path, text) if is_page else source_page(path)
    return found


def on_files(files: Files, config: Any) -> Files:
    """Add what is outside ``docs/``."""
    for path, text in outside_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Prepare a page of ``docs/``; the generated ones are prepared already."""
    return markdown if page.file.generated_by else for_site(f"{DOCS}/{page.file.src_uri}", markdown)

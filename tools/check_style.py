"""Check the wording of docstrings, comments, messages and guides.

Usage: ``python tools/check_style.py [--summary] [PATH ...]``. Exit status 1 when a rule is broken. Rules:

* ``first-line``: a docstring's first line has at most 100 characters.
* ``imperative``: the docstring of a public function starts with a verb ("Return", not "Returns" or "The ...").
* ``long``: no sentence has more than 35 words; text in backticks counts as one word.
* ``opening``: no sentence starts with "Of", "What", "Whether" or "Where", unless it is a question.
* ``word``: no words that the project replaces by the field's own (``WORDS``).

A line with ``style: ignore`` in a comment is not checked.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
DEFAULT = [
    "plugins",
    "sandbox",
    "dags",
    "tools",
    "docs",
    "include",
    "benchmarks",
    ".github",
    *(path.name for path in PROJECT.glob("*.md")),
]
HISTORY = "CHANGELOG.md"
"""Its entries below the newest version were published and stay as they are."""

MOST_WORDS, FIRST_LINE, IGNORE = 35, 100, "style: ignore"
OPENING = re.compile(r"(?:Of|What|Whether|Where)\s")
WORDS = {
    r"answer(?:s|ed|ing)?": "response",
    r"asked|asks|asking|ask (?:for|again)": "request",
    r"said|told": "reported",
    r"vanish\w*": "missing from the response",
    r"strangers?(?:'s)?": "unexpected symbol",
    r"young(?:er|est)?": "recent, not available yet",
    r"settled": "final",
    r"stands|stood|standing": "stored, current",
    r"outsh[io]ne\w*": "superseded",
    r"rivals?": "conflicting",
    r"turned away": "rejected, quarantined",
    r"lands|landed": "write, load",
    r"br(?:ing|ings|ought) in": "load",
    r"word on": "verdict, decision",
    r"(?:calls?|requests?|rows?|batch(?:es)?|symbols?) an? (?:minute|second|day|slot|batch|call|chunk|page)": '"per"',
    r"has a session from": "data available from",  # style: ignore
    r"(?<!there )(?<!this )is no (?!longer\b|more\b|less\b)\w+": '"is not"',
    r"lest": "so that ... not",
}
BANNED = [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), better) for pattern, better in WORDS.items()]

NOT_A_VERB = """
a all an and any as at both by each every for from how if in it its many most no none not of on one only our some that the their these
this those to true false two three what when where whether which who whose with
"""
VERBS_IN_S = "access address bypass compress cross discuss dismiss express focus guess miss pass press process"
SQL = re.compile(r"\b(?:SELECT|INSERT|CREATE|MERGE|UPDATE|ALTER|DROP|GRANT|DELETE FROM)\b")


@dataclass(frozen=True, order=True)
class Finding:
    """One broken rule."""

    path: str
    line: int
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.detail}"


@dataclass(frozen=True)
class Text:
    """A paragraph, list item, table cell or message with the line it starts on."""

    line: int
    words: str
    kind: str = "prose"


def plain(text: str) -> str:
    """Return ``text`` without markup: code is one word, links are their labels, addresses are one word."""
    text = re.sub(r"``[^`]+``|`[^`]+`", "CODE", text)
    text = re.sub(r":\w+:CODE", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+", "CODE", text)
    text = re.sub(r"<[^<>]+>", " ", text)
    return re.sub(r"\s+", " ", text.replace("*", "")).strip()


def sentences(text: str) -> list[str]:
    """Split plain text into sentences; common abbreviations end none."""
    text = re.sub(r"\b(e\.g|i\.e|etc|vs|approx)\.", r"\1", text)
    return [part for part in re.split(r"(?<=[.!?])[)\"']*\s+(?=[\"'(]?[A-Z0-9])", text) if part]


def check_text(path: str, text: Text) -> Iterator[Finding]:
    """Yield the findings of one paragraph, list item, cell or message."""
    words = plain(text.words)
    for sentence in sentences(words):
        count = len([word for word in sentence.split() if re.search(r"\w", word)])
        if count > MOST_WORDS and text.kind == "prose":
            yield Finding(path, text.line, "long", f"{count} words: {sentence[:60]} ...")
        if OPENING.match(sentence) and not sentence.rstrip("\"')").endswith("?") and text.kind != "heading":
            yield Finding(path, text.line, "opening", sentence[:60])
    for banned, better in BANNED:
        for found in banned.finditer(words):
            yield Finding(path, text.line, "word", f"{found[0]!r}: use {better}")


def paragraphs(lines: list[str], first: int) -> Iterator[Text]:
    """Yield paragraphs and list items of docstring or comment lines; leave out literal blocks."""
    held: list[str] = []
    start, literal = first, None
    for number, line in enumerate([*lines, ""], first):
        indent = len(line) - len(line.lstrip())
        if literal is not None and (not line.strip() or indent > literal):
            continue
        literal = None
        starts_item = bool(re.match(r"\s*(?:[*-]|\d+\.)\s|\s*:\w+[^:]*:|\s*>>> ", line))
        if held and (not line.strip() or starts_item):
            yield Text(start, " ".join(held))
            held = []
        if re.search(r"\S\s{2,}\S", line.strip()) and "  " in line.strip().rstrip("."):
            continue
        if line.strip():
            start = start if held else number
            held.append(re.sub(r"^(?:[*-]|\d+\.|:\w+[^:]*:)\s*", "", line.strip()))
        if line.rstrip().endswith("::"):
            literal = indent
            if held:
                yield Text(start, " ".join(held))
                held = []


def check_docstring(path: str, node: ast.AST, ignored: set[int]) -> Iterator[Finding]:
    """Yield the findings of a module's, class's or function's docstring."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
        return
    first = node.body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)):
        return
    if first.lineno in ignored:
        return
    lines = first.value.value.expandtabs().splitlines() or [""]
    summary = lines[0].strip()
    if len(summary) > FIRST_LINE:
        yield Finding(path, first.lineno, "first-line", f"{len(summary)} characters")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_") and not is_property(node):
        yield from check_imperative(path, first.lineno, summary)
    for text in paragraphs(lines, first.lineno):
        yield from check_text(path, text)


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return true for properties, which are named after values, and for fixtures and overloads."""
    names = {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in node.decorator_list}
    return bool(names & {"property", "cached_property", "fixture", "setter"})


def check_imperative(path: str, line: int, summary: str) -> Iterator[Finding]:
    """Yield a finding where ``summary`` starts with something that cannot be an imperative verb."""
    words = re.findall(r"[\w`'-]+", summary)
    if not words:
        return
    first, second = words[0].lower(), words[1].lower() if len(words) > 1 else ""
    third_person = first.endswith("s") and first not in VERBS_IN_S.split()
    if first in NOT_A_VERB.split() or not first.isalpha() or third_person or second == "of":
        yield Finding(path, line, "imperative", summary[:60])


def messages(tree: ast.AST) -> Iterator[Text]:
    """Yield the strings of four words and more that are not docstrings; placeholders become one word."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if isinstance(part, ast.Constant)}
            words = "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            words = node.value
        else:
            continue
        if len(words.split()) > 3 and not SQL.search(words):
            yield Text(node.lineno, words, "message")


def comments(source: str) -> Iterator[Text]:
    """Yield the comments of Python code; those on consecutive lines are one paragraph."""
    held: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        words = token.string.lstrip("#").strip()
        if IGNORE in words or re.match(r"(?:noqa|type:|fmt:|pragma|!)", words):
            continue
        whole_line = token.line.lstrip().startswith("#")
        if held and not (whole_line and token.start[0] == last + 1):
            yield from paragraphs(held, start)
            held = []
        start = start if held else token.start[0]
        held.append(re.sub(r"\s*#\s*noqa.*|noqa:.*", "", words))
        last = token.start[0]
    if held:
        yield from paragraphs(held, start)


def check_python(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of a Python file: docstrings, strings under names, comments, messages."""
    tree = ast.parse(source)
    ignored = {number for number, line in enumerate(source.splitlines(), 1) if IGNORE in line}
    for node in ast.walk(tree):
        yield from check_docstring(path, node, ignored)
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str) and after.lineno not in ignored:
                        for text in paragraphs(value.value.splitlines(), after.lineno):
                            yield from check_text(path, text)
    for text in [*comments(source), *messages(tree)]:
        if text.line not in ignored:
            yield from check_text(path, text)


def markdown(source: str) -> Iterator[Text]:
    """Yield headings, paragraphs, list items and table cells of Markdown; code blocks are left out."""
    held: list[str] = []
    start, fence = 1, ""
    for number, line in enumerate([*source.splitlines(), ""], 1):
        bare = line.strip()
        if fence or bare.startswith(("```", "~~~")):
            fence = "" if fence and bare.startswith(fence) else fence or bare[:3]
            bare = ""
        item = re.match(r"(?:[*+-]|\d+\.)\s+", bare)
        if held and (not bare or item or bare.startswith(("#", "|", ">", "<"))):
            yield Text(start, " ".join(held))
            held = []
        if IGNORE in bare or not bare or bare.startswith("<!--"):
            continue
        if bare.startswith("#"):
            yield Text(number, bare.lstrip("# "), "heading")
        elif bare.startswith("|"):
            for cell in bare.strip("|").split("|"):
                yield Text(number, cell.strip())
        else:
            start = start if held else number
            held.append(bare[item.end() :] if item else bare)


def check_markdown(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of a Markdown file; of the changelog only its newest version is checked."""
    if Path(path).name == HISTORY:
        source = "\n## ".join(source.split("\n## ")[:2])
    for text in markdown(source):
        yield from check_text(path, text)


def check_yaml(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of the comments of a YAML file."""
    lines = [match[1].strip() if (match := re.search(r"(?:^|\s)#(.*)", line)) else "" for line in source.splitlines()]
    for text in paragraphs([line if IGNORE not in line else "" for line in lines], 1):
        yield from check_text(path, text)


CHECKS = {".py": check_python, ".md": check_markdown, ".yaml": check_yaml, ".yml": check_yaml}


def check(paths: list[Path]) -> list[Finding]:
    """Return the findings of the files at and below ``paths``, sorted by file and line."""
    found: set[Finding] = set()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in CHECKS and "__pycache__" not in file.parts:
                name = str(file.relative_to(PROJECT)) if file.is_relative_to(PROJECT) else str(file)
                found |= set(CHECKS[file.suffix](name, file.read_text(encoding="utf-8")))
    return sorted(found)


def area(path: str) -> str:
    """Return the room that a file belongs to: ``plugins/market_data/lake`` and the like."""
    parts = Path(path).parts
    return "/".join(parts[: 3 if parts[0] == "plugins" else 2][: max(1, len(parts) - 1)])


def main(arguments: list[str]) -> int:
    """Print the findings; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true", help="print the number of findings per area and rule")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    options = parser.parse_args(arguments)
    wanted = [path.resolve() for path in options.paths] or [PROJECT / name for name in DEFAULT if (PROJECT / name).exists()]
    found = check(wanted)
    if options.summary:
        lines = [
            f"{count:5}  {where}  {rule}" for (where, rule), count in sorted(Counter((area(f.path), f.rule) for f in found).items())
        ]
    else:
        lines = [str(finding) for finding in found]
    sys.stdout.write("".join(f"{line}\n" for line in [*lines, f"{len(found)} findings"] if found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

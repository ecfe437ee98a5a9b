"""The pages of the documentation as text, by path."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
REFERENCE = PROJECT / "docs" / "reference"
DOCS = {
    str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
    for path in (*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md")))
    if path.name != "CHANGELOG.md"
}

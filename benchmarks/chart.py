"""Draw groups of horizontal bars as SVG, with no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LABEL, ROW, TOP = 860, 280, 22, 40
COLOURS = {"floor": "#b0bec5", "ours": "#1565c0", "peer": "#ef6c00"}
TEXT = 'font-family="sans-serif" font-size="12"'


def chart(title: str, groups: Mapping[str, Sequence[tuple[str, float, str]]]) -> str:
    """Return the picture.

    :param groups: heading -> bars: label, value, and kind, which is a key of `COLOURS`.
    """
    most = max((value for bars in groups.values() for _, value, _ in bars), default=1.0) or 1.0
    lines, place = [f'<text x="12" y="24" {TEXT} font-weight="bold">{escape(title)}</text>'], TOP
    for heading, bars in groups.items():
        lines.append(f'<text x="12" y="{place + 15}" {TEXT} font-weight="bold" fill="#37474f">{escape(heading)}</text>')
        place += ROW
        for label, value, kind in bars:
            length = max(1.0, value / most * (WIDTH - LABEL - 60))
            lines += [
                f'<text x="{LABEL - 8}" y="{place + 15}" {TEXT} text-anchor="end">{escape(label)}</text>',
                f'<rect x="{LABEL}" y="{place + 4}" width="{length:.1f}" height="{ROW - 7}" fill="{COLOURS[kind]}"/>',
                f'<text x="{LABEL + length + 6:.1f}" y="{place + 15}" {TEXT}>{value:,.0f}</text>',
            ]
            place += ROW
        place += ROW // 2
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {place}" width="{WIDTH}" height="{place}" role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", '<rect width="100%" height="100%" fill="#ffffff"/>', *lines, "</svg>", ""]
    )

"""Render a report as one HTML page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from matplotlib.figure import Figure

from cuts3d_mm.arrays import Pixels

from .pictures import encode_figure, encode_picture

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --pale: #5a626b;
        --line: #d9dde2; --rule: #9aa3ad; --link: #0b62b8; --code: #f2f4f6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e6ea; --paper: #15181c; --pale: #a3abb5; --line: #343a42; --rule: #6b747f;
          --link: #7cb8f5; --code: #20252b }
  .chart img { filter: invert(.9) hue-rotate(180deg) }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 78rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; overflow-wrap: break-word }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .75rem }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: 1rem;
     border-top: 1px solid var(--line) }
p { max-width: 46rem }
nav { margin: 1.25rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem }
a, summary { color: var(--link) }
figure { margin: .25rem 0 1rem; flex: 1 1 18rem; min-width: 0 }
figure img { display: block; max-width: 100%; border-radius: 4px }
figcaption, caption { color: var(--pale); font-size: .9rem; padding-top: .35rem }
.row { display: flex; flex-wrap: wrap; gap: 0 1rem }
.row img { width: 100% }
pre { background: var(--code); border-radius: 4px; padding: .75rem 1rem; font-size: .9rem;
      white-space: pre-wrap; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums;
        display: block; max-width: 100%; overflow-x: auto }
caption { caption-side: bottom; text-align: left }
th, td { padding: .35rem .9rem; text-align: right; border-bottom: 1px solid var(--line) }
th { border-bottom: 2px solid var(--rule); font-weight: 600 }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
details { margin: .25rem 0 1.5rem }
summary { cursor: pointer }
@media (max-width: 40rem) {
  .chart { overflow-x: auto }
  .chart img { width: 44rem; max-width: none }
  th, td { padding: .35rem .4rem }
}
"""
_FIGURE_DPI = 100


def render_report(title: str, introduction: Sequence[Block], sections: Sequence[Section]) -> str:
    """Render a report as HTML; every text is escaped.

    Args:
        title: heading of the page.
        introduction: blocks before the first section.
        sections: sections, linked from the top.

    Returns:
        The page, with its pictures inside, so that the file can be sent around alone.
    """
    links = ''.join(
        f'<a href="#section-{number}">{escape(section.title)}</a>\n'
        for number, section in enumerate(sections, start=1)
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>',
        f'<h1>{escape(title)}</h1>',
        *map(_render, introduction),
        f'<nav>\n{links}</nav>',
    ]
    for number, section in enumerate(sections, start=1):
        parts.append(f'<h2 id="section-{number}">{escape(section.title)}</h2>')
        parts += map(_render, section.blocks)
    return '\n'.join([*parts, '</body>\n</html>\n'])


def _render(block: Block) -> str:
    if isinstance(block, Text):
        return f'<p>{escape(block.text)}</p>'
    if isinstance(block, Code):
        return f'<pre><code>{escape(block.text)}</code></pre>'
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        return _picture(block)
    if isinstance(block, Row):
        return f'<div class="row">\n{_join(block.pictures)}\n</div>'
    return (
        f'<details>\n<summary>{escape(block.title)}</summary>\n{_join(block.blocks)}\n</details>'
    )


def _join(blocks: Sequence[Block]) -> str:
    return '\n'.join(map(_render, blocks))


def _table(table: Table) -> str:
    header = ''.join(f'<th>{escape(cell)}</th>' for cell in table.header)
    rows = (''.join(f'<td>{escape(cell)}</td>' for cell in row) for row in table.rows)
    body = '\n'.join(f'<tr>{row}</tr>' for row in rows)
    caption = f'<caption>{escape(table.caption)}</caption>\n' if table.caption else ''
    return (
        f'<table>\n{caption}<thead><tr>{header}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    )


def _picture(picture: Picture) -> str:
    source = f'data:{picture.media_type};base64,{b64encode(picture.encoded).decode()}'
    caption = escape(picture.caption)
    under = f'<figcaption>{caption}</figcaption>' if caption else ''
    kind = ' class="chart"' if picture.is_chart else ''
    return f'<figure{kind}><img loading="lazy" src="{source}" alt="{caption}">{under}</figure>'


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """Commands to copy; long lines wrap."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; the first column is aligned to the left, the others to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ''


@dataclass(frozen=True)
class Picture:
    """An encoded picture with a caption; `of_pixels` and `of_figure` encode it."""

    encoded: bytes
    media_type: str
    caption: str = ''
    is_chart: bool = False  # dark on a dark page, and as wide as it must be to be read

    @classmethod
    def of_pixels(cls, pixels: Pixels, caption: str = '') -> Picture:
        """Encode (H, W, 3) uint8 RGB."""
        return cls(encode_picture(pixels, 'JPEG'), 'image/jpeg', caption)

    @classmethod
    def of_figure(cls, figure: Figure, caption: str = '', is_chart: bool = False) -> Picture:
        """Encode a figure of matplotlib."""
        encoded = encode_figure(figure, 'webp', _FIGURE_DPI)
        return cls(encoded, 'image/webp', caption, is_chart)


@dataclass(frozen=True)
class Row:
    """Pictures next to each other, of equal width."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Details:
    """Blocks that are shown when a reader opens them."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """Blocks under a heading, linked from the top of the page."""

    title: str
    blocks: Sequence[Block]


Block: TypeAlias = Text | Code | Table | Picture | Row | Details

"""Render a report as one HTML page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

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
Blocks = Mapping[str, Sequence[str]]  # title -> HTML of the blocks


def render_report(title: str, introduction: Sequence[str], sections: Blocks) -> str:
    """Render a report as HTML; every text is escaped.

    Args:
        title: heading of the page.
        introduction: blocks before the first section.
        sections: blocks of each section by its title, linked from the top.

    Returns:
        The page, with its pictures inside, so that the file can be sent around alone.
    """
    links = ''.join(
        f'<a href="#section-{number}">{escape(heading)}</a>\n'
        for number, heading in enumerate(sections, start=1)
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>',
        f'<h1>{escape(title)}</h1>',
        *introduction,
        f'<nav>\n{links}</nav>',
    ]
    for number, (heading, blocks) in enumerate(sections.items(), start=1):
        parts += [f'<h2 id="section-{number}">{escape(heading)}</h2>', *blocks]
    return '\n'.join([*parts, '</body>\n</html>\n'])


def text(words: str) -> str:
    """Make a paragraph of plain text."""
    return f'<p>{escape(words)}</p>'


def code(commands: str) -> str:
    """Make a block of commands to copy; long lines wrap."""
    return f'<pre><code>{escape(commands)}</code></pre>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = '') -> str:
    """Make a table; the first column is aligned to the left, the others to the right."""
    head = ''.join(f'<th>{escape(cell)}</th>' for cell in header)
    cells = (''.join(f'<td>{escape(cell)}</td>' for cell in row) for row in rows)
    body = '\n'.join(f'<tr>{row}</tr>' for row in cells)
    under = f'<caption>{escape(caption)}</caption>\n' if caption else ''
    return f'<table>\n{under}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'


def picture(encoded: bytes, media_type: str, caption: str = '', is_chart: bool = False) -> str:
    """Make a picture of an encoded file of a type such as image/jpeg.

    A chart is dark on a dark page, and as wide as it must be to be read.
    """
    source = f'data:{media_type};base64,{b64encode(encoded).decode()}'
    caption = escape(caption)
    under = f'<figcaption>{caption}</figcaption>' if caption else ''
    kind = ' class="chart"' if is_chart else ''
    return f'<figure{kind}><img loading="lazy" src="{source}" alt="{caption}">{under}</figure>'


def picture_of_pixels(pixels: Pixels, caption: str = '') -> str:
    """Make a picture of (H, W, 3) uint8 RGB."""
    return picture(encode_picture(pixels, 'JPEG'), 'image/jpeg', caption)


def picture_of_figure(figure: Figure, is_chart: bool = False) -> str:
    """Make a picture of a figure of matplotlib."""
    encoded = encode_figure(figure, 'webp', _FIGURE_DPI)
    return picture(encoded, 'image/webp', is_chart=is_chart)


def row(pictures: Sequence[str]) -> str:
    """Put pictures next to each other, of equal width."""
    return '\n'.join(['<div class="row">', *pictures, '</div>'])


def details(title: str, blocks: Sequence[str]) -> str:
    """Hide blocks until a reader opens them."""
    return '\n'.join([f'<details>\n<summary>{escape(title)}</summary>', *blocks, '</details>'])


def first_blocks(blocks: Sequence[str], count: int, what: str) -> list[str]:
    """Show the first blocks, and hide the others under the number of what they are."""
    shown, others = list(blocks[:count]), blocks[count:]
    return [*shown, details(f'{len(others)} more {what}', others)] if others else shown

"""A table and figures in, one HTML page out."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from cuts3d_mm.labels.atomic import write_whole

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>cuts3d_mm demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
img { width: 100%; border: 1px solid #ddd }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto }
figure { margin: 1rem 0 } figcaption { color: #555 }
</style>
</head>
<body>
<h1>Instances without a single human label</h1>
<p>Each row is one instance, cut out of the photo from left to right: the photo with all its
instances, depth, spatial importance, the eigenvector of the normalized cut, its foreground,
LocalCut in the point cloud, how steadily several cuts agree, and the mask along image edges.
MaskCut is the two-dimensional baseline on the same features.</p>
"""


@dataclass(frozen=True)
class PageEntry:
    """One figure of the page."""

    section: str
    caption: str
    figure: str  # path relative to the page


def write_page(path: Path, table: str, entries: list[PageEntry]) -> None:
    """Write the page.

    Args:
        path: HTML file.
        table: scores as text.
        entries: figures, those of one section next to each other.
    """
    parts = [
        _HEAD,
        '<h2>Class-agnostic scores</h2>',
        f'<pre>{escape(table)}</pre>',
    ]
    for section, group in groupby(entries, key=lambda entry: entry.section):
        parts.append(f'<h2>{escape(section)}</h2>')
        for entry in group:
            parts.append(
                f'<figure><img loading="lazy" src="{escape(entry.figure)}" '
                f'alt="{escape(entry.caption)}">'
                f'<figcaption>{escape(entry.caption)}</figcaption></figure>'
            )
    write_whole(path, '\n'.join([*parts, '</body>', '</html>', '']))

"""Figures in, aligned text tables out."""

from __future__ import annotations

from collections.abc import Sequence


def format_scores(scores: dict[str, dict[str, float]]) -> str:
    """Format `{'segm': {'AP': 0.1, ...}, ...}` in percent."""
    names = list(next(iter(scores.values())))
    rows = [
        [kind, *(f'{100 * value:.2f}' for value in figures.values())]
        for kind, figures in scores.items()
    ]
    return format_table(['percent', *names], rows)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns as a Markdown table, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    lines = [_line(header, widths), _line(rule, widths), *(_line(row, widths) for row in rows)]
    return '\n'.join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f'| {" | ".join(padded)} |'

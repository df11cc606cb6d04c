"""Lay out scores as tables, in text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure


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


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> Figure:
    """Draw a table; the first row, what was measured here, is bold."""
    width = 0.085 * sum(max(len(row[i]) for row in (header, *rows)) for i in range(len(header)))
    figure = Figure(figsize=(width + 1, 0.3 * (len(rows) + 2)), layout='constrained')
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    table = axes.table([list(row) for row in rows], colLabels=list(header), loc='center')
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(header))))
    for column in range(len(header)):
        table[0, column].set_facecolor('#e8e8e8')
        table[1, column].set_text_props(weight='bold')
    return figure


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f'| {" | ".join(padded)} |'

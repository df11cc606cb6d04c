"""Show what the detector of each round finds on held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.pass_images import watched_names
from cuts3d_mm.learning.sheet import NUM_SHOWN, draw_record
from cuts3d_mm.visualization.report.blocks import Block, Details, Picture, Row, Text

_SHOWN_AT_ONCE = 6  # images; the others are opened by a click
_LONGEST_PX, _SCORE_THR = 320, 0.35  # of a picture; as cuts3d detect draws them


def show_detections(root: Path, current: PassFolders, detections: Sequence[Path]) -> list[Block]:
    """Draw the detections of each round next to the pseudo-labels of the same images.

    Args:
        root: folder of the images.
        current: folders of the pass.
        detections: a label store per round, the initial one first.
    """
    names = watched_names(current)[:NUM_SHOWN]
    columns = {'pseudo-labels': _by_name(read_coco(current.held_out), names)}
    for number, store in enumerate(detections):
        title = f'round {number}' if number else 'initial round'
        columns[title] = _by_name(read_store(store), names)
    rows: list[Block] = []
    for name in names:
        found = [(title, column[name]) for title, column in columns.items() if name in column]
        pictures = [_picture(root, title, record) for title, record in found]
        rows.append(Row([one for one in pictures if one is not None]))
    text = Text(f'Detections of at least {_SCORE_THR}, as cuts3d detect draws them.')
    if len(rows) <= _SHOWN_AT_ONCE:
        return [text, *rows]
    others = Details(f'{len(rows) - _SHOWN_AT_ONCE} more images', rows[_SHOWN_AT_ONCE:])
    return [text, *rows[:_SHOWN_AT_ONCE], others]


def _by_name(records: Iterable[ImageRecord], names: Sequence[str]) -> dict[str, ImageRecord]:
    return {record.name: record for record in records if record.name in set(names)}


def _picture(root: Path, title: str, record: ImageRecord) -> Picture | None:
    score_thr = 0.0 if title == 'pseudo-labels' else _SCORE_THR
    drawn = draw_record(root, record, _LONGEST_PX, score_thr)
    count = sum(one.score >= score_thr for one in record.instances)
    return None if drawn is None else Picture.of_pixels(drawn, f'{title}: {count}')

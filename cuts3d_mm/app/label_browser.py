"""Sort labelled images, draw them, and keep the marks of those that are bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Index, Pixels
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.listing import read_exclusions, write_exclusions
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.visualization.overlays import cross_out, draw_record

ORDERS = ('score', 'largest object', 'number of objects', 'name')
_TILE_PX = 480  # longer side
_NO_PICTURE = np.full((_TILE_PX // 2, _TILE_PX, 3), 200, np.uint8)


@dataclass(frozen=True)
class Tile:
    """A labelled image as the page shows it."""

    picture: Pixels  # (H, W, 3)
    caption: str


class LabelBrowser:
    """Labels to look through; images that could not be labelled are left out.

    Args:
        labels: label store or COCO JSON.
        images: folder that was labelled.
        out: list of marked images, for `--exclude`. What is there stays marked.

    Raises:
        ValueError: the labels or the list cannot be read, or no image is labelled.
    """

    def __init__(self, labels: Place, images: Place, out: Path) -> None:
        self.out = out
        self._table, self._images = LabelTable(labels), images
        self._names = self._table.names()
        self.marked = self._listed()
        figures = self._table.figures()
        self._keys: dict[str, NDArray[Any]] = {
            'score': figures.mean_score,
            'largest object': figures.largest_share,
            'number of objects': self._table.num_instances,
            'name': np.arange(len(self._names)),
        }
        self._labelled = np.flatnonzero(~self._table.is_failure)
        if not len(self._labelled):
            raise ValueError(f'labels must hold an image that was labelled, {labels} has none')

    def ranked(self, order: str, is_descending: bool, only_marked: bool) -> Index:
        """Numbers of the labelled images, sorted; of equal ones the first by name comes first.

        Args:
            order: one of ORDERS.
            is_descending: the largest value comes first.
            only_marked: leave out images that are not marked.
        """
        found = self._labelled
        if only_marked:
            found = found[[name in self.marked for name in self.names(found)]]
        values = self._keys[order][found]
        return found[np.argsort(-values if is_descending else values, kind='stable')]

    def names(self, numbers: Index) -> list[str]:
        """Names of images by their numbers."""
        return [self._names[number] for number in numbers]

    def tile(self, number: int) -> Tile:
        """Draw an image; one that cannot be drawn is grey and says why."""
        record = self._table[number]
        count = len(record.instances)
        mean = float(self._keys['score'][number])
        caption = f'{record.name}: {count} object{"s" * (count != 1)}, score {mean:.2f}'
        try:
            picture = draw_record(record, self._images, _TILE_PX)
        except ImageFailure as failure:
            picture, caption = _NO_PICTURE, f'{record.name}: {failure}'
        if record.name not in self.marked:
            return Tile(picture, caption)
        return Tile(cross_out(picture), f'BAD: {caption}')

    def toggle(self, number: int) -> None:
        """Mark an image as bad, or take its mark back, and write the list.

        Raises:
            OSError: the list cannot be read or written.
        """
        name = self._names[number]
        marked = self._listed()  # another page may have written it
        marked = marked - {name} if name in self.marked else marked | {name}
        write_exclusions(self.out, marked)
        self.marked = marked

    def _listed(self) -> frozenset[str]:
        return read_exclusions(self.out) if self.out.exists() else frozenset()

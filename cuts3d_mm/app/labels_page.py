"""The page that browses labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Index, Pixels
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.listing import read_exclusions, write_exclusions
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.visualization.overlays import cross_out, draw_record

from .page import Messages, make_page

_COMMAND = 'cuts3d browse-labels'
_COLUMNS, _TILES = 3, 12  # of a page
_INTRODUCTION = (
    '# Labels\nClick an image to mark it as bad, and again to take the mark back. Every mark is '
    'written at once; `--exclude` of `generate`, `predict`, `learn` and `merge-labels` leaves '
    'them out.'
)
ORDERS = ('score', 'largest object', 'number of objects', 'name')
_TILE_PX = 480  # longer side
_NO_PICTURE = np.full((_TILE_PX // 2, _TILE_PX, 3), 200, np.uint8)


def build_labels_page(browser: LabelBrowser) -> gradio.Blocks:
    """Build the page, to be launched."""
    page = make_page('Labels')
    with page:
        gradio.Markdown(_INTRODUCTION)
        choices = _add_choices()
        back, number, forth = _add_turning()
        with gradio.Row():
            place = gradio.Textbox(show_label=False, elem_id='place', interactive=False)
            marks = gradio.Textbox(show_label=False, elem_id='marks', interactive=False)
        tiles, shown = _add_tiles(), gradio.State([])
        views = [tiles, shown, number, place, marks]
        for event, step in ((back.click, -1), (forth.click, 1), (number.submit, 0)):
            event(partial(_show, browser, step), [*choices, number], views)
        for choice in choices:
            choice.input(partial(_show_first, browser), choices, views)
        page.load(partial(_show_first, browser), choices, views)
        tiles.select(_marker(browser), shown, [tiles, marks])
    return page


def _add_choices() -> list[Any]:
    """Order, whether the largest come first, whether only the marked are shown."""
    with gradio.Row():
        order = gradio.Radio(list(ORDERS), value=ORDERS[0], label='Order by', scale=3)
        largest = gradio.Checkbox(label='Largest first', elem_id='largest')
        marked = gradio.Checkbox(label='Marked only', elem_id='marked')
    return [order, largest, marked]


def _add_turning() -> tuple[Any, Any, Any]:
    """Button back, number of the page, button to the next."""
    with gradio.Row():
        back = gradio.Button('Back', elem_id='back')
        number = gradio.Number(1, label='Page', precision=0, minimum=1, elem_id='page')
        forth = gradio.Button('Next', elem_id='next')
    return back, number, forth


def _add_tiles() -> gradio.Gallery:
    return gradio.Gallery(
        columns=_COLUMNS,
        height='max-content',
        object_fit='contain',
        allow_preview=False,
        show_label=False,
        show_download_button=False,
        interactive=False,
        format='jpeg',
        elem_id='tiles',
    )


def _show_first(browser: LabelBrowser, order: str, largest: bool, marked: bool) -> Any:
    return _show(browser, 0, order, largest, marked, 1)


def _show(
    browser: LabelBrowser, step: int, order: str, largest: bool, marked: bool, page: int | None
) -> Any:
    """Show the page that lies `step` pages after `page`, counted from 1."""
    with Messages(_COMMAND):
        ranked = browser.ranked(order, largest, marked)
        num_pages = max(1, math.ceil(len(ranked) / _TILES))
        page = min(max(1, (page or 1) + step), num_pages)
        shown = ranked[(page - 1) * _TILES : page * _TILES].tolist()
        place = f'page {page} of {num_pages}, {len(ranked)} images'
        return _tiles(browser, shown), shown, page, place, _marks(browser)


def _marker(browser: LabelBrowser) -> Any:
    def mark(shown: list[int], event: gradio.SelectData) -> Any:
        with Messages(_COMMAND):
            browser.toggle(shown[event.index])
            return _tiles(browser, shown), _marks(browser)

    return mark


def _tiles(browser: LabelBrowser, shown: list[int]) -> gradio.Gallery:
    tiles = [browser.tile(number) for number in shown]
    return gradio.Gallery([(tile.picture, tile.caption) for tile in tiles], selected_index=None)


def _marks(browser: LabelBrowser) -> str:
    return f'{len(browser.marked)} marked in {browser.out}'


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

"""Make the page of `cuts3d browse-labels`: look through labels and mark bad images."""

from __future__ import annotations

import math
from collections.abc import Callable
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
from cuts3d_mm.labels.left_out import Crowd
from cuts3d_mm.labels.table import LabelTable
from cuts3d_mm.visualization.overlays import cross_out, draw_record

from .server import make_gallery, make_page, messages

_COLUMNS, _TILES = 3, 12  # columns and tiles of a page
_INTRODUCTION = (
    '# Labels\nClick an image to mark it as bad, and again to take the mark back. Every mark is '
    'written at once; `--exclude` of `generate`, `predict`, `learn` and `merge-labels` leaves '
    'them out.\n\nKeys: **arrows** go from image to image, **Delete** or **Space** marks, **U** '
    'undoes, **N** and **P** turn the page.'
)
_KEYS = """
() => {
  let current = 0, byKey = false;
  const tiles = () => [...document.querySelectorAll('#tiles .grid-container button')];
  const row = () => tiles().filter((one, _, all) => one.offsetTop === all[0].offsetTop).length;
  const steps = {ArrowLeft: () => -1, ArrowRight: () => 1,
                 ArrowUp: () => -row(), ArrowDown: row};
  const pages = {n: 'next', p: 'back', u: 'undo'};
  const go = (index) => { tiles()[index]?.focus(); current = index; };
  document.addEventListener('keydown', (event) => {
    const {key, target} = event, letter = key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest('input, textarea, [role=listbox]')) return;
    const at = tiles().indexOf(document.activeElement);
    if (key in steps && tiles().length) {
      const next = at < 0 ? current : at + steps[key]();
      if (tiles()[next]) go(next);
    } else if ((key === 'Delete' || key === ' ') && at >= 0) {
      current = at;
      tiles()[at].click();
    } else if (letter in pages) {
      if (letter !== 'u') current = 0;
      document.getElementById(pages[letter]).click();
    } else return;
    byKey = true;
    event.preventDefault();
  });
  document.addEventListener('pointerdown', () => { byKey = false; });
  new MutationObserver(() => {  // a change draws the tiles again, and the focus is lost
    if (byKey && document.activeElement === document.body && tiles()[current]) go(current);
  }).observe(document.body, {childList: true, subtree: true});
}
"""
ORDERS = ('score', 'largest object', 'number of objects', 'name')
_TILE_PX = 480  # longer side of a tile
_NO_PICTURE = np.full((_TILE_PX // 2, _TILE_PX, 3), 200, np.uint8)


def build_labels_page(browser: LabelBrowser) -> gradio.Blocks:
    """Build the page, to be launched."""
    page = make_page('Labels')
    with page:
        gradio.Markdown(_INTRODUCTION)
        with gradio.Row():
            order = gradio.Radio(
                list(ORDERS), value=ORDERS[0], label='Order by', scale=3, min_width=320
            )
            largest = gradio.Checkbox(label='Largest first', elem_id='largest', min_width=130)
            marked = gradio.Checkbox(label='Marked only', elem_id='marked', min_width=130)
        choices: list[Any] = [order, largest, marked]
        with gradio.Row(equal_height=True):
            place = gradio.Textbox(label='Shown', elem_id='place', interactive=False)
            marks = gradio.Textbox(label='Marked', elem_id='marks', interactive=False)
        with gradio.Row(equal_height=True):
            back = gradio.Button('Back', elem_id='back', min_width=60)
            number = gradio.Number(
                1, label='Page', precision=0, minimum=1, elem_id='page', min_width=100
            )
            forth = gradio.Button('Next', elem_id='next', min_width=60)
        with gradio.Row(equal_height=True):
            least = gradio.Number(
                0.4,
                label='Mean score',
                minimum=0,
                maximum=1,
                step=0.05,
                elem_id='least',
                min_width=100,
            )
            below = gradio.Button('Mark all below', elem_id='below', min_width=110)
            undo = gradio.Button('Undo', elem_id='undo', min_width=60)
        tiles = make_gallery(_COLUMNS, 'tiles', show_label=False)
        shown = gradio.State([])
        views = [tiles, shown, number, place, marks]
        for event, step in ((back.click, -1), (forth.click, 1), (number.submit, 0)):
            event(partial(_show, browser, step), [*choices, number], views)
        for choice in choices:
            choice.input(partial(_show, browser, 0), choices, views)
        page.load(partial(_show, browser, 0), choices, views)
        page.load(None, js=_KEYS)

        def change(make: Callable[..., None]) -> Callable[..., Any]:
            @messages()
            def run(shown: list[int], *values: Any) -> Any:
                make(shown, *values)
                return _tiles(browser, shown), _marks(browser)

            return run

        def mark(shown: list[int], event: gradio.SelectData) -> Any:
            return change(lambda shown: browser.toggle(shown[event.index]))(shown)

        tiles.select(mark, shown, [tiles, marks])
        undo.click(change(lambda _: browser.undo()), shown, [tiles, marks])
        below.click(
            change(lambda _, score: browser.mark_below(score or 0)), [shown, least], [tiles, marks]
        )
    return page


@messages()
def _show(
    browser: LabelBrowser,
    step: int,
    order: str,
    largest: bool,
    marked: bool,
    page: int | None = None,
) -> Any:
    """Show the page that lies `step` pages after `page`, which is counted from 1 (if None, 1)."""
    ranked = browser.ranked(order, largest, marked)
    num_pages = max(1, math.ceil(len(ranked) / _TILES))
    page = min(max(1, (page or 1) + step), num_pages)
    shown = ranked[(page - 1) * _TILES : page * _TILES].tolist()
    place = f'page {page} of {num_pages}, {len(ranked)} images'
    return _tiles(browser, shown), shown, page, place, _marks(browser)


def _tiles(browser: LabelBrowser, shown: list[int]) -> gradio.Gallery:
    return gradio.Gallery([browser.tile(number) for number in shown], selected_index=None)


def _marks(browser: LabelBrowser) -> str:
    return f'{len(browser.marked)} marked in {browser.out}'


class LabelBrowser:
    """Labels to look through; images that could not be labelled are left out.

    Args:
        labels: label store or COCO JSON.
        images: folder that was labelled.
        out: list of marked images, for `--exclude`; images that it names already stay marked.
        crowd: as for `LabelTable`.

    Raises:
        ValueError: the labels or the list cannot be read, or no image is labelled.
    """

    def __init__(self, labels: Place, images: Place, out: Path, crowd: Crowd = 'ignore') -> None:
        self.out = out
        self._table, self._images = LabelTable(labels, crowd), images
        self._names = self._table.names()
        self.marked = self._listed()
        self._changes: list[tuple[frozenset[str], frozenset[str]]] = []  # marked, cleared
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
        """Sort the numbers of labelled or marked images; equal ones stay in the order of names."""
        found = self._labelled
        if only_marked:
            found = found[[name in self.marked for name in self.names(found)]]
        values = self._keys[order][found]
        return found[np.argsort(-values if is_descending else values, kind='stable')]

    def names(self, numbers: Index) -> list[str]:
        """Names of images by their numbers."""
        return [self._names[number] for number in numbers]

    def tile(self, number: int) -> tuple[Pixels, str]:
        """Draw an image (H, W, 3) and its caption: a grey picture and the reason if that fails."""
        record = self._table[number]
        count = len(record.instances)
        mean = float(self._keys['score'][number])
        caption = f'{record.name}: {count} object{"s" * (count != 1)}, score {mean:.2f}'
        try:
            picture = draw_record(record, self._images, _TILE_PX)
        except ImageFailure as failure:
            picture, caption = _NO_PICTURE, f'{record.name}: {failure}'
        if record.name not in self.marked:
            return picture, caption
        return cross_out(picture), f'BAD: {caption}'

    def toggle(self, number: int) -> None:
        """Mark an image as bad, or take its mark back, and write the list."""
        name = frozenset({self._names[number]})
        self._change(frozenset(), name) if name <= self.marked else self._change(name, frozenset())

    def mark_below(self, score: float) -> None:
        """Mark the images with objects whose mean score is below this, and write the list."""
        is_below = (self._keys['score'] < score) & (self._table.num_instances > 0)
        names = self.names(self._labelled[is_below[self._labelled]])
        self._change(frozenset(names) - self.marked, frozenset())

    def undo(self) -> None:
        """Take the last change of this session back, if there is any, and write the list."""
        if self._changes:
            marked, cleared = self._changes[-1]
            self._change(cleared, marked)
            del self._changes[-2:]

    def _change(self, marked: frozenset[str], cleared: frozenset[str]) -> None:
        found = (self._listed() | marked) - cleared  # another page may have written the list
        write_exclusions(self.out, found)
        self.marked = found
        self._changes.append((marked, cleared))

    def _listed(self) -> frozenset[str]:
        return read_exclusions(self.out) if self.out.exists() else frozenset()

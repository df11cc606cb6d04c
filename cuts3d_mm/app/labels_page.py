"""Build the page on which labels are looked through and bad images are marked."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import gradio

from cuts3d_mm.app.label_browser import ORDERS, LabelBrowser
from cuts3d_mm.app.page import Messages, make_page

_COMMAND = 'cuts3d browse-labels'
_COLUMNS, _TILES = 3, 12  # of a page
_INTRODUCTION = (
    '# Labels\nClick an image to mark it as bad, and again to take the mark back. Every mark is '
    'written at once; `--exclude` of `generate`, `predict`, `learn` and `merge-labels` leaves '
    'them out.'
)


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

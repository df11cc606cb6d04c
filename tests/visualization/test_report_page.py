from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cuts3d_mm.visualization.report_page import (
    code,
    details,
    picture_of_figure,
    picture_of_pixels,
    render_report,
    row,
    table,
    text,
)

PIXELS = np.full((30, 50, 3), 120, np.uint8)
VOID = {'meta', 'img'}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and keeps them and the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ''
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append('/'.join([*self.open, tag]))
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(*blocks):
    return Outline(render_report('a report', [], {'a section': blocks}))


def test_every_text_of_a_report_is_escaped():
    evil = '<script>"&'
    picture = picture_of_pixels(PIXELS, evil)
    blocks = [text(evil), table([evil], [[evil]], evil), picture, details(evil, [code(evil)])]
    page = Outline(render_report(evil, [text(evil)], {evil: blocks}))
    assert not any(tag.endswith('script') for tag in page.tags)
    assert page.text.count(evil) == 12  # title twice, section and its link, the blocks
    assert dict(page.attributes)['alt'] == evil


def test_a_page_needs_nothing_from_elsewhere():
    figure = Figure(figsize=(2, 1))
    page = page_of(picture_of_pixels(PIXELS), picture_of_figure(figure), text('text'))
    links = [value for name, value in page.attributes if name in ('src', 'href')]
    assert len(links) == 3 and all(re.match('data:image/|#', link) for link in links)


def test_pictures_are_embedded_with_their_size():
    page = page_of(row([picture_of_pixels(PIXELS, side) for side in ('left', 'right')]))
    sources = [value for name, value in page.attributes if name == 'src']
    for source in sources:
        encoded = base64.b64decode(source.removeprefix('data:image/jpeg;base64,'))
        assert Image.open(io.BytesIO(encoded)).size == (50, 30)
    assert page.tags.count('html/body/div/figure/img') == 2


def test_tables_are_html_tables_and_details_hold_their_blocks():
    rows = [['a', '1.0'], ['b', '2.0']]
    page = page_of(table(['name', 'AP'], rows), details('more', [text('x')]))
    assert page.tags.count('html/body/table/tbody/tr/td') == 4
    assert 'html/body/details/p' in page.tags


def test_sections_are_linked_from_the_top():
    page = render_report('t', [], {'one': [], 'two': []})
    assert page.index('href="#section-2"') < page.index('id="section-2"')

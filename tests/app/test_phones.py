"""Pages fit a phone, and follow the colours of its system."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn import write_labelled_images

from cuts3d_mm.app.groups_page import GroupBrowser
from cuts3d_mm.app.labels_page import LabelBrowser
from cuts3d_mm.labellers.embedding import Embedder
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.pipeline.grouped_labels import group_labels
from cuts3d_mm.visualization import report_page
from cuts3d_mm.visualization.pictures import encode_picture

pytestmark = pytest.mark.slow
PIXELS = np.full((60, 90, 3), 120, np.uint8)
# Elements that reach over the edge of the window, but for what scrolls within itself.
OVER = """
() => [...document.querySelectorAll('body *')].filter(one =>
  one.getBoundingClientRect().right > innerWidth + 1 &&
  !one.closest('table, .chart, .image-frame')).map(one => one.outerHTML.slice(0, 80))
"""
BRIGHTNESS = """
() => ['backgroundColor', 'color'].map(
  part => getComputedStyle(document.body)[part].match(/\\d+/g).slice(0, 3).map(Number))
"""


@pytest.fixture
def look(browser):
    """Open a page on a phone, and return what is too wide and the brightness of its colours."""

    def look(url, part, scheme):
        page = browser.new_page(viewport={'width': 390, 'height': 844}, color_scheme=scheme)
        page.set_default_timeout(60_000)
        page.goto(url)
        page.locator(part).first.wait_for()
        page.wait_for_timeout(500)
        background, ink = (np.mean(one) for one in page.evaluate(BRIGHTNESS))
        return page.evaluate(OVER), background, ink

    return look


def test_pages_of_labels_and_groups_fit_a_phone(app, look, tmp_path):
    write_labelled_images(tmp_path)
    labels, images, groups = (tmp_path / name for name in ('labels', 'images', 'groups'))
    embedder = Embedder({'type': 'cuts3d_mm.ColorTextureFeatures'})
    group_labels(list(read_store(labels)), images, groups, 2, embedder=embedder)
    for site, part in (
        (app.build_labels_page(LabelBrowser(labels, images, tmp_path / 'bad.txt')), '#tiles img'),
        (app.build_groups_page(GroupBrowser(labels, images, groups)), '#instances img'),
    ):
        try:
            too_wide, background, ink = look(app.launch(site), part, 'dark')
            assert not too_wide and background < 50 and ink > 200
        finally:
            site.close()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_report_fits_a_phone_and_is_dark_where_its_reader_wants_it(look, tmp_path, scheme):
    header = ['name of the detector', *'abcdefgh']
    wide = report_page.table(header, [['after the initial round', *8 * '9']])
    picture = report_page.picture_of_pixels(PIXELS, 'a caption')
    chart = report_page.picture(encode_picture(PIXELS, 'JPEG'), 'image/jpeg', is_chart=True)
    row = report_page.row([picture, picture])
    blocks = [report_page.code('cuts3d ' + 80 * 'x'), wide, row, chart]
    page = report_page.render_report('title', [], {'one': blocks})
    (tmp_path / 'report.html').write_text(page)
    too_wide, background, ink = look((tmp_path / 'report.html').as_uri(), 'pre', scheme)
    is_dark = scheme == 'dark'
    assert not too_wide and abs(background - ink) > 150 and (background < ink) == is_dark

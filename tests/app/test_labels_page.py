from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import disc, write_labelled_images
from PIL import Image

from cuts3d_mm.app.labels_page import LabelBrowser
from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.images.listing import read_exclusions
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_store
from cuts3d_mm.scenes.rendering import render_scenes

HW = (60, 90)


def browser_of(folder):
    return LabelBrowser(folder / 'labels', folder / 'images', folder / 'bad.txt')


@pytest.fixture
def folder(tmp_path):
    """Images with 2, 1, 3 and no disc, and a failure."""
    write_labelled_images(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ('order', 'is_descending', 'expected'),
    [
        ('name', False, [0, 1, 2, 3]),
        ('name', True, [3, 2, 1, 0]),
        ('number of objects', False, [3, 1, 0, 2]),
        ('score', True, [2, 0, 1, 3]),  # 0.6, 0.55, 0.5, none
    ],
)
def test_labelled_images_come_in_the_order_that_is_asked_for(
    folder, order, is_descending, expected
):
    assert browser_of(folder).ranked(order, is_descending, only_marked=False).tolist() == expected


def test_the_largest_object_counts_by_its_share_of_the_image(tmp_path):
    wide = (60, 180)
    shapes = [(HW, [12, 3]), (wide, [14]), (HW, [9])]
    write_store(
        tmp_path / 'labels',
        [
            ImageRecord(
                f'{number}.png',
                hw,
                tuple(encode_instance(disc((30, 40), radius, hw), None, 0.5) for radius in radii),
            )
            for number, (hw, radii) in enumerate(shapes)
        ],
    )
    assert browser_of(tmp_path).ranked('largest object', True, False).tolist() == [0, 1, 2]


def test_marks_are_written_at_once_and_are_there_next_time(folder):
    (folder / 'bad.txt').write_text('of another run.png\n')
    browser = browser_of(folder)
    for number in (0, 2, 0):
        browser.toggle(number)
    assert read_exclusions(folder / 'bad.txt') == {'002.png', 'of another run.png'}
    assert browser_of(folder).ranked('name', False, only_marked=True).tolist() == [2]


def test_all_below_a_score_are_marked_and_every_change_can_be_undone(folder):
    (folder / 'bad.txt').write_text('of another run.png\n')
    browser = browser_of(folder)
    browser.toggle(1)
    browser.mark_below(0.56)  # scores .55, .5, .6, none
    browser.toggle(2)
    lists = [set(browser.marked)]
    for _ in range(4):  # nothing is left to undo at the end
        browser.undo()
        lists.append(read_exclusions(folder / 'bad.txt') - {'of another run.png'})
    assert lists[0] >= {'000.png', '001.png', '002.png'}
    assert lists[1:] == [{'000.png', '001.png'}, {'001.png'}, set(), set()]


def test_an_image_is_not_marked_if_the_list_cannot_be_written(folder):
    browser = browser_of(folder)
    (folder / 'bad.txt').mkdir()
    with pytest.raises(OSError):
        browser.toggle(0)
    assert not browser.marked


def test_a_marked_image_is_crossed_out(folder):
    browser = browser_of(folder)
    before = browser.tile(0)
    browser.toggle(0)
    after = browser.tile(0)
    assert before[1] == '000.png: 2 objects, score 0.55'
    assert after[1] == f'BAD: {before[1]}'
    assert after[0].mean() < 0.75 * before[0].mean()


def test_an_image_that_is_gone_is_grey_and_says_why(folder):
    (folder / 'images/001.png').unlink()
    picture, caption = browser_of(folder).tile(1)
    assert np.ptp(picture) == 0 and caption.startswith('001.png: cannot be read')


def test_large_images_are_drawn_small(folder):
    mask = disc((500, 600), 300, (1000, 1500))
    Image.fromarray(np.zeros((1000, 1500, 3), np.uint8)).save(folder / 'images/large.png')
    shutil.rmtree(folder / 'labels')
    record = ImageRecord('large.png', mask.shape, (encode_instance(mask, None, 0.5),))
    write_store(folder / 'labels', [record])
    picture, _ = browser_of(folder).tile(0)
    assert picture.shape == (320, 480, 3)
    assert picture[160, 192].any() and not picture[20, 460].any()


def test_labels_without_a_labelled_image_are_refused(tmp_path):
    write_store(tmp_path / 'labels', [ImageRecord('a.png', (0, 0), failure='broken')])
    with pytest.raises(ValueError, match='must hold an image that was labelled'):
        browser_of(tmp_path)


def write_scenes(folder, count):
    """Rendered scenes with the masks that are cut out of them."""
    (folder / 'images').mkdir()
    options = ['model.input_hw=(240,320)']
    generator = build_labeller(load_generator_config('cuts3d_color-texture_file-depth', options))
    records = []
    for scene in render_scenes(count, seed=5):
        Image.fromarray(scene.image).save(folder / 'images' / scene.name)
        found = generator.predict(scene.image, scene.depth)
        instances = [encode_instance(one.mask, one.confidence, one.score) for one in found]
        records.append(ImageRecord(scene.name, scene.image.shape[:2], tuple(instances)))
    write_store(folder / 'labels', records)


@pytest.mark.slow
def test_without_a_score_no_image_is_marked(app, folder):
    browser = browser_of(folder)
    site = app.build_labels_page(browser)
    button = next(one for one in site.blocks.values() if one.elem_id == 'below')
    mark = next(one.fn for one in site.fns.values() if one.targets[0][0] == button._id)
    mark([0, 1], None)  # what an empty field sends
    assert not browser.marked
    mark([0, 1], 0.52)
    assert browser.marked == {'001.png'}


@pytest.mark.slow
def test_a_name_of_another_site_that_leads_to_this_machine_is_refused(app, folder):
    site = app.build_labels_page(browser_of(folder))
    url = app.launch(site)
    try:
        for path in ('', 'config', 'gradio_api/info'):
            request = urllib.request.Request(url + path, headers={'Host': 'evil.example'})
            with pytest.raises(urllib.error.HTTPError, match='400'):
                urllib.request.urlopen(request)
            assert urllib.request.urlopen(url + path).status == 200
    finally:
        site.close()


def test_comments_of_the_list_and_marks_of_another_page_stay(folder):
    (folder / 'bad.txt').write_text('# reviewed by Ann\n')
    first, second = browser_of(folder), browser_of(folder)
    first.toggle(0)
    second.toggle(1)
    assert read_exclusions(folder / 'bad.txt') == set(first.names([0, 1]))
    assert '# reviewed by Ann' in (folder / 'bad.txt').read_text().splitlines()


@pytest.mark.slow
def test_a_visitor_marks_bad_images_page_by_page(app, browser, tmp_path, monkeypatch):
    """With CUTS3D_DOCS=docs the screenshot of the docs is taken."""
    write_scenes(tmp_path, 14)
    monkeypatch.chdir(tmp_path)
    labels = LabelBrowser(tmp_path / 'labels', tmp_path / 'images', Path('bad.txt'))
    site = app.build_labels_page(labels)
    url = app.launch(site)
    try:
        page = browser.new_page(viewport={'width': 1280, 'height': 1250})
        page.set_default_timeout(60_000)
        page.goto(url)
        place, marks = (page.locator(f'#{name} textarea') for name in ('place', 'marks'))
        tiles = page.locator('#tiles button')
        expect = pytest.importorskip('playwright.sync_api').expect
        expect(place).to_have_value('page 1 of 2, 14 images')
        expect(marks).to_have_value('0 marked in bad.txt')
        shown = labels.ranked('score', False, False)
        for tile, count in ((1, 1), (2, 2), (2, 1), (4, 2)):  # the third takes a mark back
            tiles.nth(tile).click()
            expect(marks).to_have_value(f'{count} marked in bad.txt')
        assert read_exclusions(Path('bad.txt')) == set(labels.names(shown[[1, 4]]))
        expect(page.get_by_text('BAD:')).to_have_count(2)
        target = Path(os.environ.get('CUTS3D_DOCS', tmp_path)) / 'browse_labels.png'
        page.evaluate('scrollTo(0, 0)')
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)  # the pictures are drawn
        page.screenshot(path=str(target))

        page.keyboard.press('ArrowUp')  # the first row, from the second
        page.keyboard.press('ArrowLeft')
        page.keyboard.press('Delete')
        expect(marks).to_have_value('3 marked in bad.txt')
        page.keyboard.press('ArrowRight')  # the focus has stayed
        page.keyboard.press('Space')
        expect(marks).to_have_value('2 marked in bad.txt')
        for count in (3, 2):
            page.keyboard.press('u')
            expect(marks).to_have_value(f'{count} marked in bad.txt')
        page.locator('#least input').fill('1')
        page.locator('#below').click()
        expect(marks).to_have_value('14 marked in bad.txt')
        page.locator('#undo').click()
        expect(marks).to_have_value('2 marked in bad.txt')

        page.locator('h1').click()
        page.keyboard.press('n')
        expect(place).to_have_value('page 2 of 2, 14 images')
        expect(tiles).to_have_count(2)
        page.locator('#marked input').click()
        expect(place).to_have_value('page 1 of 1, 2 images')
        for path in (tmp_path / 'bad.txt', tmp_path / 'images', '/etc/passwd'):
            with pytest.raises(urllib.error.HTTPError, match='403|404'):
                urllib.request.urlopen(f'{url}gradio_api/file={path}')
    finally:
        site.close()

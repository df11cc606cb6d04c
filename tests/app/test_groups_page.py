from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.drawn import write_colored_discs

from cuts3d_mm.app.groups_page import GroupBrowser
from cuts3d_mm.labellers.embedding import Embedder
from cuts3d_mm.labels.naming import read_operations
from cuts3d_mm.labels.store import read_store, write_store
from cuts3d_mm.pipeline.grouped_labels import group_labels


@pytest.fixture
def folder(tmp_path, rng):
    """Six images with a red, a blue and a green disc each, and their groups."""
    records = write_colored_discs(tmp_path, 6, rng)
    write_store(tmp_path / 'labels', records)
    embedder = Embedder({'type': 'cuts3d_mm.ColorTextureFeatures'})
    group_labels(records, tmp_path / 'images', tmp_path / 'groups', 3, embedder=embedder)
    return tmp_path


def browser_of(folder):
    return GroupBrowser(folder / 'labels', folder / 'images', folder / 'groups')


def test_changes_are_written_at_once_and_undone_in_the_next_session(folder):
    groups = browser_of(folder)
    groups.change({'name': 0, 'as': 'cat'})
    groups.change(groups.split(0))
    assert groups.naming.names == {0: 'cat', 3: 'cat'} and len(groups.numbers()) == 4
    groups.change({'drop': 1})
    again = browser_of(folder)
    assert again.numbers() == groups.numbers() == [2, 0, 3]
    for _ in range(2):
        again.change(None)
    assert read_operations(folder / 'groups/names.json') == [{'name': 0, 'as': 'cat'}]
    again.change(None)
    again.change(None)  # nothing is left to undo
    assert again.numbers() == [0, 1, 2] and not again.naming.names


def test_a_change_that_cannot_be_is_not_written(folder):
    groups = browser_of(folder)
    groups.change({'name': 0, 'as': 'cat'})
    for wrong in ({'name': 0, 'as': ''}, {'merge': 0, 'into': None}, {'move': [], 'into': 1}):
        with pytest.raises(ValueError, match='operations'):
            groups.change(wrong)
    assert len(read_operations(folder / 'groups/names.json')) == 1


def test_instances_are_drawn_and_an_image_that_is_gone_is_grey(folder):
    (folder / 'images/2.png').unlink()
    groups = browser_of(folder)
    for group in range(3):
        for picture, caption in groups.tiles(group, []):
            assert picture.shape == (128, 128, 3)
            assert (np.ptp(picture) == 0) == (caption == '2.png')
    place = groups.shown(1)[0]
    assert groups.tiles(1, [place])[0][1].startswith('CHOSEN: ')


def test_labels_that_were_not_grouped_are_refused(folder):
    records = list(read_store(folder / 'labels'))[1:]
    write_store(folder / 'other', records)
    with pytest.raises(ValueError, match='must be those that were grouped'):
        GroupBrowser(folder / 'other', folder / 'images', folder / 'groups')


@pytest.mark.slow
def test_a_visitor_names_merges_undoes_and_finds_it_all_after_a_restart(app, browser, folder):
    expect = pytest.importorskip('playwright.sync_api').expect
    names = folder / 'groups/names.json'

    def open_page():
        site = app.build_groups_page(browser_of(folder))
        page = browser.new_page(viewport={'width': 1280, 'height': 1400})
        page.set_default_timeout(60_000)
        page.goto(app.launch(site))
        return site, page

    def expect_named(page, count):
        status = f'{count} of 18 instances have a name, names: {min(count, 1)}, in {names}'
        expect(page.locator('#status textarea')).to_have_value(status)

    def choose(page, which, text):
        page.locator(f'#{which} input').click()
        page.get_by_role('option', name=text).click()

    site, page = open_page()
    try:
        expect_named(page, 0)
        page.locator('#name textarea, #name input').fill('cat')
        page.locator('#set-name').click()
        expect_named(page, 6)
        page.locator('#groups button').nth(1).click()
        expect(page.locator('#group input')).to_have_value('1: ? (6)')
        choose(page, 'into', '0: cat (6)')
        page.locator('#merge').click()
        expect_named(page, 12)
        expect(page.locator('#groups button')).to_have_count(2)
        operations = [{'name': 0, 'as': 'cat'}, {'merge': 1, 'into': 0}]
        assert json.loads(names.read_text()) == {'operations': operations}
        page.locator('#undo').click()
        expect_named(page, 6)
        page.locator('#groups button').nth(2).click()
        expect(page.locator('#group input')).to_have_value('2: ? (6)')
        page.locator('#instances button').nth(1).click()
        expect(page.get_by_text('CHOSEN:')).to_have_count(1)
        choose(page, 'into', '0: cat (6)')
        page.locator('#move').click()
        expect_named(page, 7)
        page.locator('#drop').click()
        expect(page.locator('#groups button')).to_have_count(2)
        page.locator('#split').click()
        expect(page.locator('#groups button')).to_have_count(3)
    finally:
        site.close()
    held = json.loads(names.read_text())['operations']
    assert [next(iter(one)) for one in held] == ['name', 'move', 'drop', 'split']
    site, page = open_page()
    try:
        expect_named(page, 7)
        expect(page.locator('#groups button')).to_have_count(3)
        page.locator('#undo').click()
        expect(page.locator('#groups button')).to_have_count(2)
    finally:
        site.close()

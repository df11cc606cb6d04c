"""A real browser, where one is installed."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
# Loopback only: without these Chromium looks for its maker's servers.
FLAGS = (
    '--no-sandbox',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--enable-unsafe-swiftshader',
)


@pytest.fixture(scope='session')
def app():
    """The parts of the app; gradio takes seconds to load."""
    gradio = pytest.importorskip('gradio')
    from cuts3d_mm.app import cutting_page, groups_page, labels_page, server

    return SimpleNamespace(
        Error=gradio.Error,
        write_examples=cutting_page.write_examples,
        build_page=cutting_page.build_page,
        build_groups_page=groups_page.build_groups_page,
        build_labels_page=labels_page.build_labels_page,
        launch=lambda site, **options: server.launch(
            site, server.LOOPBACK, None, quiet=True, **options
        ),
    )


@pytest.fixture
def browser():
    playwright = pytest.importorskip('playwright.sync_api')
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f'no browser is installed; one of {BROWSERS} is needed')
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()

"""A real browser, where one is installed."""

from __future__ import annotations

import shutil

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

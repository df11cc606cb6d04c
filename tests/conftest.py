from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope='session')
def coco287() -> Path:
    """287 real photos with depth and annotations, where they are at hand."""
    folder = os.environ.get('CUTS3D_TEST_DATA')
    if not folder or not Path(folder).is_dir():
        pytest.skip('CUTS3D_TEST_DATA does not name a folder with the measuring photos')
    return Path(folder)

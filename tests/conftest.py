from __future__ import annotations

import os
from pathlib import Path

# One thread per process, here and in the processes that tests start: the workers of pytest
# share the machine. Set before torch and OpenBLAS are loaded.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np  # noqa: E402
import pytest  # noqa: E402


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

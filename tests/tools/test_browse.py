from __future__ import annotations

import numpy as np
import pytest
from helpers.tiny_detectors import TINY
from helpers.training import SMALL, data_options, write_training_set
from PIL import Image

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.browse import browse


@pytest.mark.slow
def test_samples_are_drawn_as_the_model_gets_them(tmp_path):
    root = write_training_set(tmp_path / 'set')
    options = [*data_options(root, root / 'labels'), *SMALL]
    paths = browse(load_config(TINY, options), 6, seed=0, out=tmp_path / 'out')
    assert len(paths) == 6
    red = 0
    for path in paths:
        picture = np.asarray(Image.open(path)).astype(int)
        assert picture.shape[1] == 2 * 96
        left = picture[:, :96]
        red += ((left[..., 0] == 235) & (left[..., 1] == 60)).sum()
    assert red > 0  # outlines of pasted instances


def test_the_same_seed_draws_the_same_samples(tmp_path):
    root = write_training_set(tmp_path / 'set')
    config = load_config(TINY, [*data_options(root, root / 'labels'), *SMALL])
    first, second = (browse(config, 2, 3, tmp_path / name) for name in 'ab')
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]

"""Cutting where numba cannot be imported."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
from drawn import touching_world
from without_packages import environment_without

from cuts3d_mm.algorithm.cut_instances import cut_patches
from cuts3d_mm.algorithm.params import CutParams

_CODE = """
import pickle, sys
from cuts3d_mm.algorithm.cut_instances import cut_patches
from cuts3d_mm.algorithm.params import CutParams
features, depth = pickle.load(sys.stdin.buffer)
cuts = cut_patches(features, depth, CutParams()).accepted
assert 'numba' not in sys.modules
pickle.dump([(cut.mask, cut.confidence, cut.eigenvector) for cut in cuts], sys.stdout.buffer)
"""


def test_the_patch_stage_runs_without_numba_and_finds_the_same(rng, tmp_path):
    features, depth, *_ = touching_world(rng)
    run = subprocess.run(
        [sys.executable, '-c', _CODE],
        input=pickle.dumps((features, depth)),
        capture_output=True,
        env=environment_without(tmp_path, 'numba', 'llvmlite'),
        check=True,
    )
    assert b'runs as plain code' in run.stderr
    cuts = cut_patches(features, depth, CutParams()).accepted
    assert len(cuts) == 2
    for cut, found in zip(cuts, pickle.loads(run.stdout), strict=True):
        expected = (cut.mask, cut.confidence, cut.eigenvector)
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))

from __future__ import annotations

import numpy as np
from drawn import GRID_HW, disc
from scipy.ndimage import gaussian_filter

from cuts3d_mm.algorithm.cut_instances import propose
from cuts3d_mm.algorithm.masks import component_of
from cuts3d_mm.algorithm.ncut import Eigenpair
from cuts3d_mm.algorithm.params import CutParams, EvidenceParams, LocalCutParams

NUM_SCENES = 200
PARAMS = CutParams(
    local_cut=LocalCutParams(neighborhood='grid', capacity='step', evidence=EvidenceParams())
)
PARAMS = CutParams(
    local_cut=LocalCutParams(neighborhood='grid', capacity='step', evidence=EvidenceParams())
)


def scenes(seed=0):
    """Random eigenvectors over random depths of 8-bit levels, in which many distances tie."""
    for stream in np.random.SeedSequence(seed).spawn(NUM_SCENES):
        rng = np.random.default_rng(stream)
        smooth = gaussian_filter(rng.standard_normal(GRID_HW), 2)
        depth = gaussian_filter(rng.random(GRID_HW), 1)
        depth += 0.5 * disc(rng.uniform((4, 4), (14, 22)), rng.uniform(2, 6))
        depth = np.rint(255 * (depth - depth.min()) / np.ptp(depth)) / 255
        yield smooth.ravel(), depth.astype(np.float32), rng


def mask_of(eigenvector, depth):
    pair = Eigenpair(eigenvector, 0.1, 0.1)
    is_free = np.ones(len(eigenvector), bool)
    return propose(pair, is_free, depth, GRID_HW, PARAMS)


def test_depth_noise_of_a_millionth_changes_no_mask():
    changed = 0
    for eigenvector, depth, rng in scenes():
        noisy = depth + rng.uniform(-1e-6, 1e-6, GRID_HW).astype(np.float32)
        first, second = mask_of(eigenvector, depth), mask_of(eigenvector, noisy)
        changed += not (first.mask == second.mask).all()
    assert changed == 0


def test_mirroring_the_image_mirrors_the_mask():
    for eigenvector, depth, _ in scenes():
        flipped = eigenvector.reshape(GRID_HW)[:, ::-1].ravel()
        found = mask_of(flipped, np.ascontiguousarray(depth[:, ::-1])).mask.reshape(GRID_HW)
        assert (found[:, ::-1] == mask_of(eigenvector, depth).mask.reshape(GRID_HW)).all()


def test_constant_depth_gives_the_component_in_2d():
    for eigenvector, depth, _ in scenes():
        found = mask_of(eigenvector, np.zeros_like(depth))
        semantic = found.semantic_mask.reshape(GRID_HW)
        seed = divmod(found.split.seed, GRID_HW[1])
        assert (found.mask.reshape(GRID_HW) == component_of(semantic, seed)).all()


def test_a_cut_is_never_a_crumb_of_its_component():
    for eigenvector, depth, _ in scenes():
        found = mask_of(eigenvector, depth)
        seed = divmod(int(found.cloud.patches[found.cloud.sources[0]]), GRID_HW[1])
        component = component_of(found.semantic_mask.reshape(GRID_HW), seed)
        assert found.mask.sum() >= 0.1 * component.sum()

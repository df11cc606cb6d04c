"""LocalCut with its confidence, T = 8, against networkx on the same cloud.

One thread, the semantic masks of the first cuts, CPU seconds of one run:

    python benchmarks/local_cut.py --photos DIR
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
import reference  # noqa: E402
from samples import load_samples, parse_args, summarize  # noqa: E402

from cuts3d_mm.algorithm.cut_patches import cut_patches  # noqa: E402
from cuts3d_mm.algorithm.local_cut import (  # noqa: E402
    CAPACITIES,
    build_cloud,
    cut_cloud,
    tie_terminals,
)
from cuts3d_mm.algorithm.params import CutParams  # noqa: E402
from cuts3d_mm.algorithm.patch_graph import depth_on_grid  # noqa: E402
from cuts3d_mm.algorithm.point_cloud import project_depth  # noqa: E402
from cuts3d_mm.algorithm.spatial_confidence import spatial_confidence  # noqa: E402

PARAMS = CutParams()
LOCAL, CONFIDENCE = PARAMS.local_cut, PARAMS.confidence


def ours(semantic, points, eigenvector, grid_hw):
    """Neighbours, the cut and its confidence."""
    cloud = build_cloud(semantic, points, eigenvector, grid_hw, LOCAL)
    mask = cut_cloud(cloud, LOCAL.tau_knn, grid_hw, LOCAL)
    return mask, spatial_confidence(cloud, mask, grid_hw, LOCAL, CONFIDENCE)


def oracle(semantic, points, eigenvector, grid_hw):
    """The same cuts by networkx; the neighbours are given for free."""
    cloud = build_cloud(semantic, points, eigenvector, grid_hw, LOCAL)
    taus = LOCAL.tau_knn * np.geomspace(CONFIDENCE.tau_min_ratio, 1, CONFIDENCE.num_cuts)
    capacity = partial(CAPACITIES[LOCAL.capacity], params=LOCAL)
    mask = reference.local_cut(cloud, LOCAL.tau_knn, grid_hw, capacity)
    tied = tie_terminals(cloud, CONFIDENCE.terminal_fraction)
    cuts = [reference.local_cut(tied, tau, grid_hw, capacity) for tau in taus[:-1]]
    return mask, np.where(mask, np.mean([*cuts, mask], axis=0), 0)


def main() -> None:
    """Print one line per image and the summary."""
    ratios, are_equal = [], []
    for sample in load_samples(parse_args(__doc__)):
        cuts = cut_patches(sample.features, sample.depth, PARAMS).accepted
        if not cuts:
            continue
        grid_hw = sample.features.shape[:2]
        points = project_depth(depth_on_grid(sample.depth, grid_hw, PARAMS))
        arguments = (cuts[0].semantic_mask.ravel(), points, cuts[0].eigenvector.ravel(), grid_hw)
        seconds, results = [], []
        for function in (ours, oracle):
            start = time.process_time()
            results.append(function(*arguments))
            seconds.append(time.process_time() - start)
        ratios.append(seconds[1] / seconds[0])
        same = all(np.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))
        are_equal.append(same)
        print(
            f'{sample.name:24s}{arguments[0].sum():5d} points {seconds[1]:7.2f} s '
            f'{seconds[0]:7.4f} s {ratios[-1]:7.1f}x  same mask and confidence: {same}'
        )
    print(summarize('speed-up', ratios, 'x'))
    print(f'same result on {sum(are_equal)} of {len(are_equal)} images')


if __name__ == '__main__':
    main()

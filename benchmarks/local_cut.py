"""LocalCut with its confidence, T = 8, against SciPy's solver and networkx on the same cloud.

SciPy's maximum flow and labels of components also stand in where numba fails.

One thread, the semantic masks of the first cuts, CPU seconds of one run:

    python benchmarks/local_cut.py --photos DIR
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
import reference  # noqa: E402
from samples import load_samples, parse_args, summarize  # noqa: E402

from cuts3d_mm.algorithm import masks, min_cut  # noqa: E402
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
REPEATS = 9  # in turn; networkx, which takes seconds, runs once


def ours(semantic, points, eigenvector, grid_hw):
    """Neighbours, the cut and its confidence."""
    cloud = build_cloud(semantic, points, eigenvector, grid_hw, LOCAL)
    mask = cut_cloud(cloud, LOCAL.tau_knn, grid_hw, LOCAL)
    return mask, spatial_confidence(cloud, mask, grid_hw, LOCAL, CONFIDENCE)


def by_scipy(*arguments):
    """The same cuts with SciPy instead of compiled code."""
    plain = min_cut._source_side.plain, masks._flood.plain
    with patch.object(min_cut, '_source_side', plain[0]), patch.object(masks, '_flood', plain[1]):
        return ours(*arguments)


def by_networkx(semantic, points, eigenvector, grid_hw):
    """The same cuts by networkx; the neighbours are given for free."""
    cloud = build_cloud(semantic, points, eigenvector, grid_hw, LOCAL)
    taus = LOCAL.tau_knn * np.geomspace(CONFIDENCE.tau_min_ratio, 1, CONFIDENCE.num_cuts)
    capacity = partial(CAPACITIES[LOCAL.capacity], params=LOCAL)
    mask = reference.local_cut(cloud, LOCAL.tau_knn, grid_hw, capacity)
    tied = tie_terminals(cloud, CONFIDENCE.terminal_fraction)
    cuts = [reference.local_cut(tied, tau, grid_hw, capacity) for tau in taus[:-1]]
    return mask, np.where(mask, np.mean([*cuts, mask], axis=0), 0)


def measure(function, arguments):
    """CPU seconds and result of one call."""
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def compare(arguments):
    """CPU seconds of ours, SciPy and networkx; whether all results are the same."""
    calls = [(measure(ours, arguments), measure(by_scipy, arguments)) for _ in range(REPEATS)]
    exact_s, exact = measure(by_networkx, arguments)
    ours_s, scipy_s = np.median([[seconds for seconds, _ in pair] for pair in calls], axis=0)
    (_, (mask, confidence)), (_, (scipy_mask, scipy_confidence)) = calls[0]
    is_same = mask.tobytes() == scipy_mask.tobytes()
    is_same &= confidence.tobytes() == scipy_confidence.tobytes()
    is_same &= np.array_equal(mask, exact[0]) and np.allclose(confidence, exact[1], atol=1e-6)
    return ours_s, scipy_s, exact_s, is_same


def main() -> None:
    """Print one line per image and the summary."""
    rows = []
    for sample in load_samples(parse_args(__doc__)):
        cuts = cut_patches(sample.features, sample.depth, PARAMS).accepted
        if not cuts:
            continue
        grid_hw = sample.features.shape[:2]
        points = project_depth(depth_on_grid(sample.depth, grid_hw, PARAMS))
        arguments = (cuts[0].semantic_mask.ravel(), points, cuts[0].eigenvector.ravel(), grid_hw)
        rows.append(compare(arguments))
        ours_s, scipy_s, exact_s, is_same = rows[-1]
        print(
            f'{sample.name:24s}{arguments[0].sum():5d} points{exact_s:7.2f} s'
            f'{1000 * scipy_s:8.2f} ms{1000 * ours_s:8.2f} ms{scipy_s / ours_s:7.1f}x '
            f'{exact_s / ours_s:7.1f}x  same mask and confidence: {is_same}'
        )
    print(summarize('speed-up over SciPy', [scipy / own for own, scipy, _, _ in rows], 'x'))
    print(summarize('speed-up over networkx', [exact / own for own, _, exact, _ in rows], 'x'))
    print(f'same result on {sum(row[-1] for row in rows)} of {len(rows)} images')


if __name__ == '__main__':
    main()

"""LocalCut with its confidence, T = 10, against SciPy's solver and networkx on the same cloud.

SciPy's maximum flow and labels of components also stand in where numba fails.

One thread, the semantic masks of the first cuts, CPU seconds of one run:

    python benchmarks/local_cut.py --photos DIR
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers import oracles  # noqa: E402
from samples import load_samples, parse_args, summarize  # noqa: E402

from cuts3d_mm.algorithm import local_cut, masks  # noqa: E402
from cuts3d_mm.algorithm.cut_instances import (  # noqa: E402
    cut_patches,
    depth_on_grid,
    link_image,
)
from cuts3d_mm.algorithm.local_cut import cut_in_3d, spatial_confidence  # noqa: E402
from cuts3d_mm.algorithm.params import CutParams  # noqa: E402

PARAMS = CutParams()
LOCAL, CONFIDENCE = PARAMS.local_cut, PARAMS.confidence
REPEATS = 9  # in turn; networkx, which takes seconds, runs once


def ours(semantic, eigenvector, depth):
    """Neighbours, the cuts, the one that depth supports, and its confidence."""
    found = cut_in_3d(semantic, eigenvector, depth, LOCAL, CONFIDENCE)
    return found[-1], spatial_confidence(found)


def by_scipy(*arguments):
    """The same cuts with SciPy instead of compiled code."""
    with patch.object(masks, '_flood', masks._flood.plain):
        return with_solver(local_cut._source_side.plain, arguments)


def by_networkx(*arguments):
    """The same cuts, of the same integer capacities, with networkx."""
    return with_solver(solve_by_networkx, arguments)


def solve_by_networkx(first, second, units, num_nodes, sources, sinks):
    """What the sources reach after a maximum flow."""
    edges = SimpleNamespace(first=first, second=second)
    return oracles.source_side(num_nodes, edges, units, sources, sinks)


def with_solver(solver, arguments):
    """LocalCut with another way to find the maximum flow."""
    with patch.object(local_cut, '_source_side', solver):
        return ours(*arguments)


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
    found = [[result.tobytes() for result in results] for _, results in calls[0]]
    is_same = found[0] == found[1] == [result.tobytes() for result in exact]
    return ours_s, scipy_s, exact_s, is_same


def main() -> None:
    """Print one line per image and the summary."""
    rows = []
    for sample in load_samples(parse_args(__doc__)):
        cuts = cut_patches(link_image(sample.features, sample.depth, PARAMS), PARAMS).instances
        if not cuts:
            continue
        grid_hw = sample.features.shape[:2]
        depth = depth_on_grid(sample.depth, grid_hw, PARAMS)
        arguments = cuts[0].semantic_mask.ravel(), cuts[0].eigenvector.ravel(), depth
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

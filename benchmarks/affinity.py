"""The graph of linked patches, tile by tile, against the whole affinity matrix at once.

One thread, grids of 60 x 60 and 120 x 120 patches with 512 values each, CPU seconds and peak
memory of one run:

    python benchmarks/affinity.py --photos DIR
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from samples import argument_parser, describe, load_samples, summarize

from cuts3d_mm.algorithm.affinity import (
    link_patches,
    no_links,
    normalize_features,
    spatial_importance,
    write_links,
)
from cuts3d_mm.algorithm.cut_instances import depth_on_grid
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.images.reading import resize_rgb

PARAMS = CutParams()
TAU = PARAMS.ncut.tau_ncut


def at_once(features, importance):
    """One matrix product, one threshold per pair."""
    unit = normalize_features(features)
    with np.errstate(divide='ignore'):  # importance 1: every positive cosine is a link
        threshold = np.float32(np.log(TAU)) / (np.float32(1) - np.outer(importance, importance))
    packed = no_links(len(unit))
    write_links(packed, unit @ unit.T > np.exp(threshold), 0, 0)
    return packed


def by_tiles(features, importance):
    """As cutting does it."""
    return link_patches(features, TAU, importance)


def measure(function, arguments):
    """CPU seconds, peak memory in MiB, and the graph."""
    start = time.process_time()
    links = function(*arguments)
    seconds = time.process_time() - start
    tracemalloc.start()
    function(*arguments)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return seconds, peak, links


def main() -> None:
    """Print one line per image and grid, and the summary."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        '--sides', type=int, nargs='+', default=[60, 120], help='sides of the grids'
    )
    args = parser.parse_args()
    by_tiles(np.ones((16, 2), np.float32), np.zeros(16, np.float32))  # compiles
    for side in args.sides:
        rows = []
        for sample in load_samples(args):
            features = describe(resize_rgb(sample.image, (8 * side, 8 * side)))
            depth = depth_on_grid(sample.depth, (side, side), PARAMS)
            importance = spatial_importance(depth, PARAMS.importance).ravel()
            arguments = features.reshape(-1, features.shape[-1]), importance
            (once_s, once_mib, exact), (tiles_s, tiles_mib, links) = (
                measure(function, arguments) for function in (at_once, by_tiles)
            )
            different = int(np.unpackbits((exact.words ^ links.words).view(np.uint8)).sum())
            rows.append((once_s / tiles_s, tiles_s, tiles_mib))
            print(
                f'{sample.name:24s}{side:4d}{once_s:8.3f} s{once_mib:8.0f} MiB{tiles_s:8.3f} s'
                f'{tiles_mib:8.0f} MiB  {different} of {side**4} links differ'
            )
        ratios, seconds, peaks = zip(*rows, strict=True)
        print(summarize(f'{side} x {side}: speed-up', ratios, 'x'))
        print(summarize(f'{side} x {side}: seconds', seconds, ' s'))
        print(summarize(f'{side} x {side}: peak memory', peaks, ' MiB'))


if __name__ == '__main__':
    main()

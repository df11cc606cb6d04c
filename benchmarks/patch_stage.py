"""Affinity and NCut, N = 3, against MaskCut's dense generalized eigenproblem.

On both sides the strongest entry of the eigenvector is positive; MaskCut itself keeps the sign
that LAPACK returns (`NcutParams.sign`). One thread, the same features, CPU seconds of one run:

    python benchmarks/patch_stage.py --photos DIR
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))
from helpers import oracles  # noqa: E402
from samples import load_samples, mask_iou, parse_args, summarize  # noqa: E402

from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image  # noqa: E402
from cuts3d_mm.algorithm.params import CutParams  # noqa: E402

REPEATS = 5


def compare(sample) -> tuple[float, float, float]:
    """Seconds of the oracle, seconds of ours (median), smallest IoU of a mask."""
    params = CutParams.maskcut()
    ours_s = []
    for _ in range(REPEATS):
        start = time.process_time()
        cuts = cut_patches(link_image(sample.features, None, params), params).instances
        ours_s.append(time.process_time() - start)
    flat = sample.features.reshape(-1, sample.features.shape[-1])
    start = time.process_time()
    exact = oracles.maskcut(flat, sample.features.shape[:2], params.ncut.tau_ncut, 3)
    oracle_s = time.process_time() - start
    agreement = 0.0
    if len(cuts) == len(exact):
        pairs = zip(cuts, exact, strict=True)
        agreement = min((mask_iou(cut.mask, mask) for cut, mask in pairs), default=1.0)
    return oracle_s, float(np.median(ours_s)), agreement


def main() -> None:
    """Print one line per image and the summary."""
    samples = load_samples(parse_args(__doc__))
    cut_patches(
        link_image(samples[0].features, None, CutParams.maskcut()), CutParams.maskcut()
    )  # compiles
    results = []
    for sample in samples:
        results.append(compare(sample))
        oracle_s, ours_s, agreement = results[-1]
        ratio = oracle_s / ours_s
        print(
            f'{sample.name:24s}{oracle_s:8.2f} s {ours_s:8.4f} s {ratio:8.1f}x IoU {agreement:.4f}'
        )
    print(summarize('speed-up', [oracle / ours for oracle, ours, _ in results], 'x'))
    print(summarize('ours', [ours for _, ours, _ in results], ' s'))
    print(f'smallest IoU of any mask     {min(agreement for *_, agreement in results):.4f}')


if __name__ == '__main__':
    main()

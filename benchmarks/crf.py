"""The CRF of all masks of an image against pydensecrf2, mask by mask.

One thread, the masks that the recipe cuts, CPU seconds of one run:

    python benchmarks/crf.py --photos DIR
"""

from __future__ import annotations

import time

import numpy as np
from samples import INPUT_HW, load_samples, mask_iou, parse_args, summarize

from cuts3d_mm.algorithm.crf import refine_masks, refine_masks_pydensecrf
from cuts3d_mm.algorithm.cut_patches import cut_patches
from cuts3d_mm.algorithm.masks import enlarge_patches
from cuts3d_mm.algorithm.params import CrfParams, CutParams

REPEATS = 3


def timed(function, *arguments) -> tuple[float, np.ndarray]:
    """Median CPU seconds of a call, and what it returns."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = function(*arguments)
        seconds.append(time.process_time() - start)
    return float(np.median(seconds)), result


def main() -> None:
    """Print one line per image and the summary."""
    samples = load_samples(parse_args(__doc__))
    params = CrfParams()
    ratios, agreements = [], []
    refine_masks(np.ones((1, *INPUT_HW), bool), samples[0].image, params)  # compiles
    for sample in samples:
        cuts = cut_patches(sample.features, None, CutParams.maskcut()).accepted
        masks = np.stack([enlarge_patches(cut.mask, INPUT_HW) for cut in cuts])
        ours_s, ours = timed(refine_masks, masks, sample.image, params)
        theirs_s, theirs = timed(refine_masks_pydensecrf, masks, sample.image, params)
        ratios.append(theirs_s / ours_s)
        agreements.append(min(map(mask_iou, ours, theirs)))
        print(
            f'{sample.name:24s}{len(masks)} masks {theirs_s:8.3f} s {ours_s:8.3f} s '
            f'{ratios[-1]:7.2f}x  IoU {agreements[-1]:.5f}'
        )
    print(summarize('speed-up per image', ratios, 'x'))
    print(f'smallest IoU of any mask     {min(agreements):.5f}')


if __name__ == '__main__':
    main()

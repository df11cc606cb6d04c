"""The CRF of all masks of an image against pydensecrf2, mask by mask, and an earlier revision.

One thread, the masks that the recipes cut, CPU seconds of one run, all ways in turn:

    python benchmarks/crf.py --photos DIR --num 36 --before 9d78ced
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
from earlier import import_earlier
from numpy.typing import NDArray
from samples import INPUT_HW, Sample, argument_parser, load_samples, mask_iou, summarize

from cuts3d_mm.algorithm.crf import (
    Lattice,
    _bilateral_lattice,
    _spatial_lattice,
    filter_values,
    refine_masks,
    refine_masks_pydensecrf,
)
from cuts3d_mm.algorithm.cut_instances import cut_patches, link_image
from cuts3d_mm.algorithm.kernels import lattice as kernels
from cuts3d_mm.algorithm.masks import enlarge_patches
from cuts3d_mm.algorithm.params import CrfParams, CutParams

PARAMS = CrfParams()
OURS = 'refine_masks'
Ways = dict[str, Callable[[], NDArray[np.bool_]]]


def main() -> None:
    """Print one line per image, the summary and what the parts take."""
    parser = argument_parser(__doc__)
    parser.add_argument('--before', metavar='REVISION', help='revision of git to compare with')
    parser.add_argument('--repeats', type=int, default=3, help='runs, whose median counts')
    args = parser.parse_args()
    functions: dict[str, Callable[..., NDArray[np.bool_]]] = {OURS: refine_masks}
    if args.before:
        functions[args.before] = import_earlier(args.before, 'crf').refine_masks
    if find_spec('pydensecrf'):
        functions['pydensecrf2'] = refine_masks_pydensecrf
    images = list(images_with_masks(load_samples(args)))
    for function in functions.values():  # compiles
        for count in (1, 2, 3):
            function(images[0][2][:1].repeat(count, axis=0), images[0][1], PARAMS)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    overlaps: dict[str, list[float]] = {name: [] for name in functions}
    for name, image, masks in images:
        ways = {
            way: partial(function, masks, image, PARAMS) for way, function in functions.items()
        }
        line = f'{name:24s}{len(masks)} masks'
        taken, found = timed_in_turn(ways, args.repeats)
        for way in functions:
            seconds[way].append(taken[way])
            overlaps[way] += map(mask_iou, found[OURS], found[way])
            line += f'  {way} {taken[way]:.4f} s'
        print(line)
    counts = np.array([len(masks) for _, _, masks in images])
    print_summary(seconds, overlaps, counts)
    print_parts([image for _, image, _ in images], args.repeats)


def images_with_masks(
    samples: list[Sample],
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]]:
    """Name, image and 1 to 3 masks, cut in 2D and 3D by turns; white noise and one colour last."""
    for index, sample in enumerate(samples):
        depth, params = (sample.depth, CutParams()) if index % 2 else (None, CutParams.maskcut())
        cuts = cut_patches(link_image(sample.features, depth, params), params).instances[
            : 1 + index % 3
        ]
        if cuts:
            masks = np.stack([enlarge_patches(cut.mask, INPUT_HW) for cut in cuts])
            yield sample.name, sample.image, masks
    noise = np.random.default_rng(0).integers(0, 256, (*INPUT_HW, 3), dtype=np.uint8)
    yield 'white noise', noise, masks
    yield 'one colour', np.full_like(noise, 90), masks


def timed_in_turn(
    ways: Ways, repeats: int
) -> tuple[dict[str, float], dict[str, NDArray[np.bool_]]]:
    """Median CPU seconds of each way, and what it returns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            found[name] = way()
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}, found


def print_summary(
    seconds: dict[str, list[float]], overlaps: dict[str, list[float]], counts: NDArray[np.int64]
) -> None:
    """Print speed and agreement of `refine_masks` against each other way."""
    ours = np.array(seconds.pop(OURS))
    print(summarize(f'ms per image, {OURS}', 1000 * ours))
    for way, taken in seconds.items():
        ratios = np.array(taken) / ours
        print(summarize(f'ms per image, {way}', 1000 * np.array(taken)))
        print(summarize(f'{way} / {OURS}', ratios, 'x'))
        for count in (1, 2, 3):
            if (counts == count).any():
                print(summarize(f'  with {count} masks', ratios[counts == count], 'x'))
        print(f'  all images together        {sum(taken) / ours.sum():.3f}x')
        print(f'  IoU of masks               mean {np.mean(overlaps[way]):.6f} '
              f'min {np.min(overlaps[way]):.6f}')  # fmt: skip


def print_parts(images: list[NDArray[np.uint8]], repeats: int) -> None:
    """Print what the steps of `refine_masks` take, each run alone."""
    spatial = _spatial_lattice(*INPUT_HW, PARAMS.spatial_sigma_px, PARAMS.spatial_weight)
    taken: dict[str, list[float]] = {}
    for image in images:
        start = time.process_time()
        bilateral = _bilateral_lattice(image, PARAMS)
        taken.setdefault('bilateral lattice', []).append(time.process_time() - start)
        for name, step in steps_of(spatial, bilateral).items():
            seconds, _ = timed_in_turn({name: step}, repeats)
            taken.setdefault(name, []).append(PARAMS.num_iterations * seconds[name])
    for name, values in taken.items():
        print(summarize(f'ms of {name}', 1000 * np.array(values)))


def steps_of(spatial: Lattice, bilateral: Lattice) -> dict[str, Callable[[], object]]:
    """The filters of an iteration and its update, on the whole image each, four masks at once."""
    fields = np.full((len(spatial.vertices), 4), 0.5, np.float32)
    steps: dict[str, Callable[[], object]] = {
        'update': partial(kernels._squash, fields.ravel()),
        'spatial filter': partial(filter_values, spatial, fields),
        'bilateral filter': partial(filter_values, bilateral, fields),
    }
    for step in steps.values():  # compiles
        step()
    return steps


if __name__ == '__main__':
    main()

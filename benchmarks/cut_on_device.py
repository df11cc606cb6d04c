"""Cut and refine images by torch and on the CPU: do both find the same, how long does each take?

    python benchmarks/cut_on_device.py --photos DIR --num 36 --device cuda

Embedded features, the recipe `cuts3d`. Without a GPU `--device cpu` tells whether the masks agree;
how fast torch is there says nothing about a GPU.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from samples import Sample, argument_parser, load_samples, mask_iou

from cuts3d_mm.algorithm.cut_instances import ImageCuts, cut_patches, link_image, refine_cuts
from cuts3d_mm.algorithm.cut_on_device import DeviceCutter, refine_on_device, second_eigenvectors
from cuts3d_mm.algorithm.ncut import second_eigenvector, split_foreground
from cuts3d_mm.algorithm.params import CutParams


def main() -> None:
    """Print how far both agree, and seconds of the wall."""
    parser = argument_parser(__doc__)
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--batch-size', type=int, default=16)
    args = parser.parse_args()
    device, params = torch.device(args.device), CutParams()
    images = [link(sample, params) for sample in load_samples(args)]
    compare_solves(images, params, device)
    cutter = DeviceCutter(params, device)
    batches = [
        images[start : start + args.batch_size] for start in range(0, len(images), args.batch_size)
    ]
    cutter.start(lambda: images[:1]).result()  # compiles
    began = time.perf_counter()
    pending = [cutter.start(lambda batch=batch: batch) for batch in batches]
    cut = [image for batch in pending for image in batch.result()]
    taken = time.perf_counter() - began
    again = [image for batch in batches for image in cutter.start(lambda b=batch: b).result()]
    for first, second in zip(cut, again, strict=True):
        np.testing.assert_array_equal(first.on_edges, second.on_edges)
    print(f'device: {1e3 * taken / len(images):.1f} ms per image; a second time the same bits')
    refine_cuts(cut_patches(images[0], params), params)  # compiles
    began = time.perf_counter()
    wanted = [refine_cuts(cut_patches(image, params), params) for image in images]
    taken = time.perf_counter() - began
    print(f'CPU: {1e3 * taken / len(images):.1f} ms per image, one thread')
    print_masks('cut and refined', [refine_cuts(image, params) for image in cut], wanted)
    on_grid = [cut_patches(image, params) for image in images]
    refined = [refine_cuts(refine_on_device(one, params, device), params) for one in on_grid]
    print_masks('refined, cuts of the CPU', refined, wanted)


def link(sample: Sample, params: CutParams) -> ImageCuts:
    """An image whose patches are linked on the CPU."""
    image = link_image(sample.features, sample.depth, params)
    return replace(image, resized=sample.image, image_hw=sample.image.shape[:2])


def compare_solves(images: list[ImageCuts], params: CutParams, device: torch.device) -> None:
    """Print how many second eigenvectors say the same, of whole graphs and of what is left."""
    same, worst, count = 0, 0.0, 0
    for image in images:
        links = image.links
        assert links is not None
        free = np.ones(len(links), bool)
        for _ in range(3):
            (ours,) = second_eigenvectors([links], [free], params.ncut, device)
            theirs = second_eigenvector(links.among(free), free, params.ncut)
            if ours is None or theirs is None:
                assert ours is theirs
                break
            splits = [split_foreground(one.vector, image.grid_hw, free) for one in (ours, theirs)]
            alike = (splits[0].foreground == splits[1].foreground).all()
            same += bool(alike and splits[0].seed == splits[1].seed)
            worst = max(worst, abs(ours.value - theirs.value))
            count += 1
            free = free & ~splits[1].foreground
            if free.sum() < 2:
                break
    print(f'NCut: {same} of {count} solves have the same foreground and seed, '
          f'lambda2 within {worst:.1e}')  # fmt: skip


def print_masks(what: str, found: list[ImageCuts], wanted: list[ImageCuts]) -> None:
    """Print how many masks are equal, and their IoU."""
    pairs = [
        (ours.mask, theirs.mask)
        for one, other in zip(found, wanted, strict=True)
        for ours, theirs in zip(one.instances, other.instances, strict=False)
    ]
    counts = [sum(len(image.instances) for image in images) for images in (found, wanted)]
    overlaps = [mask_iou(*pair) for pair in pairs]
    equal = sum(np.array_equal(*pair) for pair in pairs)
    print(
        f'{what}: {counts[0]} masks, on the CPU {counts[1]}; {equal} equal, '
        f'IoU mean {np.mean(overlaps):.6f}, least {np.min(overlaps):.6f}'
    )


if __name__ == '__main__':
    main()

"""Refuse a request that would fail late, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.learning.choices import is_location
from cuts3d_mm.learning.class_labels import name_as
from cuts3d_mm.learning.class_split import divide_labels
from cuts3d_mm.learning.request import Request
from cuts3d_mm.pipeline.identity import ImageStats, describe_changes, read_image_stats, stat_images


def check_request(request: Request, images: ImageList) -> None:
    """Check where a run writes, and the annotations that it reads.

    Raises:
        ValueError: OUT lies in the folder of the images, or annotations are not as they must be.
    """
    out, root = request.out.resolve(), request.images.resolve()
    if root.is_dir() and out.is_relative_to(root):
        raise ValueError(
            f'OUT must not lie in the folder of IMAGES, since pictures in it would be images of '
            f'the next run, got {request.out}; choose another OUT'
        )
    if request.load_from is not None and not is_location(request.load_from):
        raise ValueError(
            '--load-from must be a release folder, a file of weights, an address or owner/repo on '
            f'the Hugging Face Hub, found none at {request.load_from}'
        )
    if request.annotations is not None:
        truth = read_ground_truth(request.annotations, needs_masks=True)
        name_as(truth, images.names, request.annotations)
    if request.labels is not None:
        divide_labels(request.labels, request.annotations, images.names)


def require_unchanged(images: ImageList, stores: Sequence[Path]) -> None:
    """Check that images which were cut are the files that they were then.

    Raises:
        ValueError: some have changed; the message names them.
    """
    present = set(images.names)
    for store in stores:
        stats = read_image_stats(store / 'images.arrow')
        if stats is None or present.isdisjoint(stats.names):
            continue
        is_there = np.array([name in present for name in stats.names], bool)
        names = tuple(name for name in stats.names if name in present)
        before = ImageStats(names, stats.size[is_there], stats.mtime_ns[is_there])
        changes = describe_changes(before, stat_images(ImageList(images.root, names)))
        if changes:
            raise ValueError(
                f'images must stay as they were when {store} was cut, {"; ".join(changes)}; leave '
                'them out by --exclude, or choose another OUT'
            )

"""Refuse a request that would fail late, before anything is done."""

from __future__ import annotations

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.ground_truth import read_ground_truth
from cuts3d_mm.learning.class_labels import of_images, read_class_labels, require_images
from cuts3d_mm.learning.request import Request


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
    if request.annotations is not None:
        read_ground_truth(request.annotations, needs_masks=True)
    if request.labels is not None:
        labelled = read_class_labels(request.labels)
        require_images(request.labels, labelled, of_images(labelled, images.names))

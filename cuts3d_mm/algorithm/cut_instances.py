"""Cut the instances of one image: the whole recipe. Read this file first.

One image is one pure call. The same steps run CutS3D and, with `CutParams.maskcut()`, the
2D baseline MaskCut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_patches import PatchCuts, RejectedCut, cut_graph
from cuts3d_mm.algorithm.params import CutParams, Similarity
from cuts3d_mm.algorithm.patch_graph import build_patch_graph
from cuts3d_mm.algorithm.proposal import PatchCut
from cuts3d_mm.algorithm.refine import refine_to_image
from cuts3d_mm.arrays import Float, Mask


@dataclass(frozen=True)
class Instance:
    """One pseudo-mask at image size."""

    mask: Mask  # (H, W)
    confidence: Float  # (h, w) share of the cuts that hold a patch, in [0, 1]; 0: off the cut
    score: float  # mean confidence of the patches of the cut, in (0, 1]
    cut: PatchCut  # the instance on the patch grid, with what led to it


@dataclass(frozen=True)
class ImageCuts:
    """The instances of one image, and what led to them."""

    instances: tuple[Instance, ...]  # in the order of the cuts
    rejected: tuple[RejectedCut, ...]  # on the patch grid; refinement's own come last
    depth: Float | None  # (h, w) in [0, 1]; None for a recipe that uses none
    importance: Float | None  # (h, w) in [beta, 1]; None where sharpening is off


def cut_instances(
    features: Float,
    depth: Float | None,
    image: NDArray[np.uint8],
    image_hw: tuple[int, int],
    params: CutParams,
    similarity: Similarity = 'cosine',
) -> ImageCuts:
    """Cut the objects out of one image.

    Args:
        features: (h, w, C) patch features, for instance the keys of a ViT.
        depth: (H', W') of any size and unit, finite, larger is farther; None only where
            the parameters use no depth.
        image: (H'', W'', 3) uint8 RGB, the resized image that the refinement works on.
        image_hw: size of the masks to return, that of the original image.
        params: the recipe.
        similarity: how two features compare.

    Returns:
        At most `params.max_instances` instances; none for an image without structure.
    """
    graph = build_patch_graph(features, depth, params, similarity)
    return refine_cuts(cut_graph(graph, params), image, image_hw, params)


def refine_cuts(
    cuts: PatchCuts, image: NDArray[np.uint8], image_hw: tuple[int, int], params: CutParams
) -> ImageCuts:
    """Bring the instances on the patch grid to image size, along the edges of the image.

    Args:
        cuts: on the patch grid, made with the same parameters.
        image: (H'', W'', 3) uint8 RGB, the resized image that the refinement works on.
        image_hw: size of the masks to return, that of the original image.
        params: the recipe.
    """
    masks = [cut.mask for cut in cuts.accepted]
    refined = refine_to_image(masks, image, image_hw, params.refine)
    instances, rejected = [], list(cuts.rejected)
    for cut, mask in zip(cuts.accepted, refined, strict=True):
        if mask is None:
            rejected.append(RejectedCut(cut.mask, 'refinement changed it too much'))
        else:
            instances.append(_to_instance(cut, mask))
    return ImageCuts(tuple(instances), tuple(rejected), cuts.depth, cuts.importance)


def _to_instance(cut: PatchCut, mask: Mask) -> Instance:
    # Not cropped to the refined mask: the cuts say nothing about patches that it adds.
    return Instance(mask, cut.confidence, float(cut.confidence[cut.mask].mean()), cut)

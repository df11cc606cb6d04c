"""Cut the instances of one image: the whole recipe. Read this file first.

One image is one pure call. The same steps run CutS3D and, with `CutParams.maskcut()`, the
2D baseline MaskCut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_patches import cut_patches
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.algorithm.proposal import PatchCut
from cuts3d_mm.algorithm.refine import refine_to_image

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Instance:
    """One pseudo-mask at image size."""

    mask: Mask  # (H, W)
    confidence: Float  # (h, w) share of the cuts that hold a patch, in [0, 1]; 0: off the cut
    score: float  # mean confidence of the patches of the cut, in (0, 1]
    cut: PatchCut  # the instance on the patch grid, with what led to it


def cut_instances(
    features: Float,
    depth: Float | None,
    image: NDArray[np.uint8],
    image_hw: tuple[int, int],
    params: CutParams,
) -> list[Instance]:
    """Cut the objects out of one image.

    Args:
        features: (h, w, C) patch features, for instance the keys of a ViT.
        depth: (H', W') of any size and unit, finite, larger is farther; None only where
            the parameters use no depth.
        image: (H'', W'', 3) uint8 RGB, the resized image that the refinement works on.
        image_hw: size of the masks to return, that of the original image.
        params: the recipe.

    Returns:
        At most `params.max_instances` instances in the order they were cut; none for an
        image without structure.
    """
    cuts = cut_patches(features, depth, params)
    refined = refine_to_image([cut.mask for cut in cuts], image, image_hw, params.refine)
    return [
        _to_instance(cut, mask)
        for cut, mask in zip(cuts, refined, strict=True)
        if mask is not None
    ]


def _to_instance(cut: PatchCut, mask: Mask) -> Instance:
    # Not cropped to the refined mask: the cuts say nothing about patches that it adds.
    return Instance(mask, cut.confidence, float(cut.confidence[cut.mask].mean()), cut)

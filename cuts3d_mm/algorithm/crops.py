"""Cut the corners of an image too, for objects that are small on the patch grid of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cut_instances import ImageCuts, Instance, cut_patches, refine_cuts
from .masks import mask_iou
from .params import CutParams

_SIDE_SHARE = 0.55  # share of each side of the image that a window shows [O]
_MAX_IOU = 0.5  # IoU above which the instance of the lower score is left out [O]


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels."""

    top: int
    left: int
    image_hw: tuple[int, int]  # of the whole image
    window_hw: tuple[int, int]

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """The part of an (H, W, ...) array of any resolution that the window shows."""
        rows, columns = (
            slice(size * start // whole, max(-(-size * (start + side) // whole), 1))
            for size, start, side, whole in zip(
                values.shape, (self.top, self.left), self.window_hw, self.image_hw, strict=False
            )
        )
        return values[rows, columns]

    def placed(self, values: NDArray[Any], whole_hw: tuple[int, int]) -> NDArray[Any]:
        """Spread (h, w) values of the window over an array of the whole image, 0 elsewhere.

        Several values that fall on one entry leave their largest; an entry in the window takes at
        least the value at its centre.
        """
        whole = np.zeros(whole_hw, values.dtype)
        to_whole, from_whole = [], []
        starts = self.top, self.left
        for n, size, side, start, image in zip(
            values.shape, whole_hw, self.window_hw, starts, self.image_hw, strict=True
        ):
            centres = (np.arange(n) + 0.5) * side / n + start
            to_whole.append((centres * size / image).astype(int))
            centres = ((np.arange(size) + 0.5) * image / size - start) * n / side
            from_whole.append(np.floor(centres).astype(int))
        np.maximum.at(whole, (to_whole[0][:, None], to_whole[1]), values)
        rows, columns = (
            np.flatnonzero((at >= 0) & (at < n))
            for at, n in zip(from_whole, values.shape, strict=True)
        )
        seen = values[from_whole[0][rows][:, None], from_whole[1][columns]]
        whole[rows[:, None], columns] = np.maximum(whole[rows[:, None], columns], seen)
        return whole


def corner_windows(image_hw: tuple[int, int]) -> Iterator[Window]:
    """Yield the windows in the four corners of an image; they overlap in its middle."""
    height, width = (max(1, round(side * _SIDE_SHARE)) for side in image_hw)
    for top in (0, image_hw[0] - height):
        for left in (0, image_hw[1] - width):
            yield Window(top, left, image_hw, (height, width))


def cut_crops(image: ImageCuts, params: CutParams) -> ImageCuts:
    """Cut instances on the patch grids of an image and of its windows."""
    parts = tuple((window, cut_patches(part, params)) for window, part in image.parts)
    return replace(cut_patches(image, params), parts=parts)


def refine_crops(image: ImageCuts, params: CutParams) -> ImageCuts:
    """Refine the instances, and add those of the windows to those of the whole image.

    An instance that a side of its window cuts off is left out, and so is an instance that
    overlaps another of a higher score. Each window may have `max_instances`.

    Returns:
        The whole image, its instances by falling score, with the rejected cuts of all parts that
        are on its own patch grid.
    """
    whole = refine_cuts(image, params)
    found = list(whole.instances)
    for window, part in image.parts:
        for one in refine_cuts(part, params).instances:
            if not _is_cut_off(one, window):
                found.append(_of_the_whole(one, window, whole.grid_hw))
    kept: list[Instance] = []
    for one in sorted(found, key=lambda one: -one.score):
        if all(mask_iou(one.mask, other.mask) <= _MAX_IOU for other in kept):
            kept.append(one)
    return replace(whole, instances=tuple(kept), parts=())


def _is_cut_off(instance: Instance, window: Window) -> bool:
    mask, (height, width) = instance.mask, window.window_hw
    return bool(
        (window.top > 0 and mask[0].any())
        or (window.top + height < window.image_hw[0] and mask[-1].any())
        or (window.left > 0 and mask[:, 0].any())
        or (window.left + width < window.image_hw[1] and mask[:, -1].any())
    )


def _of_the_whole(instance: Instance, window: Window, grid_hw: tuple[int, int]) -> Instance:
    mask = np.zeros(window.image_hw, bool)
    mask[window.top :, window.left :][: window.window_hw[0], : window.window_hw[1]] = instance.mask
    return replace(
        instance,
        mask=mask,
        confidence=window.placed(instance.confidence, grid_hw),
        patches=window.placed(instance.patches, grid_hw),
        semantic_mask=window.placed(instance.semantic_mask, grid_hw),
        eigenvector=window.placed(np.maximum(instance.eigenvector, 0), grid_hw),
    )

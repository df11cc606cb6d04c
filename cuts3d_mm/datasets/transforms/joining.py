"""Join pasted instances with those of the image that they are pasted into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Index
from cuts3d_mm.structures.confidence_masks import ConfidenceBitmapMasks


@dataclass(frozen=True)
class Pasted:
    """What is pasted, and where it goes."""

    masks: ConfidenceBitmapMasks  # (K) of the window's size
    chosen: Index  # (K,) of the source's instances
    window: tuple[slice, slice]  # rows and columns of the target
    covered: NDArray[Any]  # (N,) pixels that each existing instance loses
    areas: NDArray[Any]  # (N,) pixels that each existing instance had


def join_pasted(results: dict[str, Any], source: dict[str, Any], pasted: Pasted) -> None:
    """Cut what is covered, drop what has vanished, append what is pasted."""
    existing = ConfidenceBitmapMasks.certain(results['gt_masks'])
    kept = np.flatnonzero((pasted.covered == 0) | (pasted.covered < pasted.areas))
    joined = _joined_masks(existing, kept, pasted)
    boxes = results['gt_bboxes'][kept].clone()
    cut = np.flatnonzero(pasted.covered[kept])
    if len(cut):
        boxes.tensor[cut] = joined[cut].get_bboxes(type(boxes)).tensor
    added = pasted.masks.get_bboxes(type(boxes))
    added.translate_((pasted.window[1].start, pasted.window[0].start))
    results['gt_bboxes'] = boxes.cat([boxes, added])
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        results[key] = np.concatenate([results[key][kept], source[key][pasted.chosen]])
    results['gt_masks'] = joined


def _joined_masks(
    existing: ConfidenceBitmapMasks, kept: Index, pasted: Pasted
) -> ConfidenceBitmapMasks:
    """Join masks of two sizes on one canvas, each copied once."""
    rows, columns = pasted.window
    count = len(kept)
    shape = count + len(pasted.masks), existing.height, existing.width
    masks, doubt = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for index, old in enumerate(kept):
        masks[index], doubt[index] = existing.masks[old], existing.doubt[old]
    masks[:count, rows, columns] *= ~pasted.masks.masks.any(axis=0)
    masks[count:, rows, columns] = pasted.masks.masks
    doubt[count:, rows, columns] = pasted.masks.doubt
    return ConfidenceBitmapMasks(
        masks,
        existing.height,
        existing.width,
        doubt,
        np.concatenate([existing.scores[kept], pasted.masks.scores]),
        np.concatenate([existing.is_pasted[kept], np.ones(len(pasted.masks), bool)]),
    )

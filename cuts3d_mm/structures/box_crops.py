"""Crop maps to boxes."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import roi_align
from torch import Tensor

from cuts3d_mm.algorithm.confidence import Steps


def crop_boxes(
    values: Steps, bboxes: Any, out_shape: tuple[int, int], inds: Any, device: Any
) -> Tensor:
    """Crop one map per box and scale it to one size.

    Args:
        values: (N, H, W) maps.
        bboxes: (R, 4) x1, y1, x2, y2 in pixels.
        out_shape: h, w of a crop.
        inds: (R,) the map of each box.
        device: where the boxes are and the crops will be.

    Returns:
        (R, h, w) float, mean of the pixels under each cell.
    """
    boxes = torch.as_tensor(bboxes, device=device)
    if len(boxes) == 0 or len(values) == 0:
        return boxes.new_zeros((0, *out_shape))
    index = torch.as_tensor(inds, device=device)
    rois = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    maps = torch.from_numpy(values).to(device)[:, None].to(boxes.dtype)
    return roi_align(maps, rois, out_shape, 1.0, 0, 'avg', True)[:, 0]

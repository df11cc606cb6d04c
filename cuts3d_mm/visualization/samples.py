"""Draw a training sample with everything that the model gets."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.arrays import Float, Mask, Pixels

_OWN, _PASTED = (80, 220, 80), (235, 60, 60)  # RGB
_HEAT = matplotlib.colormaps['magma']


def draw_sample(
    image: Pixels,
    boxes_xyxy: Float,
    masks: Mask,
    confidence: NDArray[np.uint8],
    is_pasted: Mask,
) -> Pixels:
    """Draw boxes and outlines on the left, confidence as heat on the right.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) pixels.
        masks: (N, H, W).
        confidence: (N, H, W) in steps of 1/255.
        is_pasted: (N,) instances that copy-paste has added: red, others green.

    Returns:
        (H, 2 W, 3) uint8 RGB.
    """
    outlined = np.array(image, np.uint8, order='C')
    grey = np.repeat(image.mean(axis=2, keepdims=True) * 0.5, 3, axis=2)
    heat = grey.astype(np.uint8)
    for box, mask, values, pasted in zip(boxes_xyxy, masks, confidence, is_pasted, strict=True):
        color = _PASTED if pasted else _OWN
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(outlined, contours, -1, color, 2)
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(outlined, (left, top), (right, bottom), color, 1)
        heat[mask] = (_HEAT(values[mask])[:, :3] * 255).astype(np.uint8)
    return np.concatenate([outlined, heat], axis=1)

"""Image and instances in, the image with outlined instances out."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_PALETTE = [matplotlib.colormaps['tab10'](index)[:3] for index in range(10)]
_OPACITY = 0.45


def instance_color(index: int) -> NDArray[np.float64]:
    """RGB colour of the i-th instance, in [0, 255]."""
    return np.array(_PALETTE[index % len(_PALETTE)]) * 255


def draw_instances(
    image: Pixels, masks: Sequence[Mask], scores: Sequence[float] | None = None
) -> Pixels:
    """Tint and outline instances, the i-th in the i-th colour of a fixed palette.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W).
        scores: written into each instance, or None.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    drawn = np.ascontiguousarray(image)
    if drawn is image:
        drawn = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 400))
    for index, mask in enumerate(masks):
        color = instance_color(index)
        drawn[mask] = ((1 - _OPACITY) * drawn[mask] + _OPACITY * color).astype(np.uint8)
        outline, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, outline, -1, color.tolist(), thickness)
    for mask, score in zip(masks, scores or (), strict=False):
        _write_score(drawn, mask, score, thickness)
    return drawn


def _write_score(drawn: Pixels, mask: Mask, score: float, thickness: int) -> None:
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return
    place = int(columns.mean()) - 12 * thickness, int(rows.mean())
    font = (cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thickness)
    for color, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.putText(drawn, f'{score:.2f}', place, *font, color, width, cv2.LINE_AA)

"""Tint, outline and label the instances of an image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np

from cuts3d_mm.arrays import Double, Mask, Pixels
from cuts3d_mm.visualization.label_places import place_labels

_PALETTE = [matplotlib.colormaps['tab10'](index)[:3] for index in range(10)]
_OPACITY = 0.35
_PX_PER_OUTLINE_PX, _PX_PER_STROKE_PX = 250, 400  # of the longer side; of text
_DIMMED, _RED, _PX_PER_CROSS_PX = 2, (230, 40, 40), 80  # of pictures that are crossed out
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4  # per pixel of stroke
_PADDING = 3  # px around a label's text, per pixel of stroke
_BRIGHT = 140  # 8-bit luminance of a colour from which black text is easier to read
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of RGB (ITU-R BT.601)


def instance_color(index: int) -> Double:
    """RGB colour of the i-th instance, in [0, 255]."""
    return np.array(_PALETTE[index % len(_PALETTE)]) * 255


def draw_instances(
    image: Pixels,
    masks: Sequence[Mask],
    scores: Sequence[float] | None = None,
    first: int = 0,
    numbers: Sequence[int] | None = None,
) -> Pixels:
    """Tint and outline instances, and write their scores where they hide no object.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W).
        scores: of the instances, or None for no labels.
        first: number of the first instance in the palette; the i-th after it takes the i-th
            colour after that one's.
        numbers: of objects that are followed, from 1; each keeps its colour, and its number is
            written instead of its score.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    drawn = np.array(image, np.uint8, order='C')
    places = range(first, first + len(masks)) if numbers is None else [one - 1 for one in numbers]
    colors = [instance_color(place) for place in places]
    for mask, color in zip(masks, colors, strict=True):
        drawn[mask] = ((1 - _OPACITY) * drawn[mask] + _OPACITY * color).astype(np.uint8)
    drawn = draw_outlines(drawn, masks, colors)
    if numbers is not None:
        _write_labels(drawn, masks, [str(number) for number in numbers], colors)
    elif scores is not None:
        _write_labels(drawn, masks, [f'{score:.2f}' for score in scores], colors)
    return drawn


def draw_outlines(image: Pixels, masks: Sequence[Mask], colors: Sequence[Double]) -> Pixels:
    """Draw the borders of masks, those of holes too, each in a colour."""
    drawn = np.array(image, np.uint8, order='C')
    thickness = max(1, round(max(image.shape[:2]) / _PX_PER_OUTLINE_PX))
    for mask, color in zip(masks, colors, strict=True):
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outline, -1, color.tolist(), thickness)
    return drawn


def cross_out(image: Pixels) -> Pixels:
    """Dim a (H, W, 3) picture and draw a red cross over all of it."""
    height, width = image.shape[:2]
    drawn = np.array(image // _DIMMED, np.uint8, order='C')
    thickness = max(1, max(height, width) // _PX_PER_CROSS_PX)
    for start, end in (((0, 0), (width, height)), ((0, height), (width, 0))):
        cv2.line(drawn, start, end, _RED, thickness, cv2.LINE_AA)
    return drawn


def _write_labels(
    drawn: Pixels,
    masks: Sequence[Mask],
    texts: Sequence[str],
    colors: Sequence[Double],
) -> None:
    visible = [index for index, mask in enumerate(masks) if mask.any()]
    stroke = max(1, round(max(drawn.shape[:2]) / _PX_PER_STROKE_PX))
    font = _FONT, _FONT_SCALE * stroke
    padding = _PADDING * stroke
    sizes_wh = []
    for index in visible:
        (width, height), _ = cv2.getTextSize(texts[index], *font, stroke)
        sizes_wh.append((width + 2 * padding, height + 2 * padding))
    corners = place_labels([masks[index] for index in visible], sizes_wh)
    for index, (x, y), (width, height) in zip(visible, corners, sizes_wh, strict=True):
        color = colors[index]
        ink = (0, 0, 0) if color @ _LUMINANCE > _BRIGHT else (255, 255, 255)
        drawn[y : y + height, x : x + width] = color
        place = x + padding, y + height - padding
        cv2.putText(drawn, texts[index], place, *font, ink, stroke, cv2.LINE_AA)

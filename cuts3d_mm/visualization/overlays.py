"""Draw instances over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, product
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS
from cuts3d_mm.algorithm.masks import box_xywh
from cuts3d_mm.arrays import Double, Float, Mask, Pixels
from cuts3d_mm.files.atomic import write_lines
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_labelled_image, resize_rgb
from cuts3d_mm.labels.record import ImageRecord, decode_mask

from .pictures import picture_name, save_picture

_PALETTE = [matplotlib.colormaps['tab10'](index)[:3] for index in range(10)]
_OPACITY = 0.35
# Pixels of the longer side of a picture for each pixel of a line.
_PX_PER_OUTLINE_PX, _PX_PER_STROKE_PX, _PX_PER_CROSS_PX = 250, 400, 80
_WHITE = (255, 255, 255)
_DIMMED, _RED = 2, (230, 40, 40)  # divisor of the pixels, and colour, of a crossed-out picture
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4  # per pixel of stroke
_PADDING = 3  # px around a label's text, per pixel of stroke
_MOST_HIDDEN = 0.1  # share of an object that a label may hide; otherwise it is left out
_BRIGHT = 140  # 8-bit luminance of a colour from which black text is easier to read
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # weights of R, G and B (ITU-R BT.601)
Point = tuple[int, int]  # x, y in pixels
_OWN, _PASTED = (80, 220, 80), (235, 60, 60)  # RGB
_HEAT = matplotlib.colormaps['magma']


def instance_color(index: int) -> Double:
    """RGB colour of the i-th instance, in [0, 255]."""
    return np.array(_PALETTE[index % len(_PALETTE)]) * 255


def draw_instances(
    image: Pixels,
    masks: Sequence[Mask],
    scores: Sequence[float] | None = None,
    first: int = 0,
    numbers: Sequence[int] | None = None,
    categories: Sequence[str | None] | None = None,
) -> Pixels:
    """Tint and outline instances, and write their scores where they hide no object.

    Args:
        image: the image.
        masks: (H, W) mask of each instance.
        scores: score of each instance, written next to it; None for no texts.
        first: place of the first instance in the palette; the others follow it.
        numbers: numbers of objects that are followed, from 1, written instead of scores; a
            number has the same colour in every image.
        categories: name of the class of each instance, written before its score.
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
        names = categories or [None] * len(masks)
        texts = [
            f'{name or ""} {score:.2f}'.strip() for name, score in zip(names, scores, strict=True)
        ]
        _write_labels(drawn, masks, texts, colors)
    return drawn


def draw_outlines(image: Pixels, masks: Sequence[Mask], colors: Sequence[Double]) -> Pixels:
    """Draw the borders of masks, those of holes too, each in a colour on a white line.

    Without the white line nobody sees a red border on a red car.
    """
    drawn = np.array(image, np.uint8, order='C')
    thickness = max(1, round(max(image.shape[:2]) / _PX_PER_OUTLINE_PX))
    for mask, color in zip(masks, colors, strict=True):
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outline, -1, _WHITE, thickness + 2)
        cv2.drawContours(drawn, outline, -1, color.tolist(), thickness)
    return drawn


def resize_mask(mask: Mask, image_hw: tuple[int, int]) -> Mask:
    """Resize a mask to another size of its image, by nearest neighbour."""
    values = mask.astype(np.uint8)
    return cv2.resize(values, image_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0


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
    for index, corner, (width, height) in zip(visible, corners, sizes_wh, strict=True):
        if corner is None:
            continue
        x, y = corner
        color = colors[index]
        ink = (0, 0, 0) if color @ _LUMINANCE > _BRIGHT else (255, 255, 255)
        drawn[y : y + height, x : x + width] = color
        place = x + padding, y + height - padding
        cv2.putText(drawn, texts[index], place, *font, ink, stroke, cv2.LINE_AA)


def place_labels(masks: Sequence[Mask], sizes_wh: Sequence[Point]) -> list[Point | None]:
    """Choose a place for the label of each mask, next to it rather than on it.

    A label takes that place around its box, or in a corner of the box, where it hides the least
    of all objects, its own included, as shares of their areas. Labels avoid each other.

    Args:
        masks: (H, W) masks that are not empty.
        sizes_wh: size of each label in pixels.

    Returns:
        Upper left corner of each label, in the image wherever the label fits into it; None where
        it would hide a tenth of an object, or another label.
    """
    corners: list[Point | None] = []
    if not masks:
        return corners
    hidden_share = np.zeros(masks[0].shape)
    for mask in masks:
        hidden_share += mask / mask.sum()
    for mask, size_wh in zip(masks, sizes_wh, strict=True):
        width, height = size_wh
        hidden = [
            (hidden_share[y : y + height, x : x + width].sum(), (x, y))
            for x, y in _candidates(mask, size_wh)
        ]
        least, (x, y) = min(hidden, key=lambda one: one[0])
        is_free = least <= _MOST_HIDDEN
        corners.append((x, y) if is_free else None)
        if is_free:
            hidden_share[y : y + height, x : x + width] += 1
    return corners


def _candidates(mask: Mask, size_wh: Point) -> list[Point]:
    """Places around the box of a mask, then in its corners; above comes first."""
    width, height = size_wh
    left, top, box_width, box_height = box_xywh(mask)
    right, bottom = left + box_width, top + box_height
    along_x = left, right - width, (left + right - width) // 2
    along_y = top, bottom - height, (top + bottom - height) // 2
    places = [
        *product(along_x, (top - height,)),
        *product(along_x, (bottom,)),
        *product((left - width, right), along_y),
        *product(along_x[:2], along_y[:2]),
    ]
    last_x, last_y = max(0, mask.shape[1] - width), max(0, mask.shape[0] - height)
    return [(min(max(0, x), last_x), min(max(0, y), last_y)) for x, y in places]


def draw_sample(
    image: Pixels,
    boxes_xyxy: Float,
    masks: Mask,
    doubt: NDArray[np.uint8],
    is_pasted: Mask,
) -> Pixels:
    """Draw a training sample: boxes and outlines on the left, confidence as heat on the right.

    Args:
        image: the image.
        boxes_xyxy: (N, 4) boxes in pixels.
        masks: (N, H, W) masks.
        doubt: (N, H, W) 1 - confidence in steps of 1/255.
        is_pasted: (N,) whether copy-paste has added the instance: red; others are green.
    """
    outlined = np.array(image, np.uint8, order='C')
    grey = np.repeat(image.mean(axis=2, keepdims=True) * 0.5, 3, axis=2)
    heat = grey.astype(np.uint8)
    for box, mask, values, pasted in zip(boxes_xyxy, masks, doubt, is_pasted, strict=True):
        color = _PASTED if pasted else _OWN
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(outlined, contours, -1, color, 2)
        left, top, right, bottom = (round(float(value)) for value in box)
        cv2.rectangle(outlined, (left, top), (right, bottom), color, 1)
        heat[mask] = (_HEAT(CONFIDENCE_STEPS - values[mask])[:, :3] * 255).astype(np.uint8)
    return np.concatenate([outlined, heat], axis=1)


def draw_records(
    records: Iterable[ImageRecord], images: Place, out: Path, limit: int | None = None
) -> tuple[int, list[tuple[str, str]]]:
    """Draw labelled images under their own names, folders included, into another folder.

    Images that could not be labelled are left out, `limit` of the others are drawn. Images that
    cannot be drawn are listed in `out/not_drawn.jsonl`, a line each.

    Returns:
        Number of drawn images, and name and reason of each image that cannot be drawn.
    """
    if out.resolve() == images.resolve():
        raise ValueError(f'--out must be another folder than --images, got {out} for both')
    out.mkdir(parents=True, exist_ok=True)
    failures = []
    num_drawn = 0
    labelled = (record for record in records if record.failure is None)
    for record in islice(labelled, limit):
        try:
            path = path_to_write(out, picture_name(record.name))
            save_picture(path, draw_record(record, images))
            num_drawn += 1
        except (ImageFailure, BadName) as failure:
            failures.append((record.name, str(failure)))
    listed = out / 'not_drawn.jsonl'
    listed.unlink(missing_ok=True)  # a list of an earlier call
    if failures:
        write_lines(listed, ({'path': name, 'reason': reason} for name, reason in failures))
    return num_drawn, failures


def draw_record(
    record: ImageRecord, images: Place, longest_px: int | None = None, with_scores: bool = True
) -> Pixels:
    """Read an image and draw its instances, scaled down to `longest_px` of its longer side.

    Raises:
        ImageFailure: the image cannot be read or has another size than its labels.
    """
    pixels = read_labelled_image(images, record)
    masks = [decode_mask(instance, record.image_hw) for instance in record.instances]
    longest = max(record.image_hw)
    if longest_px is not None and longest > longest_px:
        height, width = (max(1, round(size * longest_px / longest)) for size in record.image_hw)
        pixels = resize_rgb(pixels, (height, width))
        masks = [resize_mask(mask, (height, width)) for mask in masks]
    scores = [instance.score for instance in record.instances] if with_scores else None
    names = [instance.category for instance in record.instances]
    return draw_instances(pixels, masks, scores, categories=names)

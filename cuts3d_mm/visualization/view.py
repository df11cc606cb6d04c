"""Draw labelled images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from cuts3d_mm.arrays import Mask, Pixels
from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.paths import BadName, path_to_write
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_named_image, resize_rgb
from cuts3d_mm.labels.record import ImageRecord, decode_mask
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import picture_name, save_picture


@dataclass(frozen=True)
class Drawn:
    """What became of the images."""

    num_drawn: int
    failures: tuple[tuple[str, str], ...]  # name and reason of those that are left out


def draw_records(
    records: Iterable[ImageRecord], images: Place, out: Path, limit: int | None = None
) -> Drawn:
    """Draw labelled images under their own names, folders included.

    Those that could not be labelled are left out. What cannot be drawn is listed in
    `out/not_drawn.jsonl`, a line each.

    Args:
        records: of the images.
        images: folder that they were labelled in.
        out: another folder, created if it does not exist.
        limit: most images.
    """
    if out.resolve() == images.resolve():
        raise ValueError(f'--out must be another folder than --images, got {out} for both')
    out.mkdir(parents=True, exist_ok=True)
    failures = []
    num_seen = 0
    labelled = (record for record in records if record.failure is None)
    for record in islice(labelled, limit):
        num_seen += 1
        try:
            path = path_to_write(out, picture_name(record.name))
            save_picture(path, draw_record(record, images))
        except (ImageFailure, BadName) as failure:
            failures.append((record.name, str(failure)))
    _write_failures(out / 'not_drawn.jsonl', failures)
    return Drawn(num_seen - len(failures), tuple(failures))


def draw_record(record: ImageRecord, images: Place, longest_px: int | None = None) -> Pixels:
    """Read an image and draw its instances with their scores.

    Args:
        record: of the image.
        images: folder that it was labelled in.
        longest_px: most pixels of the longer side of the picture; None keeps the size.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageFailure: the image cannot be read or has another size than its labels.
    """
    pixels = read_named_image(images, record.name)
    if pixels.shape[:2] != record.image_hw:
        raise ImageFailure(
            f'image must be {record.image_hw} (height, width) as labelled, got {pixels.shape[:2]}'
        )
    masks = [decode_mask(instance, record.image_hw) for instance in record.instances]
    longest = max(record.image_hw)
    if longest_px is not None and longest > longest_px:
        height, width = (max(1, round(size * longest_px / longest)) for size in record.image_hw)
        pixels = resize_rgb(pixels, (height, width))
        masks = [_resize_mask(mask, (width, height)) for mask in masks]
    return draw_instances(pixels, masks, [instance.score for instance in record.instances])


def _resize_mask(mask: Mask, size_wh: tuple[int, int]) -> Mask:
    return cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST) > 0


def _write_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    with open_atomically(path) as file:
        for name, reason in failures:
            line = json.dumps({'path': name, 'reason': reason}, ensure_ascii=False)
            file.write(line.encode('utf-8', 'backslashreplace') + b'\n')

"""Draw instances as small pictures, and sheets of the instances of a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from cuts3d_mm.arrays import Index, Pixels
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_named_image
from cuts3d_mm.labels.naming import Member, StoredGroups
from cuts3d_mm.labels.record import ImageRecord, decode_mask

from .overlays import draw_outlines, instance_color
from .pictures import save_picture

TILE_PX = 128
_COLUMNS, _TYPICAL, _EDGE = 8, 24, 8  # columns of a sheet; most typical instances and edge cases
_MARGIN = 0.15  # share of the longer side of the box that is shown around it
_GREY, _WHITE = 200, 255  # 8-bit luminance of what is missing, and of the gaps
_GAP_PX = 12  # px between the typical instances and the edge cases


def draw_tile(pixels: Pixels, record: ImageRecord, index: int) -> Pixels:
    """Draw an instance with a little of what is around it, (TILE_PX, TILE_PX, 3)."""
    instance = record.instances[index]
    mask = decode_mask(instance, record.image_hw)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    sides = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    margin = int(_MARGIN * max(sides)) + 1
    window = tuple(
        slice(max(0, found[0] - margin), found[-1] + 1 + margin) for found in (rows, columns)
    )
    part = pixels[window]
    scale = TILE_PX / max(part.shape[:2])
    height, width = (max(1, round(side * scale)) for side in part.shape[:2])
    tile = np.full((TILE_PX, TILE_PX, 3), _GREY, np.uint8)
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    inside = cv2.resize(
        mask[window].astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )
    drawn = draw_outlines(small, [inside > 0], [instance_color(0)])
    tile[top : top + height, left : left + width] = drawn
    return tile


def missing_tile() -> Pixels:
    """Draw a grey tile, for an image that cannot be read."""
    return np.full((TILE_PX, TILE_PX, 3), _GREY, np.uint8)


def draw_tiles(
    records: Iterable[ImageRecord], images: Place, members: Iterable[Member]
) -> dict[Member, Pixels]:
    """Draw instances; each image is read once.

    Args:
        records: labels that hold the instances.
        images: folder that was labelled.
        members: image and index of each instance.
    """
    wanted = defaultdict(list)
    for name, index in members:
        wanted[name].append(index)
    tiles = {}
    for record in records:
        if record.name not in wanted:
            continue
        try:
            pixels = read_named_image(images, record.name)
        except ImageFailure:
            pixels = None
        for index in wanted[record.name]:
            fits = pixels is not None and pixels.shape[:2] == record.image_hw
            tile = draw_tile(pixels, record, index) if fits else missing_tile()
            tiles[record.name, index] = tile
    return tiles


def choose_shown(group: Index, distance: Sequence[float]) -> dict[int, tuple[Index, Index]]:
    """Choose the most typical instances of each group, and its edge cases, farthest last.

    Args:
        group: (N,) group of each instance; a group below 0 is none.
        distance: (N,) distance to the centre of the group.
    """
    order = np.lexsort((distance, group))
    chosen = {}
    for number in np.unique(group[group >= 0]).tolist():
        here = order[np.searchsorted(group[order], number) :][: int((group == number).sum())]
        chosen[number] = here[:_TYPICAL], here[max(_TYPICAL, len(here) - _EDGE) :]
    return chosen


def write_sheets(
    records: Iterable[ImageRecord], images: Place, groups: StoredGroups, out: Path
) -> list[Path]:
    """Write a contact sheet for each group: most typical instances first, then edge cases."""
    chosen = choose_shown(groups.group, groups.distance)
    shown = [place for parts in chosen.values() for part in parts for place in part]
    tiles = draw_tiles(records, images, [groups.members[place] for place in shown])
    paths = []
    for number, parts in chosen.items():
        rows = [
            _grid([tiles[groups.members[place]] for place in part]) for part in parts if len(part)
        ]
        gap = np.full((_GAP_PX, rows[0].shape[1], 3), _WHITE, np.uint8)
        sheet = np.concatenate([rows[0], *(one for row in rows[1:] for one in (gap, row))])
        paths.append(out / f'group_{number:04d}.jpg')
        save_picture(paths[-1], sheet)
    return paths


def _grid(tiles: Sequence[Pixels]) -> Pixels:
    blank = np.full_like(tiles[0], _WHITE)
    padded = [*tiles, *[blank] * (-len(tiles) % _COLUMNS)]
    rows = [padded[start : start + _COLUMNS] for start in range(0, len(padded), _COLUMNS)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])

"""Draw sheets of small pictures: of labelled images, and of the instances of a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from cuts3d_mm.algorithm.masks import box_xywh
from cuts3d_mm.arrays import Float, Index, Pixels
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_labelled_image, resize_rgb
from cuts3d_mm.labels.naming import Member, StoredGroups
from cuts3d_mm.labels.record import ImageRecord, decode_mask

from .overlays import draw_outlines, draw_record, instance_color, resize_mask
from .pictures import save_picture

NUM_SHOWN = 36  # labelled images of a sheet
_IMAGE_COLUMNS, _IMAGE_PX, _IMAGE_GAP_PX = 6, 240, 4  # columns; side of a tile and gap, px
TILE_PX = 128
COLUMNS, _TYPICAL, _EDGE = 8, 24, 8  # columns of a sheet; most typical instances and edge cases
_MARGIN = 0.15  # share of the longer side of the box that is shown around it
_GREY, _WHITE = 200, 255  # 8-bit luminance of what is missing, and of the gaps
_MISSING = np.full((TILE_PX, TILE_PX, 3), _GREY, np.uint8)
_GAP_PX = 12  # px between the typical instances and the edge cases


def draw_sheet(images: Place, records: Iterable[ImageRecord]) -> Pixels:
    """Draw labelled images in a grid; those that cannot be read are left out."""
    blank = np.full((_IMAGE_PX, _IMAGE_PX, 3), _WHITE, np.uint8)
    tiles = []
    for record in records:
        with suppress(ImageFailure):
            drawn = draw_record(record, images, _IMAGE_PX - _IMAGE_GAP_PX, with_scores=False)
            tiles.append(blank.copy())
            tiles[-1][: drawn.shape[0], : drawn.shape[1]] = drawn
    return join_tiles(tiles or [blank], _IMAGE_COLUMNS)


def draw_tile(pixels: Pixels, record: ImageRecord, index: int) -> Pixels:
    """Draw an instance with a little of what is around it, (TILE_PX, TILE_PX, 3)."""
    instance = record.instances[index]
    mask = decode_mask(instance, record.image_hw)
    left, top, width, height = box_xywh(mask)
    margin = int(_MARGIN * max(width, height)) + 1
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    part = pixels[rows, columns]
    scale = TILE_PX / max(part.shape[:2])
    height, width = (max(1, round(side * scale)) for side in part.shape[:2])
    tile = _MISSING.copy()
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    inside = resize_mask(mask[rows, columns], (height, width))
    drawn = draw_outlines(resize_rgb(part, (height, width)), [inside], [instance_color(0)])
    tile[top : top + height, left : left + width] = drawn
    return tile


def draw_tiles(
    records: Iterable[ImageRecord], images: Place, members: Iterable[Member]
) -> dict[Member, Pixels]:
    """Draw instances, named by image and index, out of the labels that hold them."""
    wanted = defaultdict(list)
    for name, index in members:
        wanted[name].append(index)
    tiles: dict[Member, Pixels] = {}
    for record in records:
        if record.name not in wanted:
            continue
        tiles |= {(record.name, index): _MISSING for index in wanted[record.name]}
        with suppress(ImageFailure):
            pixels = read_labelled_image(images, record)
            for index in wanted[record.name]:
                tiles[record.name, index] = draw_tile(pixels, record, index)
    return tiles


def choose_shown(places: Index, distance: Float) -> tuple[Index, Index]:
    """Choose the most typical instances of a group, and its edge cases, the farthest last.

    Args:
        places: (N,) numbers of the instances.
        distance: (N,) distance of each to the centre of the group.
    """
    ordered = places[np.argsort(distance, kind='stable')]
    return ordered[:_TYPICAL], ordered[max(_TYPICAL, len(ordered) - _EDGE) :]


def write_sheets(
    records: Iterable[ImageRecord], images: Place, groups: StoredGroups, out: Path
) -> list[Path]:
    """Write a contact sheet for each group: most typical instances first, then edge cases."""
    numbers = np.unique(groups.group[groups.group >= 0]).tolist()
    members = [np.flatnonzero(groups.group == number) for number in numbers]
    chosen = [choose_shown(places, groups.distance[places]) for places in members]
    shown = [groups.members[place] for parts in chosen for place in np.concatenate(parts)]
    tiles = draw_tiles(records, images, shown)
    paths = []
    for number, parts in zip(numbers, chosen, strict=True):
        rows = [
            join_tiles([tiles[groups.members[place]] for place in part], COLUMNS)
            for part in parts
            if len(part)
        ]
        gap = np.full((_GAP_PX, rows[0].shape[1], 3), _WHITE, np.uint8)
        sheet = np.concatenate([rows[0], *(one for row in rows[1:] for one in (gap, row))])
        paths.append(out / f'group_{number:04d}.jpg')
        save_picture(paths[-1], sheet)
    return paths


def join_tiles(tiles: Sequence[Pixels], columns: int) -> Pixels:
    """Put tiles of one size side by side, row by row."""
    blank = np.full_like(tiles[0], _WHITE)
    padded = [*tiles, *[blank] * (-len(tiles) % columns)]
    rows = [padded[start : start + columns] for start in range(0, len(padded), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])

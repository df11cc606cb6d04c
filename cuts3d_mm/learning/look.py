"""Look at the images of a run before anything is planned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cuts3d_mm.files.paths import BadName, path_inside
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.images.reading import ImageFailure, read_image_hw
from cuts3d_mm.learning.selection import in_random_order

_MOST_IMAGES = 10_000  # that are opened; of more, these at random
_THREADS = 16  # a network file system answers many questions at a time
_SHOWN = 3  # unreadable files that are named


@dataclass(frozen=True)
class Look:
    """Number of images, and what those that were opened look like."""

    num_images: int
    num_opened: int
    unreadable: tuple[str, ...]  # names
    smallest_hw: tuple[int, int]  # pixels, by area
    median_hw: tuple[int, int]
    largest_hw: tuple[int, int]

    def describe(self) -> list[str]:
        """Say it in lines of text."""
        height_width = [self.smallest_hw, self.median_hw, self.largest_hw]
        small, median, large = (f'{width} x {height}' for height, width in height_width)
        opened = '' if self.num_opened == self.num_images else f' ({self.num_opened} were opened)'
        lines = [
            f'{self.num_images} images{opened}, {small} to {large} pixels, {median} in the middle'
        ]
        if self.unreadable:
            rest = len(self.unreadable) - _SHOWN
            more = f' and {rest} others' if rest > 0 else ''
            named = ', '.join(self.unreadable[:_SHOWN])
            lines.append(f'{len(self.unreadable)} cannot be read: {named}{more}')
        return lines


def look_at(images: ImageList) -> Look:
    """Open the images, or 10,000 of them, and read their sizes.

    Raises:
        ValueError: none can be read.
    """
    names = in_random_order(images.names, 'look')[:_MOST_IMAGES]
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(partial(_size, Path(str(images.root))), names))
    unreadable = tuple(
        sorted(name for name, size in zip(names, sizes, strict=True) if size is None)
    )
    found = sorted((size for size in sizes if size is not None), key=np.prod)
    if not found:
        raise ValueError(
            f'IMAGES must hold an image that can be read, of {len(names)} there is none, such as '
            f'{names[0]}'
        )
    return Look(
        len(images.names), len(names), unreadable, found[0], found[len(found) // 2], found[-1]
    )


def _size(root: Path, name: str) -> tuple[int, int] | None:
    try:
        return read_image_hw(path_inside(root, name))
    except (BadName, ImageFailure):
        return None

"""What a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib.figure import Figure

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.visualization.pictures import encode_figure, encode_picture

_FIGURE_DPI = 100


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table; the first column is aligned to the left, the others to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ''


@dataclass(frozen=True)
class Picture:
    """An encoded picture with a caption; `of_pixels` and `of_figure` make one."""

    encoded: bytes
    media_type: str
    caption: str = ''

    @classmethod
    def of_pixels(cls, pixels: Pixels, caption: str = '') -> Picture:
        """Encode (H, W, 3) uint8 RGB."""
        return cls(encode_picture(pixels, 'JPEG'), 'image/jpeg', caption)

    @classmethod
    def of_figure(cls, figure: Figure, caption: str = '') -> Picture:
        """Encode a figure of matplotlib."""
        return cls(encode_figure(figure, 'webp', _FIGURE_DPI), 'image/webp', caption)


@dataclass(frozen=True)
class Row:
    """Pictures next to each other, of equal width."""

    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Details:
    """Blocks that are shown when a reader opens them."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """Blocks under a heading, linked from the top of the page."""

    title: str
    blocks: Sequence[Block]


Block: TypeAlias = Text | Table | Picture | Row | Details

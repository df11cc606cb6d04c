"""What the entries of a COCO JSON must hold."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS
from cuts3d_mm.labels.json_entries import Entry
from cuts3d_mm.labels.record import OLDER_LOWER_BOUND
from cuts3d_mm.labels.run_length import MAX_CODE_BYTES, MAX_IMAGE_PIXELS

CATEGORY_ID = 1
CATEGORIES = [{'id': CATEGORY_ID, 'name': 'object'}]
# The same for MMDetection: class names and RGB colours.
DATASET_META: dict[str, Any] = {'classes': ('object',), 'palette': [(220, 20, 60)]}
MAX_ID = 2**53  # larger ones are no longer told apart as floating-point numbers
MAX_COORDINATE_PX = 2**24  # likewise in 32 bits

Id = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)]
Side = Annotated[int, Meta(ge=1, le=MAX_IMAGE_PIXELS)]
Count = Annotated[int, Meta(ge=0, le=MAX_IMAGE_PIXELS)]
Cell = Annotated[int, Meta(ge=0, le=2**15 - 1)]  # stored in 16 bits
Number = Annotated[float, Meta(ge=-MAX_COORDINATE_PX, le=MAX_COORDINATE_PX)]
Length = Annotated[float, Meta(ge=0, le=MAX_COORDINATE_PX)]
Flag = Annotated[int, Meta(ge=0, le=1)] | bool


class CocoName(msgspec.Struct, frozen=True):
    """The name of an image, where no more is asked for."""

    file_name: str


class CocoImage(msgspec.Struct, frozen=True):
    """An element of `images`."""

    file_name: Annotated[str, Meta(min_length=1, max_length=4096)]
    id: Id
    height: Side
    width: Side

    def __post_init__(self) -> None:
        """Check the size."""
        if self.height * self.width > MAX_IMAGE_PIXELS:
            raise ValueError(
                f'must have at most {MAX_IMAGE_PIXELS} pixels, has {self.height} x {self.width}'
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size in pixels."""
        return self.height, self.width


class RunLengths(msgspec.Struct, frozen=True):
    """A mask as run lengths: compressed in a string, or one by one."""

    size: tuple[Side, Side]  # H, W
    counts: Annotated[str, Meta(max_length=MAX_CODE_BYTES)] | list[Count]


class StoredConfidence(msgspec.Struct, frozen=True):
    """A confidence map as `cuts3d export` writes it."""

    grid_hw: tuple[Cell, Cell]
    crop_xywh: tuple[Cell, Cell, Cell, Cell]
    values: str
    lower_bound: Annotated[int, Meta(ge=0, le=CONFIDENCE_STEPS)] = OLDER_LOWER_BOUND


Polygons = list[list[float]]


class CocoAnnotation(msgspec.Struct, frozen=True):
    """An element of `annotations`, of any class."""

    id: Id
    image_id: Id
    bbox: tuple[Number, Number, Length, Length]  # x, y, width, height in pixels
    segmentation: Polygons | RunLengths | None = None
    area: Annotated[float, Meta(ge=0)] | None = None
    iscrowd: Flag = 0
    ignore: Flag = 0
    score: Annotated[float, Meta(ge=0, le=1)] = 1.0
    confidence: StoredConfidence | None = None

    def __post_init__(self) -> None:
        """Check what the parser may let through, though JSON has no word for it."""
        if not all(map(math.isfinite, (*self.bbox, self.score, self.area or 0))):
            raise ValueError('must have finite numbers in bbox, area and score')


T = TypeVar('T', bound=msgspec.Struct)


def convert_entry(entry: Entry, kind: type[T]) -> T:
    """Check an entry and give it its type; keys that the type lacks are left out.

    Raises:
        ValueError: the entry is not of that type; the message names it and what must hold.
    """
    try:
        return msgspec.convert(entry.value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(entry.where + _describe(str(error))) from None


def _describe(message: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.id`" into ".id must be int, got str"."""
    text, _, place = message.replace('`', '').partition(' - at $')
    for theirs, ours in (
        ('Expected ', 'must be '),
        ('Object missing required field ', 'must have '),
        ('must', 'must'),
    ):
        if text.startswith(theirs):
            return f'{place} {ours}{text.removeprefix(theirs)}'
    return f'{place} is wrong: {text[:1].lower()}{text[1:]}'

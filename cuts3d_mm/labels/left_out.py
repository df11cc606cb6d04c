"""Count the objects that readers of COCO JSON leave out or correct, and say so once."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Literal

Crowd = Literal['ignore', 'objects']
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
# Tools round boxes, and some count the last pixel and some do not: edges differ by up to 2 px.
BOX_TOLERANCE_PX = 2.0
_FEW, _FEW_OF_ALL = 10, 0.01  # objects without a mask or area that are left out
CROWD_REMEDY = "--crowd objects, or crowd='objects', reads them as objects"


class BoxesAlone(ValueError):
    """A file holds boxes where masks are needed."""


class LabelWarning(UserWarning):
    """Something in a file of labels was left out or corrected."""


@dataclass
class Remarks:
    """Counts of what a reader leaves out of a file, or corrects in it."""

    crowds: int = 0  # regions that are marked as crowds
    without_area: int = 0  # objects that cover no pixel
    boxes: int = 0  # boxes that contradict their masks
    without_mask: int = 0  # objects that have no mask where one is needed
    orphans: int = 0  # objects of images that are not in the file
    num_objects: int = 0  # annotations of the file, crowds and all of the above included

    def check(self, source: object) -> None:
        """Check that few objects of a file have no mask or no area.

        Raises:
            BoxesAlone: no object has a mask.
            ValueError: more than 1 % have no mask or area, and more than 10, or all.
        """
        useless = self.without_mask + self.without_area
        num_objects = self.num_objects - self.orphans
        if self.without_mask and self.without_mask >= num_objects:
            raise BoxesAlone(
                f'{source}: annotations must have a segmentation, all {self.without_mask} have '
                'none; the file holds boxes alone, of which no mask can be read'
            )
        if useless and useless > min(max(_FEW, num_objects * _FEW_OF_ALL), num_objects - 1):
            raise ValueError(
                f'{source}: annotations must have a mask with an area, {useless} of '
                f'{num_objects} have none; correct the file or remove them'
            )

    def warn(self, source: object) -> None:
        """Say each count in a warning that names the source."""
        for count, text in (
            (self.crowds, f'marked iscrowd, left out as objects; {CROWD_REMEDY}'),
            (self.without_area, 'without area, left out'),
            (self.without_mask, 'without a mask, left out'),
            (self.orphans, 'whose image is not in the file, left out'),
            (self.boxes, 'whose box contradicts the mask; the box of the mask is used'),
        ):
            if count:
                said = f'{source}: {count} object{"s" * (count > 1)} {text}'
                warnings.warn(said, LabelWarning, stacklevel=_outside())


def _outside() -> int:
    """Level of the first caller outside of this package, as `Remarks.warn` counts it."""
    level, frame = 1, sys._getframe(1)
    package = __name__.partition('.')[0]
    while frame.f_back is not None and frame.f_globals['__name__'].startswith(package):
        level, frame = level + 1, frame.f_back
    return level


def polygon_box(polygons: list[list[float]]) -> Box:
    """Give the box of the points of polygons, at least one point."""
    x, y = ([value for one in polygons for value in one[axis::2]] for axis in (0, 1))
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def contradicts(box: Box, other: Box) -> bool:
    """Whether an edge of a box lies farther than the tolerance from that of another."""
    steps = (
        box[0] - other[0],
        box[1] - other[1],
        box[0] + box[2] - other[0] - other[2],
        box[1] + box[3] - other[1] - other[3],
    )
    return max(map(abs, steps)) > BOX_TOLERANCE_PX

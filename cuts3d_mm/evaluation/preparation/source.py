"""Hold a data set in one form, whatever its official format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ImageHW = tuple[int, int]


@dataclass(frozen=True)
class SourceImage:
    """One image of a data set."""

    key: str  # what the annotations call it
    file_name: str  # relative to the image folder
    image_hw: ImageHW | None = None  # as the annotations state it; None where they do not


@dataclass(frozen=True)
class SourceAnnotation:
    """One object of an image."""

    key: str  # of the image
    box_xywh: tuple[float, float, float, float]  # pixels, may reach out of the image
    is_crowd: bool = False  # a region to ignore: a group, or what was not annotated
    segmentation: Any = None  # polygons or a run-length code of COCO; None: box only
    area: float | None = None  # pixels of the mask; None: that of the box


@dataclass(frozen=True)
class Problem:
    """Something that had to be left out, and why."""

    where: str  # file, image or annotation
    reason: str


class Source(Protocol):
    """An official data set on disk."""

    @property
    def image_folder(self) -> Path:
        """Folder that the file names are relative to."""

    def images(self) -> Iterator[SourceImage | Problem]:
        """Read the images, in a fixed order."""

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the objects, one at a time.

        Args:
            sizes: true sizes of the images that are used, by key.
        """


def require(path: Path, what: str) -> Path:
    """Check that a part of a data set is there.

    Raises:
        ValueError: it is not.
    """
    if not path.exists():
        raise ValueError(f'SRC must hold {what}, found nothing at {path}')
    return path

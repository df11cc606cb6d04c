"""Read Pascal VOC, Clipart, Comic and Watercolor: one XML per image."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cuts3d_mm.evaluation.preparation.source import (
    ImageHW,
    Problem,
    SourceAnnotation,
    SourceImage,
    require,
)
from cuts3d_mm.files.paths import BadName, open_regular, require_inside, shown


@dataclass(frozen=True)
class VocSource:
    """A folder with `Annotations/`, `ImageSets/Main/` and `JPEGImages/`.

    Objects marked as difficult count as objects: nobody has to name their class here.

    Args:
        folder: such as VOC2007.
        splits: names of the lists, such as trainval and test.
    """

    folder: Path
    splits: tuple[str, ...]

    @property
    def image_folder(self) -> Path:
        """Folder of the JPEG files."""
        return self.folder / 'JPEGImages'

    def images(self) -> Iterator[SourceImage | Problem]:
        """Read the lists, and the sizes from the XML files."""
        for name in self._names():
            root = self._parse(name)
            if isinstance(root, Problem):
                yield root
                continue
            size = [root.findtext(f'size/{side}') for side in ('height', 'width')]
            image_hw = None
            if all(value is not None and value.isdecimal() for value in size):
                image_hw = int(size[0] or 0), int(size[1] or 0)
            yield SourceImage(name, f'{name}.jpg', image_hw)

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the objects of the XML files."""
        for name in self._names():
            root = self._parse(name) if name in sizes else None
            if root is None or isinstance(root, Problem):  # reported with the images
                continue
            for number, found in enumerate(root.iter('object')):
                box = _box_xywh(found)
                if box is None:
                    yield Problem(f'{name} object {number}', 'annotation without a box')
                else:
                    yield SourceAnnotation(name, box)

    def _names(self) -> Iterator[str]:
        seen = set()
        for split in self.splits:
            path = require(self.folder / 'ImageSets' / 'Main' / f'{split}.txt', 'VOC lists')
            for line in path.read_text(encoding='utf-8').splitlines():
                name = line.split()[0] if line.strip() else ''
                if name and name not in seen:
                    seen.add(name)
                    yield name

    def _parse(self, name: str) -> ElementTree.Element | Problem:
        try:
            with open_regular(self.folder / 'Annotations' / require_inside(f'{name}.xml')) as file:
                return ElementTree.parse(file).getroot()
        except BadName:
            return Problem(shown(f'{name}.xml'), 'annotation name leads out of its folder')
        except FileNotFoundError:
            return Problem(f'{name}.xml', 'annotation file is missing')
        except ElementTree.ParseError:
            return Problem(f'{name}.xml', 'broken XML')


def _box_xywh(found: ElementTree.Element) -> tuple[float, float, float, float] | None:
    """Box in pixels from 0; VOC counts them from 1, the last one included."""
    try:
        left, top, right, bottom = (
            float(found.findtext(f'bndbox/{side}', ''))
            for side in ('xmin', 'ymin', 'xmax', 'ymax')
        )
    except ValueError:
        return None
    return left - 1, top - 1, right - left + 1, bottom - top + 1

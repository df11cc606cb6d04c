"""Read KITTI's object benchmark: one text file per image."""

from __future__ import annotations

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


@dataclass(frozen=True)
class KittiSource:
    """The folder `training`, with `image_2/` and `label_2/`.

    Args:
        folder: such as kitti/training.
    """

    folder: Path

    @property
    def image_folder(self) -> Path:
        """Folder of the left colour images."""
        return self.folder / 'image_2'

    def images(self) -> Iterator[SourceImage | Problem]:
        """List the images that have a label file."""
        for path in self._label_files():
            yield SourceImage(path.stem, f'{path.stem}.png')

    def annotations(self, sizes: Mapping[str, ImageHW]) -> Iterator[SourceAnnotation | Problem]:
        """Read the label files; DontCare regions are to be ignored."""
        for path in self._label_files():
            if path.stem not in sizes:
                continue
            for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
                if line.strip():
                    yield _parse_line(path.stem, line.split(), f'{path.name} line {number}')

    def _label_files(self) -> list[Path]:
        return sorted(require(self.folder / 'label_2', 'training/label_2').glob('*.txt'))


def _parse_line(key: str, fields: list[str], where: str) -> SourceAnnotation | Problem:
    """Fields: type, truncated, occluded, alpha, left, top, right, bottom, 3D."""
    try:
        left, top, right, bottom = (float(value) for value in fields[4:8])
    except ValueError:
        return Problem(where, 'annotation without a box')
    box = left, top, right - left, bottom - top
    return SourceAnnotation(key, box, is_crowd=fields[0] == 'DontCare')

"""List the images of a folder, a text file or a COCO JSON."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from cuts3d_mm.files.paths import shown
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.exclusions import require_known
from cuts3d_mm.images.names import list_folder, read_coco_names, read_text_list


@dataclass(frozen=True)
class ImageList:
    """The images of a run, in the order of their names."""

    root: Place
    names: tuple[str, ...]

    def first(self, limit: int | None) -> ImageList:
        """Keep the first `limit` images; None keeps all."""
        if limit is not None and limit < 1:
            raise ValueError(f'limit must be at least 1 image, got {limit}')
        return ImageList(self.root, self.names[:limit])

    def without(self, excluded: Set[str]) -> ImageList:
        """Leave images out.

        Raises:
            ValueError: one of them is not in the list, or none is left.
        """
        require_known(excluded, self.names)
        left = tuple(name for name in self.names if name not in excluded)
        if not left:
            raise ValueError(f'--exclude must leave an image, it names all {len(self.names)}')
        return ImageList(self.root, left)


def list_images(source: Place) -> ImageList:
    r"""Find the images that a command is to work on.

    What looks like an image and is none that can be read, such as a link that leads out of the
    folder or a named pipe, is listed too, so that it is recorded as a failure. A name that is
    not UTF-8 is listed with `\xNN` for its bytes.

    Args:
        source: a folder, searched recursively for image files; a text file with one path a
            line, relative to the file; or a COCO JSON, whose `file_name`s are looked up
            next to it, in `images/` or in a folder of its name.

    Raises:
        ValueError: nothing there, an unreadable list, or a path listed twice.
    """
    root: Place
    if source.is_dir():
        root, names = source, list(list_folder(source))
    elif not source.is_file():
        raise ValueError(f'IMAGES must be a folder, a text file or a COCO JSON, got {source}')
    elif source.suffix == '.json':
        root, names = read_coco_names(source)
    else:
        root, names = read_text_list(source)
    if not names:
        raise ValueError(f'IMAGES must hold at least one image, found none in {source}')
    names = sorted(shown(name) for name in names)
    twice = first_repeated(names)
    if twice is not None:
        raise ValueError(f'every image must be listed once, got {twice} more than once')
    return ImageList(root, tuple(names))


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name, in their order, that is there more than once."""
    return next((a for a, b in pairwise(sorted(names)) if a == b), None)

"""The images of a pass, as `images.json` keeps them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.learning.folders import PassFolders
from cuts3d_mm.learning.selection import in_random_order

MOST_WATCHED = 1000  # held-out images that detectors are compared on


@dataclass(frozen=True)
class PassImages:
    """Names of the images of a pass."""

    names: tuple[str, ...]
    to_cut: tuple[str, ...]  # that no earlier pass has cut
    held_out: tuple[str, ...]  # that are watched, not trained on


def write_pass_images(path: Path, images: PassImages) -> None:
    """Write the names, whole or not at all."""
    write_whole(path, json.dumps(asdict(images)))


def read_pass_images(path: Path) -> PassImages:
    """Read the names.

    Raises:
        ValueError: the file is missing or none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        lists = {key: _names(content[key]) for key in PassImages.__annotations__}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} must hold the image names of a pass ({error}); choose another OUT'
        ) from error
    return PassImages(**lists)


def watched_names(folders: PassFolders) -> tuple[str, ...]:
    """Held-out images of a pass that its training is watched on, in random order."""
    held_out = read_pass_images(folders.images).held_out
    return in_random_order(held_out, 'watched')[:MOST_WATCHED]


def _names(content: object) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise TypeError('names must be in a list')
    return tuple(content)

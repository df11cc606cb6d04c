"""Read and write the names of images that a command is to leave out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.files.paths import open_regular, shown
from cuts3d_mm.images.names import read_lines, without_dot

_COMMENT = '#'
_HEADER = '# images to leave out, for --exclude'
_SHOWN = 3  # names in a message


def read_exclusions(path: Path) -> frozenset[str]:
    """Read a list of images to leave out.

    Args:
        path: a text file with one name a line, as in a label store: relative to the image
            folder, with forward slashes. Empty lines and lines that begin with `#` say nothing;
            `./#a.jpg` is an image.

    Raises:
        ValueError: it is no text.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        lines = read_lines(file.read())
    if lines is None:
        raise ValueError(f'--exclude must be a text file with one image name a line, got {path}')
    return frozenset(shown(without_dot(line)) for line in lines if not line.startswith(_COMMENT))


def write_exclusions(path: Path, names: Iterable[str]) -> None:
    """Write a list of images to leave out, in the order of their names; comments stay."""
    comments = [_HEADER]
    if path.exists():
        text = path.read_text(encoding='utf-8', errors='surrogateescape')
        comments += [line for line in text.splitlines() if line.startswith(_COMMENT)]
    lines = (f'./{name}' if name.startswith(_COMMENT) else name for name in sorted(names))
    text = '\n'.join([*dict.fromkeys(comments), *lines, ''])
    write_whole(path, text.encode('utf-8', errors='surrogateescape'))


def require_known(excluded: Collection[str], known: Collection[str]) -> None:
    """Check that all images to leave out are there.

    Raises:
        ValueError: some are not; the message names up to three.
    """
    unknown = sorted(set(excluded) - set(known))
    if unknown:
        rest = f' and {len(unknown) - _SHOWN} others' if len(unknown) > _SHOWN else ''
        raise ValueError(
            f'--exclude must name images that are there, relative to their folder; '
            f'{len(unknown)} of {len(excluded)} are not: {", ".join(unknown[:_SHOWN])}{rest}'
        )

"""Find the images that annotations name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

_SHOWN = 3  # names in a message


def match_names(annotated: Collection[str], names: Collection[str], path: Path) -> dict[str, str]:
    """Find the image of each annotated name: by the full name, or the last part if it is unique.

    Args:
        annotated: names in the annotations.
        names: of the images of a run.
        path: of the annotations, for messages.

    Returns:
        Annotated name -> name of the image; names without an image are left out.

    Raises:
        ValueError: a name without a folder could be that of several images, or several names
            that of an image without a folder.
    """
    known = set(names)
    found = {name: name for name in annotated if name in known}
    counts = Counter(map(_last_part, annotated))
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(_last_part(name), []).append(name)
    for name in annotated:
        last = _last_part(name)
        images = by_last.get(last, [])
        free = [image for image in images if image not in found]
        if name in found or not free:
            continue
        if len(images) == counts[last] == 1:
            found[name] = images[0]
        elif last in (name, *free):
            raise ValueError(
                f'annotations must name images in full where last parts repeat; in {path}, '
                f'{name} can be {" or ".join(free[:_SHOWN])}, and {counts[last]} of the names '
                f'end in {last}; write them relative to IMAGES'
            )
    return found


def _last_part(name: str) -> str:
    return PurePosixPath(name).name

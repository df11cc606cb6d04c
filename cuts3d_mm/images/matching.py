"""Match the names that annotation tools give images with the names of the images."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from .reading import IMAGE_SUFFIXES

_Key = Callable[[str], str]
_SHOWN = 3  # names in a message
# Label Studio puts eight hexadecimal digits before the name of an upload, Roboflow writes
# photo_jpg.rf.HASH.jpg for photo.jpg.
_UPLOAD = re.compile(r'^[0-9a-f]{8}-(?=.)')
_ROBOFLOW = re.compile(r'_(\w{3,4})\.rf\.[\da-z]{8,}(?:\.\w+)?$')


def match_names(
    annotated: Collection[str], names: Collection[str], source: object
) -> dict[str, str]:
    """Find the image of each annotated name, by the first rule that gives a unique result.

    Rules, in turn: the full name, with slashes of either kind; its last part; the last part in
    any case (`.JPG`); without what upload tools have added to the annotated name, or to that of
    the image; without the suffixes of image files. A log line says how many names each rule has
    found, but for the first.

    Returns:
        Annotated name -> name of the image; names without an image are left out. Messages call the
        file of the annotations `source`.

    Raises:
        ValueError: a name without a folder could mean several images, or several names could
            mean an image without a folder.
    """
    known = set(names)
    found = {name: name for name in annotated if name in known}
    said = []
    for rule, key_annotated, key_image in _RULES:
        if len(found) == len(annotated):
            break
        # Names that are left, where only one name on each side has the key.
        images, counts = _by_key(names, key_image), Counter(map(key_annotated, annotated))
        taken, more = set(found.values()), {}
        for name in annotated:
            key = key_annotated(name)
            if name not in found and counts[key] == 1 == len(images.get(key, ())):
                if images[key][0] not in taken:
                    more[name] = images[key][0]
        if key_image is _last_part:
            _require_clear(annotated, names, {**found, **more}, source)
        found |= more
        if more and rule:
            said.append(f'{len(more)} by {rule}')
    if said:
        logging.getLogger(__name__).warning(
            f'{source}: of {len(annotated)} image names, found {", ".join(said)}'
        )
    return found


def _by_key(names: Iterable[str], key: _Key) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found


def _require_clear(
    annotated: Collection[str], names: Collection[str], found: dict[str, str], source: object
) -> None:
    counts, taken = Counter(map(_last_part, annotated)), set(found.values())
    images = _by_key((name for name in names if name not in taken), _last_part)
    for name in annotated:
        last = _last_part(name)
        free = images.get(last, [])
        if name not in found and free and last in (name, *free):
            raise ValueError(
                f'annotations must name images in full where last parts repeat; in {source}, '
                f'{name} can be {" or ".join(free[:_SHOWN])}, and {counts[last]} of the names '
                f'end in {last}; write them relative to IMAGES'
            )


def with_slashes(name: str) -> str:
    """Write a path of any system with forward slashes, without `./` in front."""
    return name.replace('\\', '/').removeprefix('./')


def _last_part(name: str) -> str:
    return PurePosixPath(with_slashes(name)).name


def _in_lower_case(name: str) -> str:
    return _last_part(name).lower()


def _without_marks(name: str) -> str:
    return _ROBOFLOW.sub(r'.\1', _UPLOAD.sub('', _in_lower_case(name)))


def _without_suffix(name: str) -> str:
    lower = PurePosixPath(_in_lower_case(name))
    return lower.stem if lower.suffix in IMAGE_SUFFIXES else lower.name


def key_of(name: str) -> str:
    """Give what all names have in common that a rule can match."""
    return _without_suffix(_without_marks(name))


# A rule, what it compares of an annotated name, and of the name of an image. Marks are taken off
# one side alone: a date before two names looks like the marks of two uploads.
_RULES: tuple[tuple[str, _Key, _Key], ...] = (
    ('', with_slashes, with_slashes),
    ('their last part', _last_part, _last_part),
    ('their last part in lower case', _in_lower_case, _in_lower_case),
    ('their last part without what an upload added', _without_marks, _in_lower_case),
    ('the last part of images without what an upload added', _in_lower_case, _without_marks),
    ('their last part without its suffix', _without_suffix, _without_suffix),
)

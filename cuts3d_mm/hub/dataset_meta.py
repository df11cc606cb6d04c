"""Read the names and colours of classes from a checkpoint, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cuts3d_mm.labels.coco_json import DATASET_META


def plain_dataset_meta(meta: Any) -> dict[str, Any]:
    """Read names and colours out of the `meta` of a checkpoint.

    Args:
        meta: anything; what is no list of names or of colours counts as missing.

    Returns:
        `classes`, texts, and `palette`, (red, green, blue) in 0 to 255; those of the
        class-agnostic labels where there are none.
    """
    found = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    found = found if isinstance(found, Mapping) else {}
    classes = found.get('classes')
    is_named = isinstance(classes, Sequence) and all(isinstance(one, str) for one in classes)
    if not classes or isinstance(classes, str) or not is_named:
        classes = DATASET_META['classes']
    palette = found.get('palette')
    if not palette or not _are_colors(palette):
        palette = DATASET_META['palette']
    return {'classes': tuple(classes), 'palette': [tuple(color) for color in palette]}


def _are_colors(palette: Any) -> bool:
    return isinstance(palette, Sequence) and all(
        isinstance(color, Sequence)
        and len(color) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in color)
        for color in palette
    )

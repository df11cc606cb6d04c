"""Change the test pipelines of MMDetection's configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Step = Mapping[str, Any]

# What is known of an image that was read from an array: no path.
_META_KEYS = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')


def without_labels(pipeline: Sequence[Step]) -> list[dict[str, Any]]:
    """Leave out the steps that need labels, for images that have none."""
    return [dict(step) for step in pipeline if not _needs_labels(step)]


def read_arrays(pipeline: Sequence[Step]) -> list[dict[str, Any]]:
    """Let a pipeline take an image as an array in BGR instead of reading it from a file.

    Args:
        pipeline: from a file, perhaps with labels, to the input of a detector.

    Returns:
        The steps for `{'img': array, 'img_id': number}`.
    """
    as_float = any(_loads_image(step) and step.get('to_float32') for step in pipeline)
    kept = [step for step in without_labels(pipeline) if not _loads_image(step)]
    packed = [
        {**step, 'meta_keys': _META_KEYS} if _name(step) == 'PackDetInputs' else step
        for step in kept
    ]
    return [{'type': 'mmdet.LoadImageFromNDArray', 'to_float32': as_float}, *packed]


def _needs_labels(step: Step) -> bool:
    name = _name(step)
    return 'Annotations' in name or (name.startswith('Load') and not _loads_image(step))


def _loads_image(step: Step) -> bool:
    name = _name(step)
    return name.startswith('Load') and 'Image' in name


def _name(step: Step) -> str:
    """Name of the class of a step, without its scope."""
    kind = step['type']
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2]

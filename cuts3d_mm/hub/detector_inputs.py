"""Make the test pipeline and the preprocessor of a release from the numbers in its config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cuts3d_mm.hub.allow_list.words import WORDS

LARGEST_SIDE_PX = 8192  # of an image that is scaled or padded
_META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border')
# Steps that change an image, each with the arguments that are taken over.
_STEPS = {
    'Resize': ('scale', 'scale_factor', 'keep_ratio', 'interpolation'),
    'FixScaleResize': ('scale', 'scale_factor', 'keep_ratio', 'interpolation'),
    'Pad': ('size', 'size_divisor', 'pad_to_square', 'pad_val'),
    'RandomCenterCropPad': (
        'ratios', 'border', 'mean', 'std', 'to_rgb', 'test_mode', 'test_pad_mode',
        'test_pad_add_pix', 'crop_size',
    ),
}  # fmt: skip
_PREPROCESSOR = (
    'mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'pad_size_divisor', 'pad_value', 'pad_mask',
    'mask_pad_value', 'pad_seg', 'seg_pad_value',
)  # fmt: skip


def make_pipeline(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Make the steps from a file to the input of a detector.

    Args:
        config: with `test_dataloader`, its data set perhaps wrapped in another.
        name: of the config, for errors.

    Raises:
        ValueError: no test pipeline, an unknown step, or an argument that is no size.
    """
    steps = _find_steps(config)
    if steps is None:
        raise ValueError(f'{name} must define test_dataloader with the pipeline of a data set')
    made: list[dict[str, Any]] = [{'type': 'LoadImageFromFile'}]
    for index, step in enumerate(steps):
        place = f'test_dataloader.dataset.pipeline[{index}]'
        kind = step.get('type') if isinstance(step, Mapping) else None
        kind = kind.rpartition('.')[2] if isinstance(kind, str) else ''
        if (
            kind in ('LoadImageFromFile', 'LoadImageFromNDArray')
            and step.get('to_float32') is True
        ):
            made[0]['to_float32'] = True
        if kind in _STEPS:
            made.append({'type': kind, **_numbers(step, _STEPS[kind], name, place)})
        elif not kind.startswith(('Load', 'Pack')):
            raise ValueError(
                f'{name}: {place} must be one of {", ".join(_STEPS)}, or load and pack; '
                f'got {str(kind)[:80]!r}'
            )
    return [*made, {'type': 'PackDetInputs', 'meta_keys': _META_KEYS}]


def make_preprocessor(config: Any, name: str, place: str) -> dict[str, Any] | None:
    """Make the preprocessor that normalises and pads images.

    Args:
        config: that of the release, perhaps wrapped in one for several branches.
        name: of the config, for errors.
        place: where it is in the config, for errors.

    Raises:
        ValueError: an argument that is no number.
    """
    if config is None:
        return None
    if isinstance(config, Mapping) and isinstance(config.get('data_preprocessor'), Mapping):
        config = config['data_preprocessor']
    if not isinstance(config, Mapping):
        raise ValueError(f'{name}: {place} must be numbers by name, got {type(config).__name__}')
    return {'type': 'DetDataPreprocessor', **_numbers(config, _PREPROCESSOR, name, place)}


def _find_steps(config: Mapping[str, Any]) -> Sequence[Any] | None:
    found: Any = config.get('test_dataloader')
    while isinstance(found, Mapping):
        if isinstance(found.get('pipeline'), (list, tuple)):
            return [part for step in found['pipeline'] for part in _unwrap(step)]
        found = found.get('dataset')
    return None


def _unwrap(step: Any) -> Sequence[Any]:
    """Steps that Fast R-CNN also applies to the boxes that it is given."""
    is_wrapper = isinstance(step, Mapping) and step.get('type') == 'ProposalBroadcaster'
    inner = step.get('transforms') if is_wrapper else None
    return inner if isinstance(inner, (list, tuple)) else [step]


def _numbers(
    given: Mapping[str, Any], names: Sequence[str], name: str, place: str
) -> dict[str, Any]:
    return {key: _number(given[key], key, name, f'{place}.{key}') for key in names if key in given}


def _number(value: Any, argument: str, name: str, place: str, depth: int = 0) -> Any:
    """Check one argument: a size, a flag, a word, or a few of them."""
    if isinstance(value, (list, tuple)) and len(value) <= 16 and depth < 3:
        return type(value)(_number(one, argument, name, place, depth + 1) for one in value)
    if argument == 'pad_val' and isinstance(value, Mapping) and set(value) <= {'img', 'masks'}:
        return {key: _number(one, argument, name, place, depth + 1) for key, one in value.items()}
    is_word = isinstance(value, str) and value in WORDS.get(argument, ())
    is_size = isinstance(value, (int, float)) and math.isfinite(value)
    if value is None or is_word or (is_size and abs(value) <= LARGEST_SIDE_PX):
        return value
    raise ValueError(
        f'{name}: {place} must be numbers up to {LARGEST_SIDE_PX}, got {str(value)[:80]!r}'
    )

"""Read the config of a release as data, and accept only what the allow list names."""

from __future__ import annotations

import colorsys
import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cuts3d_mm.hub import allow_list
from cuts3d_mm.labels.coco_json import DATASET_META

RELEASE_CONFIG = 'release_config'  # key of the JSON text in the `meta` of a released checkpoint
MAX_BYTES = 1 << 19
LARGEST_NUMBER = 1 << 20  # limit of whole numbers
_LEFT_OUT = frozenset(
    {'init_cfg', 'pretrained', 'load_from', 'resume', 'custom_imports', 'default_scope'}
)
_REFUSED_ARGUMENT = re.compile(
    r'.*_(ckpt|config)|_.*|trust_remote_code|checkpoint.*|.*\W.*', re.DOTALL
)
_MODELS = allow_list.DETECTORS | allow_list.NETWORKS | allow_list.LAYERS | allow_list.LOSSES
_SAME_AT_TEST = {'MMSyncBN': 'BN'}  # MMSyncBN cannot be built without a process group
# scope -> (classes in MODELS, classes in TASK_UTILS, the prefix that MMEngine needs)
_SCOPES = {
    'mmdet': (_MODELS, allow_list.TASK_UTILS, ''),
    'mmengine': (allow_list.LAYERS, frozenset[str](), ''),
    'mmcv': (allow_list.LAYERS, frozenset[str](), ''),
    'mmpretrain': (allow_list.MMPRETRAIN, frozenset[str](), 'mmpretrain.'),
    'cuts3d_mm': (allow_list.OURS, allow_list.OUR_TASK_UTILS, 'cuts3d_mm.'),
}
MAX_DEPTH = 64  # nested brackets; the detectors that MMDetection ships have 9
LARGEST_SIDE_PX = 8192  # largest side of an image that is scaled or padded
_META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'border')
# Steps that change an image -> the arguments that are kept.
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


def read_release_config(path: Path) -> dict[str, Any]:
    """Read the config of a release.

    Returns:
        `model`, `test_dataloader`, whose data set has the names of the classes as `metainfo`,
        `visualizer` and `default_scope`; nothing else of the file.

    Raises:
        ValueError: the file is too large, is no JSON, or names something that a release may not
            name; the message says what and where.
    """
    with path.open('rb') as file:
        return parse_release_config(file.read(MAX_BYTES + 1), str(path))


def parse_release_config(text: str | bytes, name: str) -> dict[str, Any]:
    """Read the text of a config that another file holds; see `read_release_config`."""
    if len(text) > MAX_BYTES:
        raise ValueError(f'{name} must be a config of at most {MAX_BYTES} bytes, it is larger')
    try:
        try:
            config = json.loads(text)
        except ValueError as error:
            raise ValueError(
                f'{name} must hold a config as JSON: {error}; a config that you trust can be '
                'written as a Python file'
            ) from error
        return release_config(config if isinstance(config, dict) else {}, name)
    except RecursionError as error:  # also of a message that quotes what is nested
        raise ValueError(
            f'{name} must be nested at most {MAX_DEPTH} deep, it is deeper'
        ) from error


def release_config(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check the parts of a config that detection needs; see `read_release_config`."""
    model = config.get('model')
    if not isinstance(model, Mapping):
        raise ValueError(f'{name} must define model, the config of a detector')
    checked = _check_node(model, 'model', f'{name}: model')
    if checked.get('type') not in allow_list.DETECTORS:
        raise ValueError(
            f'{name}: model.type must be a detector of MMDetection, got {checked.get("type")!r}'
        )
    # The type is for MMDetection's own inferencer, which asks the data set for colours.
    dataset = {
        'type': 'BaseDetDataset',
        'metainfo': plain_dataset_meta(_find_in_dataset(config, 'metainfo', Mapping)),
        'pipeline': _make_pipeline(config, name),
    }
    return {
        'default_scope': 'mmdet',
        'model': checked,
        'test_dataloader': {'dataset': dataset},
        'visualizer': {'type': 'DetLocalVisualizer', 'name': 'visualizer'},
    }


def _check_node(node: Mapping[str, Any], argument: str, place: str, depth: int = 0) -> Any:
    """Copy a dictionary: a class with its arguments, or arguments that are passed on."""
    checked: dict[str, Any] = {}
    if 'type' in node or '_scope_' in node:
        checked['type'] = _check_type(node, argument, f'{place}.type')
    for key, value in node.items():
        if key in ('type', '_scope_') or key in _LEFT_OUT:
            continue
        if not isinstance(key, str) or len(key) > 64 or _REFUSED_ARGUMENT.fullmatch(key):
            raise _refusal(f'{place}.{str(key)[:64]!r}', 'may not be set by a release')
        if key == 'data_preprocessor':
            checked[key] = _make_preprocessor(value, f'{place}.{key}')
        else:
            checked[key] = _check_value(value, key, f'{place}.{key}', depth + 1)
    return checked


def _check_value(value: Any, argument: str, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refusal(place, f'must be nested at most {MAX_DEPTH} deep')
    if isinstance(value, Mapping):
        return _check_node(value, argument, place, depth)
    if isinstance(value, (list, tuple)):
        return (tuple if argument in allow_list.TUPLES else list)(
            _check_value(item, argument, f'{place}[{index}]', depth + 1)
            for index, item in enumerate(value)
        )
    if isinstance(value, str):
        words = allow_list.WORDS.get(argument, frozenset())
        if value not in words:
            known = f'one of {", ".join(sorted(words))}' if words else 'a number, not a text'
            raise _refusal(place, f'must be {known}; got {value[:80]!r}')
        return value
    is_finite = isinstance(value, float) and math.isfinite(value)
    is_small = isinstance(value, int) and abs(value) <= LARGEST_NUMBER
    if value is None or is_finite or is_small:
        return value
    raise _refusal(place, f'must be a number up to {LARGEST_NUMBER}, got {value!r:.80}')


def _check_type(node: Mapping[str, Any], argument: str, place: str) -> str:
    """Check the class that a dictionary names; the result has the prefix that MMEngine needs."""
    given, scope = node.get('type'), node.get('_scope_', 'mmdet')
    if not isinstance(given, str) or not isinstance(scope, str):
        raise _refusal(place, f'must be the name of a class, got {given!r:.80}')
    prefix, _, last = given.rpartition('.')
    scope = prefix or scope
    if scope not in _SCOPES:
        raise _refusal(
            place,
            f'must be the name of a class of {", ".join(_SCOPES)}, got {given[:80]!r} '
            f'of {scope[:80]!r}',
        )
    models, task_utils, needed_prefix = _SCOPES[scope]
    allowed = task_utils if argument in allow_list.TASK_UTIL_ARGUMENTS else models
    if argument in allow_list.CHOICES:
        allowed, needed_prefix = allow_list.CHOICES[argument], ''
    if last not in allowed:
        reason = allow_list.REASONS.get(last)
        why = f'it is {reason}' if reason else 'it is not allowed in this place'
        raise _refusal(place, f'may not be {given[:80]!r}: {why}')
    return needed_prefix + _SAME_AT_TEST.get(last, last)


def _refusal(place: str, what: str) -> ValueError:
    return ValueError(
        f'{place:.400} {what}; a config that you trust can be written as a Python file'
    )


def _make_pipeline(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Make the steps from a file to the input of a detector; its data set may be wrapped."""
    steps = _find_in_dataset(config, 'pipeline', (list, tuple))
    if steps is None:
        raise ValueError(f'{name} must define test_dataloader with the pipeline of a data set')
    made: list[dict[str, Any]] = [{'type': 'LoadImageFromFile'}]
    for index, step in enumerate(chain.from_iterable(map(_unwrap, steps))):
        place = f'{name}: test_dataloader.dataset.pipeline[{index}]'
        kind = step.get('type') if isinstance(step, Mapping) else None
        kind = kind.rpartition('.')[2] if isinstance(kind, str) else ''
        is_loading = kind in ('LoadImageFromFile', 'LoadImageFromNDArray')
        if is_loading and step.get('to_float32') is True:
            made[0]['to_float32'] = True
        if kind in _STEPS:
            made.append({'type': kind, **_numbers(step, _STEPS[kind], place)})
        elif not kind.startswith(('Load', 'Pack')):
            raise ValueError(
                f'{place} must be one of {", ".join(_STEPS)}, or load and pack; '
                f'got {str(kind)[:80]!r}'
            )
    return [*made, {'type': 'PackDetInputs', 'meta_keys': _META_KEYS}]


def _make_preprocessor(config: Any, place: str) -> dict[str, Any] | None:
    """Make what normalises and pads images; it may be wrapped in one for several branches."""
    if config is None:
        return None
    if isinstance(config, Mapping) and isinstance(config.get('data_preprocessor'), Mapping):
        config = config['data_preprocessor']
    if not isinstance(config, Mapping):
        raise ValueError(f'{place} must be numbers by name, got {type(config).__name__}')
    return {'type': 'DetDataPreprocessor', **_numbers(config, _PREPROCESSOR, place)}


def _find_in_dataset(config: Mapping[str, Any], key: str, kind: Any) -> Any:
    """Find an entry of the data set of images to test, which may be wrapped; None: none has it."""
    found: Any = config.get('test_dataloader')
    while isinstance(found, Mapping):
        if isinstance(found.get(key), kind):
            return found[key]
        found = found.get('dataset')
    return None


def _unwrap(step: Any) -> Sequence[Any]:
    """Open the wrapper of the steps that Fast R-CNN applies to its input boxes, too."""
    is_wrapper = isinstance(step, Mapping) and step.get('type') == 'ProposalBroadcaster'
    inner = step.get('transforms') if is_wrapper else None
    return inner if isinstance(inner, (list, tuple)) else [step]


def _numbers(given: Mapping[str, Any], names: Sequence[str], place: str) -> dict[str, Any]:
    return {key: _number(given[key], key, f'{place}.{key}') for key in names if key in given}


def _number(value: Any, argument: str, place: str, depth: int = 0) -> Any:
    """Check an argument: a size, a flag, a word, or a tuple of these, as steps need it."""
    if isinstance(value, (list, tuple)) and len(value) <= 16 and depth < 3:
        return tuple(_number(one, argument, place, depth + 1) for one in value)
    if argument == 'pad_val' and isinstance(value, Mapping) and set(value) <= {'img', 'masks'}:
        return {key: _number(one, argument, place, depth + 1) for key, one in value.items()}
    is_word = isinstance(value, str) and value in allow_list.WORDS.get(argument, ())
    is_size = isinstance(value, (int, float)) and abs(value) <= LARGEST_SIDE_PX
    if value is None or is_word or is_size:
        return value
    raise ValueError(f'{place} must be numbers up to {LARGEST_SIDE_PX}, got {str(value)[:80]!r}')


def plain_dataset_meta(meta: Any) -> dict[str, Any]:
    """Read the names and colours of classes.

    Args:
        meta: any value; anything but a list of names or of colours counts as missing.

    Returns:
        `classes`, printable texts of up to 100 characters, those of class-agnostic labels where
        they are missing, and `palette`, a (red, green, blue) in 0 to 255 for each class.
    """
    found = meta if isinstance(meta, Mapping) else {}
    classes = found.get('classes')
    is_named = isinstance(classes, Sequence) and all(isinstance(one, str) for one in classes)
    if not classes or isinstance(classes, str) or not is_named:
        classes = DATASET_META['classes']
    # Names go into labels, files of other tools and terminals.
    classes = [''.join(filter(str.isprintable, one))[:100].strip() for one in classes]
    palette = found.get('palette')
    if not palette or not _are_colors(palette) or len(palette) < len(classes):
        palette = list(DATASET_META['palette'])
        for number in range(1, len(classes)):
            hue = 0.618 * number % 1  # by the golden ratio, so that hues stay apart
            color = colorsys.hsv_to_rgb(hue, 0.75, 0.9)
            palette.append([round(255 * share) for share in color])
    return {'classes': tuple(classes), 'palette': [tuple(color) for color in palette]}


def _are_colors(palette: Any) -> bool:
    return isinstance(palette, Sequence) and all(
        isinstance(color, Sequence)
        and len(color) == 3
        and all(type(value) is int and 0 <= value <= 255 for value in color)
        for color in palette
    )

"""Read configs that are not trusted, those of releases and those inside weights, as data.

Of such a config only the detector and the sizes of its test images are used. The detector is
checked as a whole before any of it is built: every `type` against the classes of `allow_list`,
every text against the words that its argument takes. What reads files is refused or left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuts3d_mm.hub.allow_list.networks import DETECTORS, MMPRETRAIN, NETWORKS, OURS
from cuts3d_mm.hub.allow_list.parts import (
    CHOICES,
    LAYERS,
    LOSSES,
    OUR_TASK_UTILS,
    TASK_UTIL_ARGUMENTS,
    TASK_UTILS,
)
from cuts3d_mm.hub.allow_list.refused import REASONS
from cuts3d_mm.hub.allow_list.words import WORDS
from cuts3d_mm.hub.detector_inputs import make_pipeline, make_preprocessor
from cuts3d_mm.hub.literal_text import MAX_DEPTH, parse_literals, read_literals

LARGEST_NUMBER = 1 << 20  # of an argument that is a whole number
_LEFT_OUT = frozenset(
    {'init_cfg', 'pretrained', 'load_from', 'resume', 'custom_imports', 'default_scope'}
)
_REFUSED_ARGUMENT = re.compile(r'.*_(ckpt|config)|_.*|trust_remote_code|checkpoint.*|.*\W.*')
_MODELS = DETECTORS | NETWORKS | LAYERS | LOSSES
_SAME_AT_TEST = {'MMSyncBN': 'BN'}  # which cannot be built without a process group
# scope -> (classes in MODELS, classes in TASK_UTILS, the prefix that MMEngine needs)
_SCOPES = {
    'mmdet': (_MODELS, TASK_UTILS, ''),
    'mmengine': (LAYERS, frozenset[str](), ''),
    'mmcv': (LAYERS, frozenset[str](), ''),
    'mmpretrain': (MMPRETRAIN, frozenset[str](), 'mmpretrain.'),
    'cuts3d_mm': (OURS, OUR_TASK_UTILS, 'cuts3d_mm.'),
}


def read_release_config(path: Path) -> dict[str, Any]:
    """Read the config of a release.

    Returns:
        `model`, `test_dataloader`, `visualizer` and `default_scope`; nothing else of the file.

    Raises:
        ValueError: it holds code, or names what a release may not name; says what and where.
    """
    return release_config(read_literals(path), str(path))


def parse_release_config(text: str, name: str) -> dict[str, Any]:
    """Read a config that is inside of another file; see `read_release_config`."""
    return release_config(parse_literals(text, name), name)


def release_config(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Reduce a config to what detecting needs, and check it; see `read_release_config`."""
    model = config.get('model')
    if not isinstance(model, Mapping):
        raise ValueError(f'{name} must define model, the config of a detector')
    checked = _Check(name).node(model, 'model', 'model', 0)
    if checked.get('type') not in DETECTORS:
        raise ValueError(
            f'{name}: model.type must be a detector of MMDetection, got {checked.get("type")!r}'
        )
    # The type is for MMDetection's own inferencer, which asks the data set for colours.
    dataset = {'type': 'BaseDetDataset', 'pipeline': make_pipeline(config, name)}
    return {
        'default_scope': 'mmdet',
        'model': checked,
        'test_dataloader': {'dataset': dataset},
        'visualizer': {'type': 'DetLocalVisualizer', 'name': 'visualizer'},
    }


class _Check:
    """Copies a tree and refuses what is not on the lists, with its place."""

    def __init__(self, name: str) -> None:
        self.name = name

    def node(self, node: Mapping[str, Any], argument: str, place: str, depth: int) -> Any:
        """Check what is built, or arguments that are passed on."""
        checked: dict[str, Any] = {}
        if 'type' in node or '_scope_' in node:
            checked['type'] = self._type(node, argument, place)
        for key, value in node.items():
            if key in ('type', '_scope_') or key in _LEFT_OUT:
                continue
            if not isinstance(key, str) or len(key) > 64 or _REFUSED_ARGUMENT.fullmatch(key):
                raise self._error(f'{place}.{str(key)[:64]!r}', 'may not be set by a release')
            if key == 'data_preprocessor':
                checked[key] = make_preprocessor(value, self.name, f'{place}.{key}')
            else:
                checked[key] = self._value(value, key, f'{place}.{key}', depth + 1)
        return checked

    def _value(self, value: Any, argument: str, place: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self._error(place, f'must be nested at most {MAX_DEPTH} deep')
        if isinstance(value, Mapping):
            return self.node(value, argument, place, depth)
        if isinstance(value, (list, tuple)):
            return type(value)(
                self._value(item, argument, f'{place}[{index}]', depth + 1)
                for index, item in enumerate(value)
            )
        if isinstance(value, str):
            return self._word(value, argument, place)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, int) and abs(value) <= LARGEST_NUMBER:
            return value
        raise self._error(place, f'must be a number up to {LARGEST_NUMBER}, got {value!r}')

    def _word(self, value: str, argument: str, place: str) -> str:
        words = WORDS.get(argument, frozenset())
        if value not in words:
            known = f'one of {", ".join(sorted(words))}' if words else 'a number, not a text'
            raise self._error(place, f'must be {known}; got {value[:80]!r}')
        return value

    def _type(self, node: Mapping[str, Any], argument: str, place: str) -> str:
        given, scope = node.get('type'), node.get('_scope_', 'mmdet')
        if not isinstance(given, str) or not isinstance(scope, str):
            raise self._error(f'{place}.type', f'must be the name of a class, got {given!r}')
        prefix, _, last = given.rpartition('.')
        scope = prefix or scope
        if scope not in _SCOPES:
            raise self._error(
                f'{place}.type',
                f'must be the name of a class of {", ".join(_SCOPES)}, got {given[:80]!r} '
                f'of {scope[:80]!r}',
            )
        if argument in CHOICES:
            return self._known(last, CHOICES[argument], given, place)
        models, task_utils, needed_prefix = _SCOPES[scope]
        allowed = task_utils if argument in TASK_UTIL_ARGUMENTS else models
        return needed_prefix + self._known(last, allowed, given, place)

    def _known(self, last: str, allowed: frozenset[str], given: str, place: str) -> str:
        if last in allowed:
            return _SAME_AT_TEST.get(last, last)
        reason = f'it is {REASONS[last]}' if last in REASONS else 'it is not allowed in this place'
        raise self._error(f'{place}.type', f'may not be {given[:80]!r}: {reason}')

    def _error(self, place: str, what: str) -> ValueError:
        return ValueError(
            f'{self.name}: {place[:200]} {what}; a config that you trust is loaded by its path'
        )

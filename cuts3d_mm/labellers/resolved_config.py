"""Fill in the defaults of a config, so that equal settings are equal values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from cuts3d_mm.labellers.registry import DEPTH, FEATURES, LABELLERS, SCOPE, is_ours

FindClass = Callable[[str], 'type | None']


def resolve_config(config: Any) -> Any:
    """Complete the config of a labeller, with plain JSON values.

    The arguments of our own classes take their defaults; a class that knows more about its
    arguments has a static method `resolve` (dict -> dict). The classes of other packages stay
    as they are written. Completing a completed config changes nothing, unless a later version
    has further arguments, which then take their defaults.

    Raises:
        ValueError: an argument that its class does not know.
    """
    return json.loads(json.dumps(with_defaults(config, _part_of_a_labeller), default=str))


def with_defaults(config: Any, find_class: FindClass) -> Any:
    """Complete a config by the classes that a function finds.

    Args:
        config: dicts, lists and values.
        find_class: name without scope -> class of ours, or None.
    """
    if isinstance(config, (list, tuple)):
        return [with_defaults(value, find_class) for value in config]
    if not isinstance(config, dict):
        return config
    kind = _our_class(config.get('type'), find_class)
    if kind is None:
        return {str(key): with_defaults(value, find_class) for key, value in config.items()}
    complete = {**_defaults(kind), **config, 'type': f'{SCOPE}.{kind.__name__}'}
    if hasattr(kind, 'resolve'):
        complete = kind.resolve(complete)
    return {key: with_defaults(value, find_class) for key, value in complete.items()}


def _part_of_a_labeller(name: str) -> type | None:
    found = (registry.get(name) for registry in (LABELLERS, FEATURES, DEPTH))
    return next((kind for kind in found if kind is not None), None)


def _our_class(kind: Any, find_class: FindClass) -> type | None:
    if isinstance(kind, type) and is_ours(kind):
        return find_class(kind.__name__)
    if not isinstance(kind, str):
        return None
    name = kind.removeprefix(f'{SCOPE}.')
    found = None if '.' in name else find_class(name)
    return found if found is not None and is_ours(found) else None


def _defaults(kind: type) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}

"""Fill in the defaults of a config, so that equal settings are equal values."""

from __future__ import annotations

import inspect
import json
from typing import Any

from cuts3d_mm.registry import MODELS

_SCOPE = 'cuts3d_mm.'


def resolve_config(config: Any) -> Any:
    """Complete the config of a labeller, with plain JSON values.

    The arguments of our own classes take their defaults; a class that knows more about its
    arguments has a static method `resolve` (dict -> dict). The classes of other packages stay
    as they are written. Completing a completed config changes nothing, unless a later version
    has further arguments, which then take their defaults.

    Raises:
        ValueError: an argument that its class does not know.
    """
    return json.loads(json.dumps(_resolve(config), default=str))


def _resolve(config: Any) -> Any:
    if isinstance(config, (list, tuple)):
        return [_resolve(value) for value in config]
    if not isinstance(config, dict):
        return config
    kind = _our_class(config.get('type'))
    if kind is None:
        return {str(key): _resolve(value) for key, value in config.items()}
    complete = {**_defaults(kind), **config, 'type': f'{_SCOPE}{kind.__name__}'}
    if hasattr(kind, 'resolve'):
        complete = kind.resolve(complete)
    return {key: _resolve(value) for key, value in complete.items()}


def _our_class(kind: Any) -> Any:
    if isinstance(kind, str):
        MODELS.import_from_location()
        return MODELS.module_dict.get(kind.removeprefix(_SCOPE))
    return kind if kind in MODELS.module_dict.values() else None


def _defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}

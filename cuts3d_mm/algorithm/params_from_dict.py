"""Build parameters from plain dicts, as config files hold them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints


def params_from_dict(cls: type, values: dict[str, Any], where: str = '', base: Any = None) -> Any:
    """Build a params dataclass from nested plain dicts, as a config file holds them.

    Args:
        cls: one of the dataclasses of `params.py`.
        values: field name -> value; a nested params field takes a dict or None.
        where: dotted prefix for messages.
        base: what the fields that `values` leaves out are taken from; None: the defaults.

    Raises:
        ValueError: a key that `cls` does not have or a value outside its choices; the
            message names the key and what is possible.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f'{where}{key} is not a parameter; known: {", ".join(known)}')
        inner = None if base is None else getattr(base, key)
        changes[key] = _convert(hints[key], value, f'{where}{key}', inner)
    return cls(**changes) if base is None else replace(base, **changes)


def _convert(hint: Any, value: Any, name: str, base: Any) -> Any:
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    nested: Any = next((option for option in options if is_dataclass(option)), None)
    if nested is not None and isinstance(value, dict):
        return params_from_dict(nested, value, f'{name}.', base)
    if value is None and type(None) in options:
        return None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f'{name} must be one of {get_args(hint)}, got {value!r}')
        return value
    plain = next(option for option in options if option is not type(None))
    if nested is not None or not _is_number_for(plain, value):
        kind = 'a dict' if nested is not None else f'of type {plain.__name__}'
        raise ValueError(f'{name} must be {kind}, got {value!r}')
    return plain(value)


def _is_number_for(plain: type, value: Any) -> bool:
    if isinstance(value, bool) or plain is bool:
        return isinstance(value, bool) and plain is bool
    return isinstance(value, (int, float) if plain is float else int)

"""Configs that come from somewhere else, read without running them.

MMEngine runs a Python config as code, and builds whatever callable a `type` names. A config of a
release is data: assignments of literals and `dict(...)`, every `type` the name of a class that is
registered by MMDetection, its siblings or this package.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

_TYPE = re.compile(r'((mmdet|mmcv|mmengine|mmpretrain|cuts3d_mm)\.[A-Z]|[A-Za-z])\w*')


def read_literal_config(path: Path) -> dict[str, Any]:
    """Read a flattened config.

    Args:
        path: a Python file as MMEngine dumps it.

    Raises:
        ValueError: it holds code, or a `type` that is no plain class name.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} must be a config of MMEngine, it is no Python') from error
    return parse_literal_config(text, str(path))


def parse_literal_config(text: str, name: str) -> dict[str, Any]:
    """Parse a flattened config.

    Args:
        text: as MMEngine dumps it.
        name: for errors.

    Raises:
        ValueError: as of `read_literal_config`.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f'{name} must be a config of MMEngine, it is no Python') from error
    config = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=key)], value=value):
                config[key] = _value(name, value)
            case _:
                raise _refusal(name, statement)
    config.pop('custom_imports', None)
    _check_types(name, config)
    return config


def _value(name: str, node: ast.expr) -> Any:
    """Value of an expression that is a literal, or `dict(...)` of such."""
    if isinstance(node, ast.Call):
        is_dict = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not is_dict or any(keyword.arg is None for keyword in node.keywords):
            raise _refusal(name, node)
        return {keyword.arg: _value(name, keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise _refusal(name, node)
        keys = [_value(name, key) for key in node.keys if key is not None]
        return dict(zip(keys, (_value(name, value) for value in node.values), strict=True))
    if isinstance(node, ast.List):
        return [_value(name, item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(name, item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise _refusal(name, node) from error


def _check_types(name: str, value: Any) -> None:
    if isinstance(value, dict):
        kind = value.get('type')
        if kind is not None and not (isinstance(kind, str) and _TYPE.fullmatch(kind)):
            raise ValueError(
                f'every type in {name} must be the name of a class, registered by MMDetection or '
                f'this package, got {kind!r}; a config that you trust is loaded by its path'
            )
        for item in value.values():
            _check_types(name, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_types(name, item)


def _refusal(name: str, node: ast.AST) -> ValueError:
    code = ast.unparse(node).split('\n')[0][:80]
    return ValueError(
        f'{name} must hold literals and dict(...) only, line {getattr(node, "lineno", "?")} is '
        f'code: {code}; a config that you trust is loaded by its path'
    )

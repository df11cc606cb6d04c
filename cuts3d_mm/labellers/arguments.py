"""Read the arguments of a class from its source, because importing it may take seconds."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """Names of the arguments of a class."""

    required: frozenset[str]
    known: frozenset[str] | None  # required ones included; None: any

    def check(self, given: set[str], whose: str) -> None:
        """Check the keys of a config.

        Raises:
            ValueError: one is unknown or missing.
        """
        unknown = sorted(given - self.known) if self.known is not None else []
        missing = sorted(self.required - given)
        known = ', '.join(sorted(self.known or self.required)) or 'none'
        if unknown:
            raise ValueError(f'{whose} has no argument {", ".join(unknown)}; it has {known}')
        if missing:
            raise ValueError(
                f'{whose} must be given {", ".join(missing)}, got '
                f'{", ".join(sorted(given)) or "nothing"}; its arguments are {known}'
            )


def arguments_of(kind: type) -> Arguments:
    """Arguments of a class that is imported."""
    parameters = inspect.signature(kind).parameters.values()
    is_open = any(one.kind is one.VAR_KEYWORD for one in parameters)
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    required = frozenset(one.name for one in named if one.default is one.empty)
    return Arguments(required, None if is_open else frozenset(one.name for one in named))


def arguments_in_source(path: Path, class_name: str) -> Arguments:
    """Arguments of a class with an `__init__` of its own, by its source file."""
    body = _body_of_class(path, class_name)
    methods = (node for node in body if isinstance(node, ast.FunctionDef))
    init = next((node for node in methods if node.name == '__init__'), None)
    if init is None:
        return Arguments(frozenset(), None)
    plain = [one.arg for one in init.args.args][1:]
    only_named = [one.arg for one in init.args.kwonlyargs]
    required = plain[: len(plain) - len(init.args.defaults)] + [
        name
        for name, default in zip(only_named, init.args.kw_defaults, strict=True)
        if default is None
    ]
    known = None if init.args.kwarg else frozenset([*plain, *only_named])
    return Arguments(frozenset(required), known)


def text_in_source(path: Path, class_name: str, name: str) -> str | None:
    """Text that a class assigns to one of its attributes; None if it assigns none."""
    for node in _body_of_class(path, class_name):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            if ast.unparse(node.targets[0]) == name:
                return str(node.value.value)
    return None


def _body_of_class(path: Path, class_name: str) -> list[ast.stmt]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    return next(node.body for node in classes if node.name == class_name)

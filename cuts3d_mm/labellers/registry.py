"""Registries of labellers and of their feature and depth sources; none needs MMDetection."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

SCOPE = 'cuts3d_mm'
_REGISTERED_CLASS = re.compile(r'^@\w+\.register_module\(\)\nclass (\w+)', re.MULTILINE)


class FolderRegistry(Registry):
    """Builds classes that lie in the files of a folder, and those of other packages.

    A file is imported when a config names its class, because one may need torch and the other
    nothing. A class of another package is named in full, such as `my_package.features.Mine`.

    Args:
        name: what its classes are.
        folder: of this package, with slashes; each file may register classes.
    """

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name, build_func=_build, scope=SCOPE)
        self._folder = Path(__file__).parents[1] / folder
        self._package = f'{SCOPE}.{folder.replace("/", ".")}'
        self._modules: dict[str, str] | None = None

    def import_from_location(self) -> None:
        """Import all files, for those who list the classes."""
        for module in self._module_of_class().values():
            import_module(module)

    def get(self, key: str) -> type | None:
        """Find a class, with or without our scope; None where there is none."""
        name = key.removeprefix(f'{SCOPE}.')
        if name not in self.module_dict and name in self._module_of_class():
            import_module(self._module_of_class()[name])
        found: type | None = self.module_dict.get(name)
        if found is None and '.' in name:
            found = get_object_from_string(name)
        return found

    def names(self) -> list[str]:
        """All classes by name."""
        return sorted(self.module_dict.keys() | self._module_of_class().keys())

    def _module_of_class(self) -> dict[str, str]:
        if self._modules is None:
            self._modules = {
                name: f'{self._package}.{path.stem}'
                for path in sorted(self._folder.glob('*.py'))
                for name in _REGISTERED_CLASS.findall(path.read_text(encoding='utf-8'))
            }
        return self._modules


def _build(config: dict[str, Any], registry: FolderRegistry) -> Any:
    """Build an object from its config, whatever the default scope is."""
    if 'type' not in config:
        raise KeyError(f'config of a {registry.name} must have a type, got {dict(config)}')
    options = dict(config)
    kind = options.pop('type')
    found = registry.get(kind) if isinstance(kind, str) else kind
    if found is None:
        raise KeyError(
            f'type must be a {registry.name} ({", ".join(registry.names())}) or a class of '
            f'another package by its full name, got {kind!r}'
        )
    return found(**options)


FEATURES = FolderRegistry('feature source', 'labellers/features')
DEPTH = FolderRegistry('depth source', 'labellers/depth')
LABELLERS = FolderRegistry('labeller', 'labellers')

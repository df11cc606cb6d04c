"""Registries of labellers and of their feature and depth sources; none needs MMDetection."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from cuts3d_mm.labellers.arguments import arguments_in_source, arguments_of, text_in_source

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
        if found is None and self._is_foreign(name):
            found = get_object_from_string(name)
        return found

    def check(self, config: Any) -> None:
        """Check the type and the arguments' names of a config; of our classes none is imported.

        Raises:
            ValueError: says what it must hold.
        """
        if not isinstance(config, dict) or 'type' not in config:
            example = f"dict(type='{SCOPE}.{self.names()[0]}', ...)"
            raise ValueError(
                f'{self.name} must be a dict with a type, as {example}, got {config!r}'
            )
        kind = config['type']
        if isinstance(kind, str) and self._is_foreign(kind):
            return
        name = kind.removeprefix(f'{SCOPE}.') if isinstance(kind, str) else kind
        if isinstance(name, str) and name in self._module_of_class():
            arguments = arguments_in_source(self._source_of(name), name)
        elif isinstance(name, type) or name in self.module_dict:
            arguments = arguments_of(name if isinstance(name, type) else self.module_dict[name])
        else:
            raise ValueError(
                f'type must be a {self.name} ({", ".join(self.names())}) or a class of another '
                f'package by its full name, got {kind!r}'
            )
        arguments.check({*config} - {'type'}, f'{self.name} {kind}')

    def text_attribute(self, key: str, attribute: str) -> str | None:
        """Text that a class keeps in an attribute; of our classes none is imported."""
        name = key.removeprefix(f'{SCOPE}.')
        if name in self._module_of_class():
            return text_in_source(self._source_of(name), name, attribute)
        return getattr(self.get(key), attribute, None)

    def _source_of(self, name: str) -> Path:
        return self._folder / f'{self._module_of_class()[name].rpartition(".")[2]}.py'

    def _is_foreign(self, name: str) -> bool:
        """Whether a name has the form `package.module.Class` and is not one of ours."""
        parts = name.removeprefix(f'{SCOPE}.').split('.')
        return len(parts) > 1 and all(part.isidentifier() for part in parts)

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


def is_ours(kind: type) -> bool:
    """Tell whether a class is of this package."""
    return kind.__module__.startswith(f'{SCOPE}.')


def _build(config: dict[str, Any], registry: FolderRegistry) -> Any:
    """Build an object from its config, whatever the default scope is."""
    registry.check(config)
    options = dict(config)
    kind = options.pop('type')
    found = registry.get(kind) if isinstance(kind, str) else kind
    if found is None:
        raise ValueError(f'type must be a {registry.name} that can be imported, got {kind!r}')
    return found(**options)


FEATURES = FolderRegistry('feature source', 'labellers/features')
DEPTH = FolderRegistry('depth source', 'labellers/depth')
LABELLERS = FolderRegistry('labeller', 'labellers')

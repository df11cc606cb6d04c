"""Registries of labellers, feature and depth sources; check, complete and build their configs."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from cuts3d_mm.algorithm.params import PRESETS, CutParams, params_from_dict
from cuts3d_mm.hub.client import locate_file

SCOPE = 'cuts3d_mm'
_REGISTERED_CLASS = re.compile(r'^@\w+\.register_module\(\)\nclass (\w+)', re.MULTILINE)
FindClass = Callable[[str], 'type | None']
_NAMED_BY_TIMM = 'timm'  # what `TimmFeatures` takes in place of a location


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


def build_labeller(model: dict[str, Any]) -> Any:
    """Build what labels images, a generator or a detector, from its config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    check_labeller(model)
    return LABELLERS.build(model)


def check_labeller(model: Any) -> None:
    """Check the config of a labeller; nothing is built, loaded or downloaded.

    Raises:
        ValueError: says what it must hold.
    """
    LABELLERS.check(model)
    if not _is_generator(model):
        return
    FEATURES.check(model['features'])
    params = build_params(model.get('recipe'))
    require_depth(params, model.get('depth'))
    if uses_depth(params):
        DEPTH.check(model['depth'])


def has_foreign_parts(model: dict[str, Any]) -> bool:
    """Tell whether a labeller or a part of it is of another package, which may import anything."""
    parts = (LABELLERS, model), (FEATURES, model.get('features')), (DEPTH, model.get('depth'))
    names = ((registry, part['type']) for registry, part in parts if isinstance(part, dict))
    kinds = (registry.get(kind) if isinstance(kind, str) else kind for registry, kind in names)
    return any(kind is not None and not is_ours(kind) for kind in kinds)


def fetch_weights(model: dict[str, Any]) -> None:
    """Download the files of weights that a labeller names into the cache, if need be.

    Raises:
        HubError: one cannot be downloaded.
        FileNotFoundError: one on this machine is not there.
    """
    for part in (model, model.get('features'), model.get('depth')):
        location = part.get('checkpoint') if isinstance(part, dict) else None
        if not isinstance(location, str) or location == _NAMED_BY_TIMM:
            continue
        path = locate_file(location)
        if not path.is_file():
            raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')


def _is_generator(model: dict[str, Any]) -> bool:
    kind = model['type']
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2] == 'PseudoLabelGenerator'


def with_depth_folder(model: dict[str, Any], folder: str | None) -> dict[str, Any]:
    """Let a generator read its depth from a folder.

    Args:
        model: config of a generator. Its depth source stays, with its other options, if it
            reads a folder; otherwise it makes way for `DepthFromFile`.
        folder: of depth maps; None keeps that of the config.

    Raises:
        ValueError: the folder that the depth is read from does not exist.
    """
    found = model.get('depth') if isinstance(model, dict) else None
    depth = found if isinstance(found, dict) else {}  # `check_labeller` says what it must be
    kind = depth.get('type')
    argument = DEPTH.text_attribute(kind, 'FOLDER_ARGUMENT') if isinstance(kind, str) else None
    if folder is None:
        if argument in depth and uses_depth(build_params(model.get('recipe'))):
            _check_folder(depth[argument])
        return model
    _check_folder(folder)
    if argument is None:
        from .depth.files import DepthFromFile

        depth = {'type': f'cuts3d_mm.{DepthFromFile.__name__}'}
        argument = DepthFromFile.FOLDER_ARGUMENT
    return {**model, 'depth': {**depth, argument: folder}}


def _check_folder(folder: str) -> None:
    if not Path(folder).is_dir():
        raise ValueError(f'depth folder must exist, got {folder}; name one with --depth DIR')


def build_params(recipe: dict[str, Any] | None) -> CutParams:
    """Turn the `recipe` of a config into parameters.

    Raises:
        ValueError: an unknown preset, parameter or choice.
    """
    if recipe is not None and not isinstance(recipe, dict):
        raise ValueError(f"recipe must be a dict, such as dict(preset='maskcut'), got {recipe!r}")
    changes = dict(recipe or {})
    preset = changes.pop('preset', 'cuts3d')
    if preset not in PRESETS:
        raise ValueError(f'recipe.preset must be one of {", ".join(PRESETS)}, got {preset!r}')
    return params_from_dict(CutParams, changes, 'recipe.', PRESETS[preset]())


def uses_depth(params: CutParams) -> bool:
    """Tell whether a recipe needs the depth of images."""
    return params.importance is not None or params.local_cut is not None


def require_depth(params: CutParams, depth: Any) -> None:
    """Check that a recipe that uses depth has a source of it.

    Raises:
        ValueError: it has none.
    """
    if uses_depth(params) and depth is None:
        raise ValueError(
            'depth must name a depth source for this recipe, got None; give a folder of '
            "depth maps with --depth, or set recipe.preset to 'maskcut'"
        )

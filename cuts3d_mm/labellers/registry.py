"""Registries of labellers, feature and depth sources; check, complete and build their configs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from cuts3d_mm.algorithm.params import PRESETS, CutParams, params_from_dict
from cuts3d_mm.hub.client import NEEDS_NO_DOWNLOAD, advising, locate_file

SCOPE = 'cuts3d_mm'
_REGISTERED_CLASS = re.compile(r'^@\w+\.register_module\(\)\nclass (\w+)', re.MULTILINE)
FindClass = Callable[[str], 'type | None']
_NAMED_BY_TIMM = 'timm'  # what `TimmFeatures` takes in place of a location


class LazyRegistry(Registry):
    """Builds classes of this folder, and those of other packages.

    A module is imported when a config names a class of it, because one may need torch and the
    other nothing. A class of another package is named in full, such as `my_package.features.Mine`;
    a package may be a file in the folder of the config.

    Args:
        pattern: files of this folder that may register classes.
    """

    def __init__(self, name: str, pattern: str) -> None:
        super().__init__(name, build_func=_build, scope=SCOPE)
        self._pattern = pattern

    @cached_property
    def modules(self) -> dict[str, str]:
        """Module of each class of this folder, which is found without an import."""
        folder = Path(__file__).parent
        return {
            name: '.'.join((__package__, *path.relative_to(folder).with_suffix('').parts))
            for path in sorted(folder.glob(self._pattern))
            for name in _REGISTERED_CLASS.findall(path.read_text(encoding='utf-8'))
        }

    def get(self, key: str) -> type | None:
        """Find a class, with or without our scope; None where there is none."""
        name = key.removeprefix(f'{SCOPE}.')
        if name not in self.module_dict and name in self.modules:
            import_module(self.modules[name])
        found: type | None = self.module_dict.get(name)
        if found is None and _is_full(name):
            found = get_object_from_string(name)
        return found

    def check(self, config: Any) -> type:
        """Check the type and the arguments' names of a config, and return the class."""
        if not isinstance(config, dict) or 'type' not in config:
            example = f"dict(type='{SCOPE}.{self.names()[0]}', ...)"
            raise ValueError(
                f'{self.name} must be a dict with a type, as {example}, got {config!r}'
            )
        kind = config['type']
        found = self.get(kind) if isinstance(kind, str) else kind
        if not callable(found):
            raise ValueError(
                f'type must be a {self.name} ({", ".join(self.names())}), or MODULE.CLASS of a '
                f'package or a file in the folder of CONFIG, got {kind!r}{_why_missing(kind)}; '
                'a file of another folder: --import FILE.py'
            )
        given = {name: value for name, value in config.items() if name != 'type'}
        _check_arguments(found, set(given), f'{self.name} {kind}')
        if is_ours(found):
            _check_values(found, given, f'{self.name} {kind}')
        return found

    def names(self) -> list[str]:
        """All classes by name."""
        return sorted(self.module_dict.keys() | self.modules.keys())


def _is_full(name: str) -> bool:
    """Tell whether a name is MODULE.CLASS; the file of a config may have hyphens."""
    parts = name.replace('-', '_').split('.')
    return len(parts) > 1 and all(map(str.isidentifier, parts))


def _why_missing(kind: Any) -> str:
    """Cause why a class of another package is not found."""
    if not isinstance(kind, str) or not _is_full(kind) or kind.startswith(f'{SCOPE}.'):
        return ''
    name, _, attribute = kind.rpartition('.')
    try:
        module = import_module(name)
    except ImportError as error:
        return f': {error}'
    return f': {getattr(module, "__file__", name)} has no class {attribute}'


def is_ours(kind: type) -> bool:
    """Tell whether a class is of this package."""
    return kind.__module__.startswith(f'{SCOPE}.')


def _build(config: dict[str, Any], registry: LazyRegistry) -> Any:
    """Build an object from its config, whatever the default scope is."""
    kind = registry.check(config)
    return kind(**{name: value for name, value in config.items() if name != 'type'})


def _check_arguments(kind: type, given: set[str], whose: str) -> None:
    parameters = inspect.signature(kind).parameters.values()
    named = [one for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    known = {one.name for one in named}
    is_open = any(one.kind is one.VAR_KEYWORD for one in parameters)
    unknown = [] if is_open else sorted(given - known)
    missing = sorted(
        one.name for one in named if one.default is one.empty and one.name not in given
    )
    names = ', '.join(sorted(known)) or 'none'
    if unknown:
        raise ValueError(f'{whose} has no argument {", ".join(unknown)}; it has {names}')
    if missing:
        raise ValueError(
            f'{whose} must be given {", ".join(missing)}, got '
            f'{", ".join(sorted(given)) or "nothing"}; its arguments are {names}'
        )


def _check_values(kind: type, given: dict[str, Any], whose: str) -> None:
    """Check values by the annotations of a class, where these are plain types.

    Parts with a config of their own have checks of their own.
    """
    parameters = inspect.signature(kind, eval_str=True).parameters
    for name, value in given.items():
        wanted = parameters[name].annotation if name in parameters else Any
        if 'dict' in str(wanted):
            continue
        try:
            msgspec.convert(value, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(
                f'{whose} must have {name} of type {getattr(wanted, "__name__", wanted)}, got '
                f'{value!r}: {error}'
            ) from error
        except TypeError:  # not a plain type
            continue


FEATURES = LazyRegistry('feature source', 'features/*.py')
DEPTH = LazyRegistry('depth source', 'depth/*.py')
LABELLERS = LazyRegistry('labeller', '*.py')


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
    """Complete a config by the classes of ours that a function finds by their names."""
    if isinstance(config, (list, tuple)):
        return [with_defaults(value, find_class) for value in config]
    if not isinstance(config, dict):
        return config
    kind = _our_class(config.get('type'), find_class)
    if kind is None:
        return {str(key): with_defaults(value, find_class) for key, value in config.items()}
    parameters = inspect.signature(kind).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    complete = {**defaults, **config, 'type': f'{SCOPE}.{kind.__name__}'}
    if hasattr(kind, 'resolve'):
        complete = kind.resolve(complete)
    return {key: with_defaults(value, find_class) for key, value in complete.items()}


def _part_of_a_labeller(name: str) -> type | None:
    return LABELLERS.get(name) or FEATURES.get(name) or DEPTH.get(name)


def _our_class(kind: Any, find_class: FindClass) -> type | None:
    if isinstance(kind, type) and is_ours(kind):
        return find_class(kind.__name__)
    if not isinstance(kind, str):
        return None
    name = kind.removeprefix(f'{SCOPE}.')
    found = None if '.' in name else find_class(name)
    return found if found is not None and is_ours(found) else None


def build_labeller(model: dict[str, Any]) -> Any:
    """Build what labels images, a generator or a detector, from its config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    check_labeller(model)
    return LABELLERS.build(model)


def check_labeller(model: Any) -> None:
    """Check the config of a labeller, and import the classes that it names.

    Nothing is built, loaded or downloaded.
    """
    kinds = [LABELLERS.check(model)]
    if kinds[0].__name__ == 'PseudoLabelGenerator':
        params = build_params(model.get('recipe'))
        kinds.append(FEATURES.check(model['features']))
        require_depth(params, model.get('depth'))
        if params.local_cut is not None:
            from cuts3d_mm.algorithm.local_cut import find_rule

            find_rule(params.local_cut.capacity)
        if params.uses_depth:
            kinds.append(DEPTH.check(model['depth']))
    if not all(map(is_ours, kinds)):
        with suppress(ImportError):  # a class of another package may need it later
            import torch  # noqa: F401


def fetch_weights(model: dict[str, Any]) -> None:
    """Download the files of weights that a labeller names into the cache, if need be.

    Raises:
        HubError: one cannot be downloaded.
        FileNotFoundError: one on this machine is not there.
    """
    for part in (model, *map(model.get, ('features', 'depth', 'labeller'))):
        location = part.get('checkpoint') if isinstance(part, dict) else None
        if not isinstance(location, str) or location == _NAMED_BY_TIMM:
            continue
        with advising(NEEDS_NO_DOWNLOAD) if part is not model else nullcontext():
            path = locate_file(location)
        if not path.is_file():
            raise FileNotFoundError(f'checkpoint must be a file, found none at {path}')


def with_depth_folder(model: dict[str, Any], folder: str | None) -> dict[str, Any]:
    """Let a generator read its depth from a folder.

    Args:
        model: config of a generator. Its depth source stays, with its other options, if it
            reads a folder; otherwise it makes way for `DepthFromFile`.
        folder: of depth maps; None keeps that of the config.

    Raises:
        ValueError: the folder that the depth is read from does not exist, or the recipe uses no
            depth and a folder is given.
    """
    found = model.get('depth') if isinstance(model, dict) else None
    depth = found if isinstance(found, dict) else {}  # `check_labeller` says what it must be
    argument = _folder_argument(depth.get('type'))
    if folder is None and argument not in depth:
        return model
    if folder is not None and isinstance(model, dict):
        if not build_params(model.get('recipe')).uses_depth:
            raise ValueError(
                f'--depth must be left out with a recipe that cuts in 2D, got {folder}; a config '
                'that cuts in 3D uses it, such as cuts3d_color-texture_file-depth'
            )
    path = depth[argument] if folder is None else folder
    if not depth_folder(str(path)).is_dir() and (
        folder or build_params(model.get('recipe')).uses_depth
    ):
        raise ValueError(
            f'depth folder must exist, got {path}; name one with --depth DIR, as cuts3d depth '
            'writes it'
        )
    if argument is None:
        depth, argument = {'type': 'cuts3d_mm.DepthFromFile'}, 'root'
    return {**model, 'depth': {**depth, argument: path}}


def depth_folder(root: str) -> Path:
    """Folder of depth maps: all of `root`, or what stands before {} in a pattern of names."""
    before, name, _ = root.partition('{}')
    return Path(f'{before}x').parent if name else Path(before)


def _folder_argument(kind: Any) -> str | None:
    """Argument of a depth source that names the folder it reads; our classes are not imported."""
    name = kind.removeprefix(f'{SCOPE}.') if isinstance(kind, str) else ''
    if name in DEPTH.modules:
        return 'root' if name == 'DepthFromFile' else None
    return getattr(DEPTH.get(name), 'FOLDER_ARGUMENT', None)


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
    built: CutParams = params_from_dict(CutParams, changes, 'recipe.', PRESETS[preset]())
    return built


def require_depth(params: CutParams, depth: Any) -> None:
    """Check that a recipe that uses depth has a source of it."""
    if params.uses_depth and depth is None:
        raise ValueError(
            'depth must name a depth source for this recipe, got None; give a folder of '
            "depth maps with --depth, or set recipe.preset to 'maskcut'"
        )

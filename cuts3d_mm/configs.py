"""Find, load and change configs.

Those that come with the package lie in `cuts3d_mm/.mim`: as copies in an installed wheel, as
links to the checkout in an editable install. A plain checkout has no `.mim`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cuts3d_mm.files.paths import require_writable
from cuts3d_mm.mmengine_imports import leave_out_unused

if TYPE_CHECKING:
    from mmengine.config import Config

_PACKAGE = Path(__file__).parent
Kind = Literal['generator', 'training']
Step = Mapping[str, Any]
# What is known of an image that was read from an array: no path.
_META_KEYS = ('img_id', 'ori_shape', 'img_shape', 'scale_factor', 'border')
# What Python raises where a config, which is code of the user, is wrong.
_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
    OSError, RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
SCORE_THR = 0.35  # smallest score of what is shown to people, in [0, 1]; CutLER's demo


def shipped_root() -> Path:
    """Folder that holds `configs/` and `tools/`: the checkout, where there is one."""
    configs = _PACKAGE / '.mim/configs'
    # Links are followed, so that a config has one path.
    return configs.resolve().parent if configs.is_dir() else _PACKAGE.parent


def shipped_configs(kind: Kind | None = None) -> list[Path]:
    """Configs that come with the package and can be run, of a kind or all, sorted."""
    configs = sorted((shipped_root() / 'configs').glob('[!_]*/*.py'))
    return [config for config in configs if kind in (None, _kind(config))]


def find_config(name: str, kind: Kind | None = None) -> Path:
    """Find a config: a file by its path, or a shipped one by its bare name.

    Args:
        name: path of a file; or the name of a shipped config, with or without `.py`. A bare name
            means the shipped config even where the current folder has such a file: a config is
            code, and `./` says that the file is meant.
        kind: which shipped configs can be meant; None for all.

    Raises:
        ValueError: there is no such config.
    """
    path = Path(name)
    named = [config for config in shipped_configs() if name in (config.name, config.stem)]
    if named and kind in (None, _kind(named[0])):
        return named[0]
    if named:
        raise ValueError(f'CONFIG must be a {kind}, but the shipped {name} is of another kind')
    if path.is_file():
        return path
    # A path that leads nowhere is a mistake, not the name of a shipped file.
    stems = [config.stem for config in shipped_configs(kind)]
    nearest = difflib.get_close_matches(path.stem, stems, 3, 0.4)
    meant = f'; nearest: {", ".join(nearest)}' if nearest else ''
    raise ValueError(
        f'CONFIG must be a file or a shipped config, got {name}{meant}; cuts3d configs lists all'
    )


def _kind(config: Path) -> Kind:
    return 'generator' if config.parent.name == 'pseudo_labels' else 'training'


def trust_folder(config: Path) -> None:
    """Let a config that a user names by its path name classes of its own file and folder.

    The folder is searched after all others, so that its files hide no installed module.
    """
    folder = str(config.resolve().parent)
    if shipped_root() / 'configs' not in config.resolve().parents and folder not in sys.path:
        sys.path.append(folder)


def load_config(
    name: str,
    options: list[str],
    launcher: str = 'none',
    work_dir: str | None = None,
    imports: bool = True,
) -> Config:
    """Load the config of a training or a test.

    Args:
        name: path, or file name of a shipped config.
        options: `key=value` changes.
        launcher: `none`, `pytorch`, `slurm` or `mpi`.
        work_dir: folder of logs and checkpoints; by default `work_dirs/` and the config's name.
        imports: whether to import what its `custom_imports` name, which takes seconds.

    Raises:
        ValueError: no such config, a malformed option.
    """
    path = find_config(name, 'training')
    trust_folder(path)
    config = read_config(path, imports)
    _change(config, parse_options(options))
    config.launcher = launcher
    config.work_dir = work_dir or config.get('work_dir') or f'work_dirs/{Path(path).stem}'
    return config


def read_config(path: Path, imports: bool = True) -> Config:
    """Read the file of a config, and import what its `custom_imports` name if `imports` is set.

    Raises:
        ValueError: the file, or a file that it names, is wrong.
    """
    from mmengine.config import Config

    try:
        return Config.fromfile(str(path), import_custom_modules=imports)
    except _FAULTS as error:
        if shipped_root() / 'configs' in path.resolve().parents:
            raise
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise ValueError(
            f'CONFIG {path} must be a config that can be read, correct it; {reason}'
        ) from error


def _change(config: Config, changes: dict[str, Any]) -> None:
    """Change values of a config by their dotted keys."""
    try:
        config.merge_from_dict(changes)
    except _FAULTS as error:
        raise ValueError(
            f'--cfg-options {", ".join(changes)} must name keys of dicts and numbers in lists of '
            f'CONFIG; {type(error).__name__}: {error}'
        ) from error


def look_into(
    name: str,
    options: list[str],
    loaders: Sequence[str] = (),
    advice: str = '',
    work_dir: str | None = None,
) -> None:
    """Check what can be checked of a config in a moment, and import no more for it than it needs.

    For commands, before they import MMDetection.

    Args:
        name: path, or file name of a shipped config.
        options: `key=value` changes.
        loaders: data loaders and evaluators whose labels or annotations must be there.
        advice: how to make what is missing.
        work_dir: as for `load_config`; with loaders, it must be possible to write there.

    Raises:
        ValueError: no such config, a malformed option, or no labels.
    """
    config = load_config(name, options, work_dir=work_dir, imports=False)
    if loaders:
        require_writable(Path(config.work_dir), '--work-dir')
    missing = [
        (key, path)
        for part in loaders
        for key, path in _annotation_files(config.get(part), f'{part}.')
        if '://' not in path and not Path(path).exists()
    ]
    if missing:
        places = ', '.join(f'{key} ({path})' for key, path in missing)
        changes = ' '.join(f'{key}=PATH' for key, _ in missing)
        if any(key.startswith('val_') for key, _ in missing):
            changes += '; without annotations: val_cfg=None val_dataloader=None val_evaluator=None'
        raise ValueError(
            f'label stores and COCO JSON files must be there, found nothing for {places}; '
            f'{advice}name others by --cfg-options {changes}'
        )
    leave_out_unused(config)


def _annotation_files(part: Any, key: str) -> Iterator[tuple[str, str]]:
    """Keys and paths of the `ann_file` in a data loader or evaluator, below its `data_root`."""
    if isinstance(part, Mapping):
        file = part.get('ann_file')
        if isinstance(file, str) and file and not part.get('backend_args'):
            root = part.get('data_root') or ''
            yield f'{key}ann_file', file if '://' in file else os.path.join(root, file)
        for name, value in part.items():
            yield from _annotation_files(value, f'{key}{name}.')
    elif isinstance(part, (list, tuple)):
        for number, value in enumerate(part):
            yield from _annotation_files(value, f'{key}{number}.')


def load_generator_config(
    name: str, options: list[str], files: Sequence[Path] = ()
) -> dict[str, Any]:
    """Load the `model` of a generator config as plain dicts; see `read_generator_config`."""
    model: dict[str, Any] = read_generator_config(name, options, files).to_dict()['model']
    return model


def read_generator_config(name: str, options: list[str], files: Sequence[Path] = ()) -> Config:
    """Load a generator config, and import what its `custom_imports` name.

    Args:
        name: path, or file name of a shipped config.
        options: `key=value` changes.
        files: Python files that define or register classes; they join `custom_imports`.

    Raises:
        ValueError: no such config, a malformed or unknown option.
        ImportError: a file cannot be imported.
    """
    path = find_config(name, 'generator')
    for file in (path, *files):
        trust_folder(file)
    config = read_config(path)
    if 'model' not in config:
        raise ValueError(f'{name} must define model = dict(type=...), it does not')
    changes = parse_options(options)
    for key in changes:
        if key.split('.')[0] not in config:
            raise ValueError(f'--cfg-options {key} must start with a key of {name}, such as model')
    _change(config, changes)
    _use_plain_names(config.model, path.stem)
    if files:
        modules = [_import_file(file) for file in files]
        ours = dict(config.get('custom_imports') or {'imports': []})
        named = [ours['imports']] if isinstance(ours['imports'], str) else ours['imports']
        config.custom_imports = {**ours, 'imports': [*named, *modules]}
    return config


def _use_plain_names(part: Any, module: str) -> None:
    """Make the parts of a config what any process understands, in place.

    MMEngine marks what comes from another project's config with its scope; our names are in full.
    A class that the config file, of the name `module`, defines itself is named by that file.
    """
    if isinstance(part, dict):
        part.pop('_scope_', None)
        kind = part.get('type')
        if isinstance(kind, type):
            found = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None)
            if found is not kind:
                part['type'] = f'{module}.{kind.__qualname__}'
    if isinstance(part, (dict, list, tuple)):
        for value in part.values() if isinstance(part, dict) else part:
            _use_plain_names(value, module)


def _import_file(path: Path) -> str:
    """Import a file of a trusted folder, and return the name of its module."""
    module = import_module(path.stem)
    found = getattr(module, '__file__', None)
    if found is None or Path(found).resolve() != path.resolve():
        raise ImportError(
            f'--import {path} must have a name of its own, but {path.stem} is {found}; rename it'
        )
    return path.stem


def parse_options(options: list[str]) -> dict[str, Any]:
    """Turn `key=value` strings into a dict, values parsed as MMEngine does.

    Raises:
        ValueError: an option has no `=`.
    """
    from mmengine.config import DictAction

    for option in options:
        if '=' not in option:
            raise ValueError(f'--cfg-options must be KEY=VALUE, got {option!r}')
    found = argparse.Namespace()
    DictAction([], 'options')(argparse.ArgumentParser(), found, options)
    changes: dict[str, Any] = found.options
    return changes


def without_labels(pipeline: Sequence[Step]) -> list[dict[str, Any]]:
    """Leave out the steps that need labels, for images that have none."""
    return [dict(step) for step in pipeline if not _needs_labels(step)]


def read_arrays(pipeline: Sequence[Step]) -> list[dict[str, Any]]:
    """Let a pipeline of a detector take `{'img': array in BGR, 'img_id': number}`, not a file."""
    as_float = any(_loads_image(step) and step.get('to_float32') for step in pipeline)
    kept = [step for step in without_labels(pipeline) if not _loads_image(step)]
    packed = [
        {**step, 'meta_keys': _META_KEYS} if _name(step) == 'PackDetInputs' else step
        for step in kept
    ]
    return [{'type': 'mmdet.LoadImageFromNDArray', 'to_float32': as_float}, *packed]


def _needs_labels(step: Step) -> bool:
    name = _name(step)
    return 'Annotations' in name or (name.startswith('Load') and not _loads_image(step))


def _loads_image(step: Step) -> bool:
    name = _name(step)
    return name.startswith('Load') and 'Image' in name


def _name(step: Step) -> str:
    """Name of the class of a step, without its scope."""
    kind = step['type']
    name = kind if isinstance(kind, str) else kind.__name__
    return name.rpartition('.')[2]

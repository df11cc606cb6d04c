"""What the commands share: configs from arguments and one clear line for an error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cuts3d_mm.shipped_files import find_config

EXIT_USAGE = 2  # wrong input, nothing done
EXIT_FAILURES = 3  # done, with more failures than allowed
EXIT_INTERRUPTED = 130  # as shells do for Ctrl-C


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command; an error that the user can mend becomes one line and exit code 2."""
    try:
        sys.exit(main() or 0)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        message = ' '.join(str(error).split())
        print(f'{_program()}: {message}', file=sys.stderr)
        sys.exit(EXIT_USAGE)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a command, which calls itself `cuts3d COMMAND` however it is run."""
    return argparse.ArgumentParser(prog=_program(), description=description)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG and --cfg-options to a command."""
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change config values, for instance model.recipe.local_cut.tau_knn=0.05',
    )


def load_generator_config(name: str, options: list[str], depth_folder: str | None) -> dict:
    """Load the `model` of a generator config as plain dicts.

    Args:
        name: path, or file name of a shipped config.
        options: `key=value` changes.
        depth_folder: folder that replaces the config's depth source, or None.

    Raises:
        ValueError: no such config, a malformed or unknown option.
    """
    from mmengine.config import Config

    config = Config.fromfile(str(find_config(name)))
    if 'model' not in config:
        raise ValueError(f'{name} must define model = dict(type=...), it does not')
    changes = parse_options(options)
    for key in changes:
        if key.split('.')[0] not in config:
            raise ValueError(f'--cfg-options {key} must start with a key of {name}, such as model')
    config.merge_from_dict(changes)
    model: dict[str, Any] = config.to_dict()['model']
    if depth_folder is not None:
        model['depth'] = _depth_from(depth_folder, model.get('depth') or {})
    return model


def build_generator(model: dict[str, Any]) -> Any:
    """Build the generator of a config.

    Raises:
        ValueError: the config names something unknown or leaves something out.
    """
    from cuts3d_mm.registry import MODELS

    try:
        return MODELS.build(model)
    except (TypeError, KeyError) as error:
        raise ValueError(f'model config: {error}') from error


def _program() -> str:
    return f'cuts3d {Path(sys.argv[0]).stem}'


def parse_options(options: list[str]) -> dict[str, Any]:
    """Turn `key=value` strings into a dict, values parsed as MMEngine does.

    Raises:
        ValueError: an option has no `=`.
    """
    from mmengine.config import DictAction

    for option in options:
        if '=' not in option:
            raise ValueError(f'--cfg-options must be KEY=VALUE, got {option!r}')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    if not options:
        return {}
    return parser.parse_args(['--cfg-options', *options]).cfg_options


def _depth_from(folder: str, configured: dict[str, Any]) -> dict[str, Any]:
    if configured.get('type', '').endswith('DepthFromFile'):
        return {**configured, 'root': folder}
    return {'type': 'cuts3d_mm.DepthFromFile', 'root': folder}

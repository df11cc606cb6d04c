"""Arguments that commands share, each checked before anything heavy is imported."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import find_config
from cuts3d_mm.labels.places import Place, find_place

IMAGES_HELP = (
    'folder (with its subfolders), text file of paths, or COCO JSON; may be in s3://BUCKET/PREFIX'
)
LABELS_HELP = 'label store or COCO JSON; may be in s3://BUCKET/PREFIX'
WORK_DIR_HELP = 'folder of logs and checkpoints (default: work_dirs/ and the name of CONFIG)'


class UsageError(Exception):
    """An argument is wrong; argparse would replace the message of a ValueError."""


class CommandParser(argparse.ArgumentParser):
    """Parser whose `--help` keeps the lines of the examples and adds the defaults."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{'formatter_class': _HelpFormatter, **options})


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ''
        if action.default in (None, False, argparse.SUPPRESS) or 'default' in text:
            return text
        return text if isinstance(action.default, list) else f'{text} (default %(default)s)'


def program() -> str:
    """Name of the running command, however it was started."""
    return f'cuts3d {Path(sys.argv[0]).stem.replace("_", "-")}'


def make_parser(doc: str | None) -> CommandParser:
    """Make the parser of a command, which calls itself `cuts3d COMMAND` however it is run.

    Args:
        doc: docstring of the command: a sentence, then its examples.
    """
    sentence, _, examples = (doc or '').partition('\n\n')
    return CommandParser(prog=program(), description=sentence, epilog=examples)


def config_name(name: str) -> str:
    """Check that there is such a config."""
    try:
        find_config(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return name


def weights_location(location: str) -> str:
    """Check that there are such weights, as far as this machine can tell."""
    if '://' not in location and not Path(location).is_file():
        raise UsageError(f'checkpoint must be a file, found none at {location}')
    return location


def place(text: str) -> Place:
    """Read a path, or the URI of a place elsewhere."""
    try:
        return find_place(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def local_place(text: str) -> Path:
    """Read a path on this machine."""
    if isinstance(found := place(text), Path):
        return found
    raise UsageError(f'must be a path on this machine, got {text}; write there, then copy it')


def images_path(text: str) -> Place:
    """Check that there is something that can name images."""
    if not place(text).exists():
        raise UsageError(
            f'IMAGES must be a folder, a text file or a COCO JSON, found nothing at {text}'
        )
    return place(text)


def image_source(location: str) -> str:
    """Check that there is such an image, folder or video, as far as this machine can tell."""
    is_elsewhere = '://' in location or location.startswith('webcam:')
    if not is_elsewhere and not Path(location).exists():
        raise UsageError(
            f'INPUT must be an image, a folder, a list, a video, an address or '
            f'webcam:N, found nothing at {location}'
        )
    return location


def image_file(path: str) -> Path:
    """Check that there is such an image."""
    if not Path(path).is_file():
        raise UsageError(f'IMAGE must be an image file, found none at {path}')
    return Path(path)


def labels_path(text: str) -> Place:
    """Check that there is something that can hold labels."""
    if not place(text).exists():
        raise UsageError(f'LABELS must be a label store or a COCO JSON, found nothing at {text}')
    return place(text)


def label_store_path(text: str) -> Place:
    """Check that there is a label store."""
    if not any(place(text).glob('labels-*.parquet')):
        raise UsageError(f'{text} must be a label store, found no labels-*.parquet in it')
    return place(text)


def local_label_store(text: str) -> Path:
    """Check that there is a label store on this machine."""
    store = label_store_path(text)
    if not isinstance(store, Path):
        raise UsageError(f'the label store must be on this machine, copy {text} first')
    return store


def existing_file(path: str) -> Path:
    """Check that there is such a file."""
    if not Path(path).is_file():
        raise UsageError(f'must be a file, found none: {path}')
    return Path(path)


def image_folder(text: str) -> Place:
    """Check that there is such a folder of images."""
    if not place(text).is_dir():
        raise UsageError(f'IMAGES must be a folder, found none: {text}')
    return place(text)


def existing_folder(path: str) -> Path:
    """Check that there is such a folder."""
    if not Path(path).is_dir():
        raise UsageError(f'must be a folder, found none: {path}')
    return Path(path)


def share(text: str) -> float:
    """Read a share or a score."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f'a share or score must lie in [0, 1], got {text}')
    return value

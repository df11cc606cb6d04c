"""Add the arguments that several commands share."""

from __future__ import annotations

import argparse

from cuts3d_mm.arguments import config_name, existing_file, share


def add_config_argument(
    parser: argparse.ArgumentParser, example: str = 'model.recipe.local_cut.tau_knn=0.05'
) -> None:
    """Add CONFIG and --cfg-options to a command; its help shows the `example`."""
    parser.add_argument(
        'config',
        type=config_name,
        metavar='CONFIG',
        help='config file, or name of a shipped config',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help=f'change values of the config, such as {example}',
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device to a command that runs networks on one device."""
    parser.add_argument(
        '--device',
        default='auto',
        help='of the networks, such as cuda:0 or cpu; auto: a GPU if there is one (default auto)',
    )


def add_exclude_argument(parser: argparse.ArgumentParser) -> None:
    """Add --exclude to a command that works on many images."""
    parser.add_argument(
        '--exclude',
        type=existing_file,
        metavar='FILE',
        help='text file of images to leave out, a name relative to their folder a line',
    )


def add_max_failures_argument(parser: argparse.ArgumentParser) -> None:
    """Add --max-failures to a command that goes on after a bad image."""
    parser.add_argument(
        '--max-failures',
        type=share,
        default=0.01,
        metavar='SHARE',
        help='share of images that may fail, in [0, 1]; with more the exit code is 3',
    )

"""Arguments that commands of detectors share: trained weights, and how a training starts."""

from __future__ import annotations

import argparse

from cuts3d_mm.arguments import weights_location


def add_checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    """Add CHECKPOINT to a command."""
    parser.add_argument(
        'checkpoint',
        type=weights_location,
        metavar='CHECKPOINT',
        help='weights: a file, https:// or hf:// location',
    )


def add_model_arguments(parser: argparse.ArgumentParser, what: str = 'the detector') -> None:
    """Add --model and --weights, which name a trained detector together."""
    parser.add_argument(
        '--model',
        help=f'{what}: owner/repo[@revision] on the Hugging Face Hub, a downloaded folder, or a '
        'config',
    )
    parser.add_argument(
        '--weights',
        type=weights_location,
        metavar='CHECKPOINT',
        help='with a config in --model: a file, https:// or hf:// location',
    )


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a command that runs on several GPUs needs."""
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what has started the processes',
    )
    # torch.distributed.launch passes either spelling.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        metavar='N',
        help='number of this process on its machine; the launcher sets it',
    )

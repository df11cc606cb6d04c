"""Train a detector, of this package or any other config of MMDetection.

Examples:
    cuts3d train demo_out/learned_0/training.py --work-dir work_dirs/demo
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cuts3d_mm.cli import add_config_arguments, make_parser, run_command
from cuts3d_mm.configs import load_config, look_into

_ADVICE = 'cuts3d generate makes labels; '
AUTO = 'auto'  # resume from the latest checkpoint of the work dir


def parse_args() -> argparse.Namespace:
    """Read the command line; the arguments are those of MMDetection's tools/train.py."""
    parser = make_parser(__doc__)
    add_config_arguments(parser, 'train_dataloader.batch_size=4')
    parser.add_argument('--work-dir')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the real batch size over the one of the config',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const=AUTO,
        metavar='CHECKPOINT',
        help='checkpoint to go on from (default: the latest in the work dir; if there is no '
        'checkpoint, the training begins as without this option)',
    )
    parser.add_argument('--launcher')
    parser.add_argument('--local_rank', '--local-rank')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    is_here = args.resume not in (None, AUTO) and '://' not in args.resume
    if is_here and not Path(args.resume).is_file():
        raise ValueError(f'--resume must be a file, found none: {args.resume}')
    # What takes seconds to import comes after all that is quick to check.
    loaders = 'train_dataloader', 'val_dataloader', 'val_evaluator'
    look_into(args.config, args.cfg_options, loaders, _ADVICE, args.work_dir)
    from cuts3d_mm.engine.optim_wrappers import require_amp
    from cuts3d_mm.engine.runner import build_runner, require_doubt

    config = load_config(args.config, args.cfg_options, args.launcher, args.work_dir)
    require_doubt(config)
    if args.amp:
        require_amp(config)
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise ValueError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        config.auto_scale_lr.enable = True
    if args.resume == AUTO:
        config.resume = AUTO
    elif args.resume is not None:
        config.update(resume=True, load_from=args.resume)
    build_runner(config).train()


if __name__ == '__main__':
    run_command(main, 'add --resume to the same command to go on from the latest checkpoint')

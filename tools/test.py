"""Test a detector: class-agnostic COCO scores of a checkpoint.

Examples:
    cuts3d test cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet iter_160000.pth
"""

from __future__ import annotations

import argparse
import os

from cuts3d_mm.cli import add_config_arguments, make_parser, run_command
from cuts3d_mm.configs import load_config, look_into


def parse_args() -> argparse.Namespace:
    """Read the command line; the arguments are those of MMDetection's tools/test.py."""
    parser = make_parser(__doc__)
    add_config_arguments(parser, 'test_dataloader.batch_size=4')
    parser.add_argument('checkpoint')
    parser.add_argument('--work-dir')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='folder below --work-dir for drawn predictions'
    )
    parser.add_argument('--out', metavar='FILE', help='file to write the predictions into (.pkl)')
    parser.add_argument('--launcher')
    parser.add_argument('--local_rank', '--local-rank')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out must end with .pkl or .pickle, got {args.out}')
    # What takes seconds to import comes after all that is quick to check.
    look_into(
        args.config,
        args.cfg_options,
        ['test_dataloader', 'test_evaluator'],
        work_dir=args.work_dir,
    )
    from mmdet.evaluation import DumpDetResults

    from cuts3d_mm.engine.runner import build_runner

    config = load_config(args.config, args.cfg_options, args.launcher, args.work_dir)
    config.load_from = args.checkpoint
    if args.show_dir is not None:
        config.default_hooks.visualization.update(draw=True, test_out_dir=args.show_dir)
    runner = build_runner(config)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    run_command(main)

"""Train a detector on a folder of images without a label; run again to resume.

Examples:
    cuts3d learn images learned --dry-run
    cuts3d learn images learned --offline --depth depth --rounds 2 --steps 160
"""

from __future__ import annotations

import argparse

from cuts3d_mm.cli import (
    RESUMES,
    ask,
    at_least,
    config_name,
    existing_file,
    generator_name,
    local_place,
    make_parser,
    run_command,
)
from cuts3d_mm.learning.plan import Request


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument(
        'images', help='folder (with its subfolders), text file of paths, or COCO JSON'
    )
    parser.add_argument(
        'out',
        help='folder to write, which is continued if it is there; other images need another OUT',
    )
    parser.add_argument(
        '--config',
        type=generator_name,
        help='generator of pseudo-labels (default: DINO and ZoeDepth; with --offline the embedded '
        'features)',
    )
    parser.add_argument(
        '--detector',
        type=config_name,
        help='training with rounds (default: Cascade Mask R-CNN with ResNet-50; with --offline a '
        'tiny one)',
    )
    parser.add_argument(
        '--load-from',
        metavar='MODEL',
        help='weights to begin with: a release folder, owner/repo on the Hugging Face Hub, a file',
    )
    parser.add_argument(
        '--depth',
        type=local_place,
        help='folder of depth maps, by relative path, or a pattern, such as DIR/{}_depth.npy; '
        'without it --offline cuts in 2D',
    )
    parser.add_argument(
        '--larger-is',
        choices=['far', 'near'],
        help='what larger values of the depth maps are (default: as the config says; far)',
    )
    parser.add_argument(
        '--offline', action='store_true', help='download nothing: embedded features, tiny detector'
    )
    parser.add_argument(
        '--rounds',
        type=at_least(0),
        help='rounds of self-training after the initial one (default: 2, or as the plan in OUT)',
    )
    parser.add_argument(
        '--steps',
        type=at_least(1),
        help='steps of the initial round; rounds of self-training and the fine-tuning of --labels '
        'change by the same factor (default: 160,000 x (n / 1,281,167)^0.543 steps of 16 images '
        'for n images to train on, with --offline 600 x (n / 96)^0.543 steps of 2 images; a '
        'smaller batch takes as many more steps)',
    )
    parser.add_argument(
        '--select',
        metavar='LABELS',
        help='pseudo-labels to train on: all by none, those with a score of at least 0.5 by 0.5, '
        'the half with the best scores by 50%% (default: 50%%, or as the plan in OUT)',
    )
    parser.add_argument(
        '--gpus', type=at_least(0), help='GPUs to train on (default: all; 0: the CPU)'
    )
    parser.add_argument(
        '--seed', default=None, help='seed of the training (default: 0, or as the plan in OUT)'
    )
    parser.add_argument(
        '--workers', type=at_least(0), help='processes that label (default: all cores)'
    )
    parser.add_argument(
        '--annotations',
        type=existing_file,
        help='COCO JSON of the true objects, to score against; nothing is trained on it',
    )
    parser.add_argument(
        '--labels',
        type=existing_file,
        help='COCO JSON with classes of a few images, to fine-tune on at the end',
    )
    parser.add_argument('--exclude')
    parser.add_argument(
        '--yes',
        action='store_true',
        help='go on, without a question, where many of the first images have no label, many masks '
        'are tiny, or images have changed or are gone since they were labelled',
    )
    parser.add_argument('--dry-run', action='store_true', help='print the plan and end')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    options = {name: value for name, value in vars(args).items() if name != 'dry_run'}
    request = Request(**options)
    # Imported when the arguments are right: torch takes seconds.
    from cuts3d_mm.learning.loop import learn

    learn(request, lambda line: print(line, flush=True), args.dry_run, ask)


if __name__ == '__main__':
    run_command(main, RESUMES)

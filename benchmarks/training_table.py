"""What each use of Spatial Confidence brings a tiny detector on rendered scenes.

Trains on pseudo-labels of 96 scenes, tests on 24 others, several seeds:

    python benchmarks/training_table.py OUT

Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cuts3d_mm.demo.run import RECIPES, label_set
from cuts3d_mm.demo.training import (
    NUM_HELD_OUT,
    NUM_TRAINING,
    data_options,
    final_scores,
    read_log,
    train_tiny,
    write_training_scenes,
)
from cuts3d_mm.visualization.tables import format_table

PASTE = 'train_dataloader.dataset.pipeline.0'
RANDOM = f'{PASTE}.type=cuts3d_mm.AlphaBlendCopyPaste'
HARD, STOCK_LOSS = f'{PASTE}.alpha=False', 'model.roi_head.mask_head.confidence_source=none'

# name -> labels, changes of the config
VARIANTS = {
    'MaskCut labels': ('MaskCut (2D)', [RANDOM, HARD, STOCK_LOSS]),
    'CutS3D labels': ('CutS3D', [RANDOM, HARD, STOCK_LOSS]),
    '+ selection': ('CutS3D', [HARD, STOCK_LOSS]),
    '+ alpha-blending': ('CutS3D', [STOCK_LOSS]),
    '+ loss (Eq. 6)': ('CutS3D', []),
}


def make_labels(root: Path, workers: int) -> None:
    """Scenes and both kinds of labels."""
    training, _ = write_training_scenes(root, NUM_TRAINING, NUM_HELD_OUT)
    for name, config in RECIPES.items():
        label_set(config, training, root / f'labels_{name}', workers)


def train(out: Path, name: str, seed: int, max_iters: int) -> dict[str, float]:
    """One cell of the table; a finished one is read from its log."""
    labels, changes = VARIANTS[name]
    work_dir = out / 'work_dirs' / f'{name.replace(" ", "_")}_{seed}'
    log = read_log(work_dir)
    if not any(line.get('step') == max_iters and 'coco/segm_mAP' in line for line in log):
        schedule = [f'train_cfg.max_iters={max_iters}', f'train_cfg.val_interval={max_iters}']
        paths = data_options(out, out / f'labels_{labels}')
        options = [*paths, *changes, *schedule, f'randomness.seed={seed}']
        log = train_tiny(work_dir, options)
    return final_scores(log)


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--max-iters', type=int, default=300)
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()
    make_labels(args.out, args.workers)
    rows = []
    for name in VARIANTS:
        scores = [train(args.out, name, seed, args.max_iters) for seed in range(args.seeds)]
        row = [name]
        for metric in ('AP50', 'AP'):
            values = [one[metric] for one in scores]
            row.append(
                f'{np.mean(values):.1f} ± {np.std(values, ddof=min(1, len(values) - 1)):.1f}'
            )
        rows.append(row)
        print(rows[-1], flush=True)
    print(format_table(['trained on', 'mask AP50 %', 'mask AP %'], rows))


if __name__ == '__main__':
    main()

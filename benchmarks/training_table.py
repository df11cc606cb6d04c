"""What each use of Spatial Confidence brings a tiny detector on rendered scenes.

Trains on pseudo-labels of 96 scenes, tests on 24 others, several seeds:

    python benchmarks/training_table.py OUT

Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cuts3d_mm.configs import load_config
from cuts3d_mm.demo.demo import RECIPES, label_set
from cuts3d_mm.demo.photos import HELD_OUT_SEED, TRAINING_SEED, write_scenes
from cuts3d_mm.learning.training import read_log, train
from cuts3d_mm.visualization.charts import format_table

PASTE = 'train_dataloader.dataset.pipeline.0'
RANDOM = f'{PASTE}.type=cuts3d_mm.AlphaBlendCopyPaste'
HARD, STOCK_LOSS = f'{PASTE}.alpha=False', 'model.roi_head.mask_head.confidence_source=none'

SELECT = 'train_dataloader.dataset.dataset.filter_cfg.select'

CONFIG = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes'
NUM_TRAINING, NUM_HELD_OUT = 96, 24  # scenes
SCORES = {'AP': 'coco/segm_mAP', 'AP50': 'coco/segm_mAP_50'}

# name -> labels, changes of the config
VARIANTS = {
    'MaskCut labels': ('MaskCut (2D)', [RANDOM, HARD, STOCK_LOSS]),
    'CutS3D labels': ('CutS3D', [RANDOM, HARD, STOCK_LOSS]),
    '+ selection of what is pasted': ('CutS3D', [HARD, STOCK_LOSS]),
    '+ alpha-blending': ('CutS3D', [STOCK_LOSS]),
    '+ loss (Eq. 6)': ('CutS3D', []),
    'all three, labels with a score of 0.5': ('CutS3D', [f'{SELECT}=0.5']),
}


def make_labels(root: Path, workers: int) -> None:
    """Scenes and both kinds of labels."""
    training = write_scenes(root, 'training', NUM_TRAINING, TRAINING_SEED)
    write_scenes(root / 'held_out', 'held out', NUM_HELD_OUT, HELD_OUT_SEED)
    for name, config in RECIPES.items():
        label_set(config, training, label_folder(root, name), workers)


def label_folder(root: Path, name: str) -> Path:
    """Folder with the labels of a recipe; options of a config hold no spaces."""
    return root / f'labels_{name.replace(" ", "_")}'


def train_variant(out: Path, name: str, seed: int, max_iters: int) -> dict[str, float]:
    """One cell of the table; a finished one is read from its log."""
    labels, changes = VARIANTS[name]
    work_dir = out / 'work_dirs' / f'{name.replace(" ", "_")}_{seed}'
    if not (work_dir / f'iter_{max_iters}.pth').is_file():
        schedule = [f'train_cfg.max_iters={max_iters}', f'train_cfg.val_interval={max_iters}']
        data = 'train_dataloader.dataset.dataset'
        root, truth = f'{out.absolute()}/', f'{out.absolute()}/held_out/instances.json'
        paths = [
            f'{data}.data_root={root}',
            f'{data}.ann_file={label_folder(out.absolute(), labels)}',
            *(f'{part}_dataloader.dataset.data_root={root}' for part in ('val', 'test')),
            *(f'{part}_evaluator.ann_file={truth}' for part in ('val', 'test')),
        ]
        config = load_config(CONFIG, [*paths, *changes, *schedule, f'randomness.seed={seed}'])
        work_dir.mkdir(parents=True, exist_ok=True)
        Path(f'{work_dir}.py').write_text(config.pretty_text)
        train(Path(f'{work_dir}.py'), work_dir, 0, lambda line: print(line, flush=True))
    scored = [line for line in read_log(work_dir) if SCORES['AP'] in line]
    return {name: 100 * scored[-1][key] for name, key in SCORES.items()}


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
        scores = [
            train_variant(args.out, name, seed, args.max_iters) for seed in range(args.seeds)
        ]
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

"""What learning without labels is worth when a few labels come at the end.

    python benchmarks/few_labels.py OUT [--seeds 0 1 2] [--rounds 2] [--labelled 10]

`cuts3d learn --offline --labels` on 96 rendered scenes with exact depth: the detector that learned
without labels is fine-tuned on a few true scenes, and the same config is trained on them from
scratch. Both are scored on all other scenes of the 96, whose labels neither has seen. About 30
minutes of one core for each seed; `OUT` may be that of `rounds_control.py`, whose detectors are
used then. Run again to resume.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from learned_scenes import cuts3d, learn, row, scenes

from cuts3d_mm.configs import load_config
from cuts3d_mm.demo.photos import DemoSet
from cuts3d_mm.learning.training import read_log
from cuts3d_mm.visualization.charts import format_table

METRICS = {
    'mask AP': 'coco/segm_mAP',
    'mask AP50': 'coco/segm_mAP_50',
    'box AP50': 'coco/bbox_mAP_50',
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--labelled', type=int, default=10, help='scenes with true labels')
    args = parser.parse_args()
    train = scenes(args.out, 'train')
    found: dict[str, list[list[float]]] = {}
    for seed in args.seeds:
        folder = args.out / f'seed_{seed}'
        few = write_few(folder / f'few_{args.labelled}.json', train, args.labelled, seed)
        options = ['--labels', few, '--annotations', train.ground_truth]
        learn(train, folder / 'learned', seed, args.rounds, *options)
        (config,) = (folder / 'learned').glob('classes_*/training.py')
        trainings = {
            'fine-tuned': config.with_suffix(''),
            'without self-training': train_from_scratch(config, folder / 'from_scratch'),
        }
        for start, work_dir in trainings.items():
            found.setdefault(start, []).append(last_scores(work_dir))
    header = ['', *(f'{name} %' for name in METRICS), 'mask AP50 of each seed']
    print(format_table(header, [row(name, values, 1) for name, values in found.items()]))


def write_few(path: Path, train: DemoSet, count: int, seed: int) -> Path:
    """Write the truth of some scenes, others for each seed."""
    truth = json.loads(train.ground_truth.read_text())
    images = truth['images'][seed * count : (seed + 1) * count]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**truth, 'images': images, 'annotations': annotations}))
    return path


def train_from_scratch(config: Path, out: Path) -> Path:
    """Train the steps of a fine-tuning without the weights that it begins with."""
    num_steps = load_config(str(config), []).train_cfg.max_iters
    if not (out / f'iter_{num_steps}.pth').is_file():
        resume = ['--resume'] if (out / 'last_checkpoint').is_file() else []
        cuts3d('train', config, '--work-dir', out, *resume, '--cfg-options', 'load_from=None')
    return out


def last_scores(work_dir: Path) -> list[float]:
    """Scores at the end of a training, in percent."""
    end = [line for line in read_log(work_dir) if 'coco/segm_mAP' in line][-1]
    return [100 * end[key] for key in METRICS.values()]


if __name__ == '__main__':
    main()

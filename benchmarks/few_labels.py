"""What learning without labels is worth when a few labels come at the end.

    python benchmarks/few_labels.py OUT [--seeds 0 1 2] [--rounds 1] [--labelled 10]

`cuts3d learn --offline --labels` on 96 rendered scenes with exact depth: the detector that learned
without labels is fine-tuned on a few true scenes. The same config is trained on these scenes from
scratch for as many steps, and for as many steps as learning and fine-tuning take together; a
quarter of the fine-tuning shows what the start is worth when steps are few. All are scored on the
other scenes of the 96, whose labels none of them has seen. About 20 minutes of one core for each
seed; `OUT` may be that of `rounds_control.py`, whose detectors are used then. Run again to resume.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from learned_scenes import cuts3d, learn, row, scenes

from cuts3d_mm.configs import load_config
from cuts3d_mm.demo.photos import DemoSet
from cuts3d_mm.learning.plan import scale_schedulers
from cuts3d_mm.learning.training import read_log, set_periods
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
    parser.add_argument('--rounds', type=int, default=1)
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
        steps = load_config(str(config), []).train_cfg.max_iters
        learned = (folder / 'learned/training').glob('iter_*.pth')
        all_steps = steps + max(int(path.stem.removeprefix('iter_')) for path in learned)
        trainings = {
            f'fine-tuned, {steps} steps': config.with_suffix(''),
            f'from scratch, {steps} steps': retrain(config, folder, steps, False),
            f'from scratch, {all_steps} steps': retrain(config, folder, all_steps, False),
            f'fine-tuned, {steps // 4} steps': retrain(config, folder, steps // 4, True),
            f'from scratch, {steps // 4} steps': retrain(config, folder, steps // 4, False),
        }
        for start, work_dir in trainings.items():
            found.setdefault(start, []).append(last_scores(work_dir))
            print(seed, start, found[start][-1], flush=True)
    header = ['', *(f'{name} %' for name in METRICS), 'mask AP50 of each seed']
    print(format_table(header, [row(name, values, 1) for name, values in found.items()]))
    tuned, scratch, longer, tuned_short, scratch_short = map(np.array, found.values())
    pairs = {
        'fine-tuned minus from scratch, equal steps on the labels': tuned - scratch,
        'the same, a quarter of the steps': tuned_short - scratch_short,
        'fine-tuned minus from scratch, equal steps in all': tuned - longer,
    }
    for name, gains in pairs.items():
        for metric, column in zip(METRICS, gains.T, strict=True):
            print(f'{name}, {metric}:', *(f'{gain:+.1f}' for gain in column))


def write_few(path: Path, train: DemoSet, count: int, seed: int) -> Path:
    """Write the truth of some scenes, others for each seed."""
    truth = json.loads(train.ground_truth.read_text())
    images = truth['images'][seed * count : (seed + 1) * count]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**truth, 'images': images, 'annotations': annotations}))
    return path


def retrain(fine_tuning: Path, folder: Path, num_steps: int, is_tuned: bool) -> Path:
    """Train a fine-tuning's config for other steps, with or without the weights it begins with."""
    out = folder / f'{"fine_tuned" if is_tuned else "from_scratch"}_{num_steps}'
    if (out / f'iter_{num_steps}.pth').is_file():
        return out
    config = load_config(str(fine_tuning), [])
    stage = config.train_cfg.max_iters, num_steps
    config.param_scheduler = scale_schedulers(config.param_scheduler, stage)
    config.train_cfg.max_iters = num_steps
    set_periods(config, num_steps)
    if not is_tuned:
        config.load_from = None
    out.mkdir(exist_ok=True)
    out.with_suffix('.py').write_text(config.pretty_text)
    resume = ['--resume'] if (out / 'last_checkpoint').is_file() else []
    cuts3d('train', out.with_suffix('.py'), '--work-dir', out, *resume)
    return out


def last_scores(work_dir: Path) -> list[float]:
    """Scores at the end of a training, in percent."""
    end = [line for line in read_log(work_dir) if 'coco/segm_mAP' in line][-1]
    return [100 * end[key] for key in METRICS.values()]


if __name__ == '__main__':
    main()

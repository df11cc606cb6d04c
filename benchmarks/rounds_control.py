"""What rounds of self-training are worth: new labels against the same steps on the old ones.

    python benchmarks/rounds_control.py OUT [--seeds 0 1 2] [--rounds 1] [--plot FILE]

`cuts3d learn --offline` trains on 96 rendered scenes with exact depth. The control begins with
the weights of its initial round and trains as many steps of the same rounds, in which no
prediction is good enough to become a label. Both are scored on 96 other scenes, and so are the
pseudo-labels of those scenes. About 6 minutes of one core for each seed; run again to resume, and
seeds one by one on several cores.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from learned_scenes import cuts3d, learn, row, scenes

from cuts3d_mm.configs import load_config
from cuts3d_mm.demo.demo import RECIPES, label_set
from cuts3d_mm.demo.photos import DemoSet
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.visualization.charts import draw_rounds, format_table
from cuts3d_mm.visualization.pictures import save_figure

METRICS = {'mask AP': ('segm', 'AP'), 'mask AP50': ('segm', 'AP50'), 'box AP50': ('bbox', 'AP50')}
NOTHING = 1.0  # smallest score of a prediction that becomes a label


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--plot', type=Path)
    args = parser.parse_args()
    train, test = scenes(args.out, 'train'), scenes(args.out, 'test')
    found: dict[str, list[list[float]]] = {}
    for seed in args.seeds:
        folder = args.out / f'seed_{seed}'
        for name, weights in all_weights(folder, train, seed, args.rounds).items():
            found.setdefault(name, []).append(score(folder, name, weights, test))
    *_, last, control = found.values()
    found['last round minus control'] = (np.array(last) - np.array(control)).tolist()
    header = ['after', *(f'{name} %' for name in METRICS), 'mask AP50 of each seed']
    print(format_table(header, [row(name, values, 1) for name, values in found.items()]))
    gains = np.array(found['last round minus control'])
    for name, column in zip(METRICS, gains.T, strict=True):
        print(f'{name}, last round minus control:', *(f'{gain:+.1f}' for gain in column))
    labels = args.out / 'labels_test'
    label_set(RECIPES['CutS3D'], test, labels, 0)
    figures = ' '.join(f'{value:.1f}' for value in score_store(labels, test))
    print(f'pseudo-labels of the same scenes: {figures}')
    if args.plot is not None:
        *rounds, control, _ = np.array(list(found.values()))[:, :, 1]
        save_figure(args.plot, draw_rounds(np.array(rounds).T, control), dpi=120)


def all_weights(folder: Path, train: DemoSet, seed: int, rounds: int) -> dict[str, Path]:
    """Train with new labels and without; checkpoints by their names in the table."""
    learned = folder / 'learned'
    learn(train, learned, seed, rounds)
    work_dir = learned / 'training'
    control = train_control(folder / 'control', learned / 'training.py', work_dir)
    weights = {'initial round': work_dir / 'round_1' / 'begin.pth'}
    for number in range(1, rounds + 1):
        weights[f'round {number}'] = work_dir / f'round_{number + 1}' / 'begin.pth'
    last = load_config(str(learned / 'training.py'), []).train_cfg.max_iters
    return {**weights, f'control, steps of {rounds} rounds': control / f'iter_{last}.pth'}


def train_control(out: Path, config: Path, work_dir: Path) -> Path:
    """Train the steps of the rounds on the labels of the initial round."""
    loop = load_config(str(config), []).train_cfg
    if (out / f'iter_{loop.max_iters}.pth').is_file():
        return out
    if not (out / 'last_checkpoint').is_file():
        begin = out / 'round_1' / 'begin.pth'
        begin.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work_dir / 'round_1' / 'begin.pth', begin)
        (out / 'last_checkpoint').write_text(str(begin))
    numbers = range(len(loop.rounds))
    rules = [f'train_cfg.rounds.{number}.score_thr={NOTHING}' for number in numbers]
    cuts3d('train', config, '--work-dir', out, '--resume', '--cfg-options', *rules)
    return out


def score(folder: Path, name: str, weights: Path, test: DemoSet) -> list[float]:
    """Score a detector on the test scenes, in percent."""
    config = folder / 'learned' / 'training.py'
    store = folder / 'found' / name.replace(' ', '_').replace(',', '')
    limits = ['--score-thr', 0, '--max-per-image', 100, '--workers', 0]
    cuts3d('predict', config, weights, test.images, store, *limits)
    return score_store(store, test)


def score_store(store: Path, test: DemoSet) -> list[float]:
    """Score labels of the test scenes, in percent."""
    scores = score_labels(read_store(store), read_ground_truth(test.ground_truth))
    return [100 * scores[kind][name] for kind, name in METRICS.values()]


if __name__ == '__main__':
    main()

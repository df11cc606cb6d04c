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
import sys
from pathlib import Path

import numpy as np
from learned_scenes import learn, row, scenes

from cuts3d_mm.demo.demo import RECIPES, label_set
from cuts3d_mm.demo.rounds import METRICS, score_rounds, score_store
from cuts3d_mm.visualization.charts import draw_rounds, format_table
from cuts3d_mm.visualization.pictures import save_figure


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--plot', type=Path)
    args = parser.parse_args()
    train, test = scenes(args.out, 'train'), scenes(args.out, 'test')
    labels = args.out / 'labels_test'
    label_set(RECIPES['CutS3D'], test, labels, 0)
    found: dict[str, list[list[float]]] = {}
    for seed in args.seeds:
        folder = args.out / f'seed_{seed}'
        learn(train, folder / 'learned', seed, args.rounds)
        scored = score_rounds(folder / 'learned', test, folder, args.rounds, 0, _say)
        for name, scores in scored.items():
            found.setdefault(name, []).append(scores)
        print(seed, scored, flush=True)
    *rounds, control = np.array(list(found.values()))
    gains = rounds[-1] - control
    rows = {
        'pseudo-labels of these scenes': [score_store(labels, test)],
        **found,
        'last round minus control': gains.tolist(),
    }
    header = ['', *(f'{name} %' for name in METRICS), 'mask AP50 of each seed']
    print(format_table(header, [row(name, values, 1) for name, values in rows.items()]))
    for name, column in zip(METRICS, gains.T, strict=True):
        print(f'{name}, last round minus control:', *(f'{gain:+.1f}' for gain in column))
    if args.plot is not None:
        save_figure(args.plot, draw_rounds(np.array(rounds)[:, :, 1].T, control[:, 1]), dpi=120)


def _say(line: str) -> None:
    sys.stderr.write(f'{line}\n')


if __name__ == '__main__':
    main()

"""Compare rounds of self-training with a control: the same steps, no new labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import load_config
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.files.atomic import open_atomically, write_whole
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.labellers.detector import labeller_config
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.plan import Folders
from cuts3d_mm.learning.training import checkpoint_after, train, weights_after
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.work import ConfiguredLabeller

from .photos import DemoSet

# name of a column -> shape that is compared, name of the score
METRICS = {'mask AP': ('segm', 'AP'), 'mask AP50': ('segm', 'AP50'), 'box AP50': ('bbox', 'AP50')}
INITIAL, CONTROL = 'detector, initial round', 'control: the same steps, no new labels'
_NOTHING = 1.0  # smallest score of a prediction that becomes a label of the control


def score_rounds(
    learned: Path,
    test: DemoSet,
    out: Path,
    num_rounds: int,
    workers: int,
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """Score the detectors of a run of `learn` and a control on scenes that it has not seen.

    Args:
        learned: folder of the run, which has ended.
        test: scenes with their truth.
        out: folder for the control and the detections; what is there is kept.
        num_rounds: rounds of self-training of the run.
        workers: processes that detect.
        say: is given lines about progress.

    Returns:
        Name of a detector -> its scores as `METRICS` orders them, in percent; the control last.
    """
    folders, config = Folders(learned), load_config(str(learned / 'training.py'), [])
    weights = {INITIAL: weights_after(folders, 0)}
    for number in range(1, num_rounds + 1):
        weights[f'detector, round {number}'] = weights_after(folders, number)
    if num_rounds:
        weights[CONTROL] = _train_control(config, folders, out / 'control', say)
    found = {}
    for index, (name, checkpoint) in enumerate(weights.items()):
        store = detections_of(out, index)
        model = labeller_config(config, str(checkpoint), max_per_image=100)
        labeller = ConfiguredLabeller(model, config.get('custom_imports'))
        label(labeller, list_images(test.images), store, workers, f'detecting: {name}')
        found[name] = score_store(store, test)
    return found


def detections_of(out: Path, index: int) -> Path:
    """Label store of what a detector of `score_rounds` has found, in their order."""
    return out / f'found_{index}'


def score_store(store: Path, test: DemoSet) -> list[float]:
    """Score labels or detections as `METRICS` orders it, in percent."""
    scores = score_labels(read_store(store), read_ground_truth(test.ground_truth))
    return [100 * scores[kind][name] for kind, name in METRICS.values()]


def _train_control(config: Any, folders: Folders, out: Path, say: Callable[[str], None]) -> Path:
    """Train the steps of the rounds on the labels of the initial round; weights at the end."""
    last = checkpoint_after(out, config.train_cfg.max_iters)
    if last.is_file():
        return last
    begin = out / 'round_1' / 'begin.pth'
    if not begin.is_file():
        begin.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(begin) as target, weights_after(folders, 0).open('rb') as source:
            shutil.copyfileobj(source, target)
    for one in config.train_cfg.rounds:
        one.score_thr = _NOTHING
    config.train_cfg.min_score = _NOTHING
    write_whole(out / 'training.py', config.pretty_text)
    train(out / 'training.py', out, 0, say)
    return last

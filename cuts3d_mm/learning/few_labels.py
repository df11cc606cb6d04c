"""Fine-tune the detector on a few labels with classes; compare with a start from other weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.hub.client import file_sha256
from cuts3d_mm.learning.class_config import class_config
from cuts3d_mm.learning.class_labels import Truth
from cuts3d_mm.learning.class_split import divide_labels
from cuts3d_mm.learning.folders import Folders
from cuts3d_mm.learning.plan import Settings
from cuts3d_mm.learning.releasing import release
from cuts3d_mm.learning.steps import timed
from cuts3d_mm.learning.training import Say, checkpoint_after, has_ended, read_log, train

STARTS = ('fine-tuned', 'without self-training')
_SCORES = ('coco/segm_mAP', 'coco/segm_mAP_50', 'coco/bbox_mAP_50')
_DIGEST = 8  # characters in a name of a folder


@dataclass(frozen=True)
class ClassRun:
    """What the trainings with classes share."""

    settings: Settings
    images: Path  # folder
    folders: Folders


@dataclass(frozen=True)
class FewLabels:
    """What a few labels brought."""

    num_images: int  # trained on
    num_steps: int
    num_tested: int
    rows: Sequence[Sequence[str]]  # name of the start, mask AP, mask AP50, box AP50 in percent


def learn_classes(
    run: ClassRun, files: tuple[Path, Path | None], names: Sequence[str], weights: Path, say: Say
) -> FewLabels:
    """Fine-tune, train the same steps from the start of a training, and release the first.

    Args:
        run: what both trainings share.
        files: COCO JSON of the few labels, and of annotations to test on or None: then a tenth
            of the few labels is tested on.
        names: of the images of the run.
        weights: of the detector to fine-tune.
        say: is given lines to show.
    """
    labels, test = divide_labels(*files, names)
    folder, annotations = _write_truth(run.folders.out, labels, test)
    classes = [one['name'] for one in labels['categories']]
    num_images, rows, num_steps = len(labels['images']), [], 0
    for start, tuned in zip(STARTS, (weights, None), strict=True):
        load_from = run.settings.load_from if tuned is None else str(tuned)
        config = class_config(
            run.settings, classes, annotations, run.images, num_images, load_from
        )
        num_steps = config.train_cfg.max_iters
        work_dir = _work_dir(folder, start, tuned)
        _train(run, config, work_dir, say)
        if tuned is not None:
            release(config, checkpoint_after(work_dir, num_steps), run.folders.class_release)
        rows.append([start, *_last_scores(read_log(work_dir))])
    return FewLabels(num_images, num_steps, len(test['images']), rows)


def _write_truth(out: Path, labels: Truth, test: Truth) -> tuple[Path, tuple[Path, Path]]:
    """Write what is trained on and tested on; other truth has another folder."""
    texts = json.dumps(labels), json.dumps(test)
    digest = hashlib.sha256('\n'.join(texts).encode()).hexdigest()[:_DIGEST]
    folder = out / f'classes_{digest}'
    folder.mkdir(exist_ok=True)
    paths = folder / 'train.json', folder / 'test.json'
    for path, text in zip(paths, texts, strict=True):
        write_whole(path, text)
    return folder, paths


def _train(run: ClassRun, config: Any, work_dir: Path, say: Say) -> None:
    path = work_dir.with_suffix('.py')
    write_whole(path, config.pretty_text)
    num_steps = config.train_cfg.max_iters
    if has_ended(work_dir, num_steps):
        return
    say(f'with classes, {work_dir.name}: {num_steps} steps')
    with timed(run.folders.steps, f'classes, {work_dir.name}'):
        train(path, work_dir, run.settings.gpus, say)


def _work_dir(folder: Path, start: str, weights: Path | None) -> Path:
    """Folder of a training; other weights to fine-tune make another one."""
    name = start.replace(' ', '_')
    return folder / (name if weights is None else f'{name}_{file_sha256(weights)[:_DIGEST]}')


def _last_scores(log: Sequence[dict[str, Any]]) -> list[str]:
    scored = [line for line in log if _SCORES[0] in line]
    found = [scored[-1][key] if scored else -1.0 for key in _SCORES]  # COCO's -1: no objects
    return [f'{100 * score:.2f}' if score >= 0 else 'none' for score in found]

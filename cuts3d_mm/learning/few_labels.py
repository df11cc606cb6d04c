"""Fine-tune the detector on a few labels with classes; compare with a start from other weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuts3d_mm.labels.atomic import write_whole
from cuts3d_mm.learning.class_config import class_config
from cuts3d_mm.learning.class_labels import (
    Truth,
    names_in,
    of_images,
    read_class_labels,
    require_images,
    with_classes_of,
)
from cuts3d_mm.learning.folders import Folders
from cuts3d_mm.learning.plan import Settings
from cuts3d_mm.learning.releasing import release
from cuts3d_mm.learning.selection import held_out_names
from cuts3d_mm.learning.steps import timed
from cuts3d_mm.learning.training import Say, checkpoint_after, has_ended, read_log, train

STARTS = ('fine-tuned', 'without self-training')
_SCORES = ('coco/segm_mAP', 'coco/segm_mAP_50', 'coco/bbox_mAP_50')


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
    labels, test = _divide(*files, names)
    # Other labels make other trainings.
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()[:8]
    folder = run.folders.out / f'classes_{digest}'
    folder.mkdir(exist_ok=True)
    for name, truth in (('train', labels), ('test', test)):
        write_whole(folder / f'{name}.json', json.dumps(truth))
    classes = [one['name'] for one in labels['categories']]
    num_images, rows, num_steps = len(labels['images']), [], 0
    for start, load_from in zip(STARTS, (weights, None), strict=True):
        annotations = folder / 'train.json', folder / 'test.json'
        config = class_config(
            run.settings, classes, annotations, run.images, num_images, load_from
        )
        num_steps = config.train_cfg.max_iters
        work_dir = folder / start.replace(' ', '_')
        _train(run, config, work_dir, say)
        if load_from is not None:
            release(config, checkpoint_after(work_dir, num_steps), run.folders.class_release)
        rows.append([start, *_last_scores(read_log(work_dir))])
    return FewLabels(num_images, num_steps, len(test['images']), rows)


def _train(run: ClassRun, config: Any, work_dir: Path, say: Say) -> None:
    path = work_dir.with_suffix('.py')
    write_whole(path, config.pretty_text)
    num_steps = config.train_cfg.max_iters
    if has_ended(work_dir, num_steps):
        return
    say(f'with classes, {work_dir.name}: {num_steps} steps')
    with timed(run.folders.steps, f'classes, {work_dir.name}'):
        train(path, work_dir, run.settings.gpus, say)


def _divide(few: Path, annotations: Path | None, names: Sequence[str]) -> tuple[Truth, Truth]:
    """Labels to train on, and truth of other images to test on, by the same classes."""
    labelled = read_class_labels(few)
    labels = of_images(labelled, names)
    require_images(few, labelled, labels)
    if annotations is not None:
        others = set(names) - set(names_in(labels))
        test = of_images(with_classes_of(_read_classes(annotations, labels), labels), others)
        if test['annotations']:
            return labels, test
    tested = set(held_out_names(names_in(labels)))
    return of_images(labels, set(names_in(labels)) - tested), of_images(labels, tested)


def _read_classes(annotations: Path, labels: Truth) -> Truth:
    truth: Truth = {**labels, 'images': [], 'annotations': []}
    with suppress(ValueError):  # annotations without classes say nothing of them
        truth = read_class_labels(annotations)
    return truth


def _last_scores(log: Sequence[dict[str, Any]]) -> list[str]:
    scored = [line for line in log if _SCORES[0] in line]
    return [f'{100 * scored[-1][key]:.2f}' if scored else 'none' for key in _SCORES]

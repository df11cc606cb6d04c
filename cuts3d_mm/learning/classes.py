"""Fine-tune a detector on few labels with classes, as the shipped config for shares of COCO."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import ConfigDict

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.hub.client import file_sha256
from cuts3d_mm.images.matching import match_names
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.visualization.charts import percent

from .plan import (
    IMAGENET_IMAGES,
    Plan,
    held_out_names,
    scale_schedule,
    scale_schedulers,
    scale_steps,
)
from .training import (
    Say,
    TrainingLog,
    checkpoint_after,
    is_saved,
    load_detector_config,
    read_log,
    release,
    schedule_of,
    selected_annotations,
    set_periods,
    timed,
    train,
)

if TYPE_CHECKING:
    from .planning import Planned

_RECIPE = 'cutler_cascade-mask-rcnn_r50_fpn_8xb2_coco-semi'  # for PERCENT of COCO's labels
_SCORES = {
    'mask AP': 'coco/segm_mAP',
    'mask AP50': 'coco/segm_mAP_50',
    'box AP50': 'coco/bbox_mAP_50',
}
_DIGEST = 8  # characters in a name of a folder
# CutLER's yaml files for 1 to 100 % of COCO train2017, for 16 images of a step.
_ONE_PERCENT = 1_182.87  # images
_LEAST_STEPS, _STEPS_PER_PERCENT, _BATCH_SIZE = 3_600, 900, 16
_INITIAL_STEPS = 160_000  # steps of the initial round on ImageNet, with as many images of a step
_FEW_PERCENT = 40  # up to here the recipe has a higher rate, and more so for new layers
_SHORTEST_SIDE = 640  # px, of training images, where the detector's config has sizes as large
_SHOWN = 3  # names in a message
Truth = dict[str, Any]


@dataclass(frozen=True)
class FewLabels:
    """What a few labels brought."""

    num_images: int  # images that are trained on
    num_steps: int
    num_tested: int
    scores: Mapping[str, str]  # name of the metric -> percent


def learn_classes(planned: Planned, few: Path, weights: Path, say: Say) -> FewLabels:
    """Write the config of a fine-tuning, run it and release the detector.

    Args:
        planned: run that has ended.
        few: COCO JSON of the few labels, as for `divide_labels`.
        weights: weights of the detector to fine-tune.
        say: is given lines to show.
    """
    plan, folders = planned.plan, planned.folders
    labels, test = divide_labels(few, planned.request.annotations, planned.images.names)
    texts = [json.dumps(truth, default=bytes.decode) for truth in (labels, test)]
    num_steps = fine_tuning_steps(plan, len(labels['images']))
    key = '\n'.join([*texts, file_sha256(weights), str(num_steps)])
    # Other labels, annotations, weights or steps have a folder of their own.
    folder = folders.out / f'classes_{hashlib.sha256(key.encode()).hexdigest()[:_DIGEST]}'
    folder.mkdir(exist_ok=True)
    paths = folder / 'train.json', folder / 'test.json'
    for path, text in zip(paths, texts, strict=True):
        write_whole(path, text)
    config = class_config(plan, labels, paths, planned.root, weights)
    work_dir = folder / 'training'
    last = checkpoint_after(work_dir, num_steps)
    write_whole(folder / 'training.py', config.pretty_text)
    if not is_saved(last):
        say(f'fine-tune on {len(labels["images"])} images with classes: {num_steps} steps')
        with timed(folders.costs, 'fine-tune'):
            log = TrainingLog(len(selected_annotations(test)))
            train(folder / 'training.py', work_dir, plan.settings.gpus, say, log)
    release(config, last, folders.class_release)
    scores = last_scores(read_log(work_dir))
    return FewLabels(len(labels['images']), num_steps, len(test['images']), scores)


def last_scores(log: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Scores at the end of a training with classes, in percent."""
    scored = [line for line in log if _SCORES['mask AP'] in line]
    found = {name: scored[-1][key] if scored else -1.0 for name, key in _SCORES.items()}
    return {name: percent(one) for name, one in found.items()}


def fine_tuning_steps(plan: Plan, num_images: int) -> int:
    """Steps to fine-tune a detector.

    CutLER takes 900 steps of 16 images for each percent of COCO, 3,600 at least. A detector whose
    initial round is shorter than CutLER's for as many images, by its config or by `--steps`, is
    fine-tuned shorter by the same factor.
    """
    base, schedule = schedule_of(load_detector_config(plan.settings.detector)), plan.schedule
    images, sizes = (IMAGENET_IMAGES, base.num_images), (_BATCH_SIZE, base.batch_size)
    share = base.initial_steps / scale_steps(_INITIAL_STEPS, images, sizes)
    usual = scale_schedule(base, schedule.num_images, schedule.batch_size)
    share *= schedule.initial_steps / usual.initial_steps
    steps = max(_LEAST_STEPS, _STEPS_PER_PERCENT * num_images / _ONE_PERCENT)
    return max(1, round(share * steps * _BATCH_SIZE / schedule.batch_size))


def class_config(
    plan: Plan, labels: Truth, files: tuple[Path, Path], images: Path, load_from: Path
) -> Any:
    """Give the config of a detector's training the recipe of the shipped config, and the labels.

    Args:
        plan: plan of the run.
        labels: what is trained on.
        files: COCO JSONs to train on, of the same labels, and to test on.
        images: folder of the images.
        load_from: weights to begin with.
    """
    config, num_images = load_detector_config(plan.settings.detector), len(labels['images'])
    recipe = _load_recipe(num_images)
    _set_model(config.model, recipe.model, len(labels['categories']))
    _set_data(config, recipe, labels, files, images)
    steps = fine_tuning_steps(plan, num_images)
    config.train_cfg = ConfigDict(type='IterBasedTrainLoop', max_iters=steps)
    config.optim_wrapper = recipe.optim_wrapper
    config.optim_wrapper.optimizer.lr *= plan.schedule.batch_size / _BATCH_SIZE
    stage = recipe.train_cfg.max_iters, steps
    config.param_scheduler = scale_schedulers(recipe.param_scheduler, stage)
    set_periods(config, steps)
    config.load_from = str(load_from)
    config.merge_from_dict({'randomness': {'seed': plan.settings.seed}})
    return config


def _load_recipe(num_images: int) -> Any:
    """Load the shipped config, for a small or a large share of COCO."""
    is_few = num_images <= _FEW_PERCENT * _ONE_PERCENT
    before, disabled = os.environ.get('PERCENT'), logging.root.manager.disable
    os.environ['PERCENT'] = str(_FEW_PERCENT if is_few else 100)
    logging.disable(logging.INFO)  # MMEngine would report the variable
    try:
        return load_config(_RECIPE, [])
    finally:
        logging.disable(disabled)
        del os.environ['PERCENT']
        os.environ.update({} if before is None else {'PERCENT': before})


def _set_model(model: Any, recipe: Any, num_classes: int) -> None:
    for head in model.roi_head.bbox_head:
        head.update(num_classes=num_classes, drop_iou=None)  # human labels miss no objects
    model.roi_head.mask_head.update(num_classes=num_classes, confidence_source='none')
    ours, theirs = model.train_cfg.rpn_proposal, recipe.train_cfg.rpn_proposal
    ours.update(nms=theirs.nms, max_per_img=min(ours.max_per_img, theirs.max_per_img))
    model.test_cfg.rpn.nms = recipe.test_cfg.rpn.nms
    model.test_cfg.rcnn.score_thr = recipe.test_cfg.rcnn.score_thr
    model.backbone.init_cfg = None  # load_from has the weights


def _set_data(
    config: Any, recipe: Any, labels: Truth, files: tuple[Path, Path], images: Path
) -> None:
    """Train and test on the labels; images are as large as the detector's config says."""
    common = {'data_root': '', 'data_prefix': {'img': str(images)}}
    common['metainfo'] = {'classes': tuple(one['name'] for one in labels['categories'])}
    loader, theirs = config.train_dataloader, recipe.train_dataloader.dataset
    resize = _resize(training_labels(loader.dataset).pipeline)
    pipeline = [resize if _is_resize(step) else step for step in theirs.pipeline]
    loader.dataset = ConfigDict(
        type='cuts3d_mm.SeededCocoDataset',
        ann_file=str(files[0]),
        filter_cfg=theirs.filter_cfg,
        pipeline=pipeline,
        **common,
    )
    for part in ('val', 'test'):
        dataset, evaluator = config[f'{part}_dataloader'].dataset, recipe[f'{part}_evaluator']
        dataset.update(type=loader.dataset.type, ann_file=str(files[1]), **common)
        config[f'{part}_evaluator'] = ConfigDict({**evaluator, 'ann_file': str(files[1])})


def _resize(pipeline: Sequence[Any]) -> Any:
    """The resizing of a pipeline, without small sizes where there are large sizes."""
    resize = next(step for step in pipeline if _is_resize(step))
    large = [one for one in resize.get('scales', ()) if _SHORTEST_SIDE <= min(one) <= 800]
    return {**resize, 'scales': large} if large else resize


def _is_resize(step: Any) -> bool:
    return str(step['type']).endswith('Resize')


def name_as(truth: Truth, names: Collection[str], path: Path) -> Truth:
    """Keep the images of a run, and call them by their names there, see `match_names`."""
    found = match_names([image['file_name'] for image in truth['images']], names, path)
    images = [
        {**image, 'file_name': found.get(image['file_name'], image['file_name'])}
        for image in truth['images']
    ]
    return of_images({**truth, 'images': images}, set(found.values()))


def of_images(truth: Truth, names: Collection[str]) -> Truth:
    """Keep the images with some names, and what is annotated in them."""
    images = [image for image in truth['images'] if image['file_name'] in names]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    return {**truth, 'images': images, 'annotations': annotations}


def annotated(truth: Truth) -> set[str]:
    """Names of the images with an object; a crowd is no object."""
    ids = {one['image_id'] for one in truth['annotations'] if not one.get('iscrowd')}
    return {image['file_name'] for image in truth['images'] if image['id'] in ids}


def with_classes_of(truth: Truth, other: Truth) -> Truth:
    """Give classes the ids that they have in another truth, by name; others are left out."""
    ids = {one['name']: one['id'] for one in other['categories']}
    new = {one['id']: ids[one['name']] for one in truth['categories'] if one['name'] in ids}
    annotations = [
        {**one, 'category_id': new[one['category_id']]}
        for one in truth['annotations']
        if one['category_id'] in new
    ]
    return {**truth, 'annotations': annotations, 'categories': other['categories']}


def names_in(truth: Truth) -> list[str]:
    """Names of the images, sorted."""
    return sorted(image['file_name'] for image in truth['images'])


def divide_labels(
    few: Path, annotations: Path | None, names: Sequence[str]
) -> tuple[Truth, Truth]:
    """Divide into labels to train on, and truth of other images to test on, by the same classes.

    Args:
        few: COCO JSON of the few labels.
        annotations: COCO JSON to test on, or None. Where it has no object of these classes in
            other images, a tenth of the annotated images of `few` is tested on.
        names: names of the images of the run.

    Raises:
        ValueError: the labels are not as they must be, or a side would have no object.
    """
    labelled = read_ground_truth(few, needs_masks=True, needs_names=True, needs_classes=True)
    known = name_as(labelled, names, few)
    ids, num_left = {image['id'] for image in known['images']}, len(known['annotations'])
    missing = sorted(one['file_name'] for one in labelled['images'] if one['id'] not in ids)
    if missing or not num_left:
        named = f', such as {", ".join(missing[:_SHOWN])}' if missing else ''
        raise ValueError(
            f'--labels must annotate images of IMAGES; in {few} {len(missing)} of '
            f'{len(labelled["images"])} are not there{named}, and {num_left} annotations are left'
        )
    labels = of_images(known, annotated(known))
    if annotations is not None and annotated(labels):
        others = set(names) - set(names_in(known))
        test = of_images(_read_test(annotations, labels, names), others)
        if annotated(test):
            return labels, test
    objects = names_in(labels)
    if len(objects) < 2:
        raise ValueError(
            'labels must have objects in two images of IMAGES at least, one to train on and one '
            f'to test on, {few} has them in {len(objects)}; label more images, or give '
            '--annotations with the same classes in other images'
        )
    tested = set(held_out_names(objects))
    return of_images(labels, set(objects) - tested), of_images(labels, tested)


def _read_test(annotations: Path, labels: Truth, names: Sequence[str]) -> Truth:
    truth: Truth = {**labels, 'images': [], 'annotations': []}
    with suppress(ValueError):  # annotations without classes cannot be tested on by class
        truth = read_ground_truth(annotations, True, needs_names=True, needs_classes=True)
    return with_classes_of(name_as(truth, names, annotations), labels)

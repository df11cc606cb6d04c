"""Fine-tune a detector on few labels with classes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import ConfigDict

from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.hub.client import file_sha256
from cuts3d_mm.labels.coco_json import read_ground_truth

from .plan import IMAGENET_IMAGES, Folders, Settings, held_out_names, scale_steps
from .training import (
    Say,
    checkpoint_after,
    has_ended,
    load_detector_config,
    read_log,
    release,
    schedule_of,
    set_periods,
    timed,
    train,
)

STARTS = ('fine-tuned', 'without self-training')
_SCORES = ('coco/segm_mAP', 'coco/segm_mAP_50', 'coco/bbox_mAP_50')
_DIGEST = 8  # characters in a name of a folder
# CutLER's yaml files for 1 to 100 % of COCO train2017, for 16 images of a step.
_ONE_PERCENT = 1_182.87  # images
_LEAST_STEPS, _STEPS_PER_PERCENT, _BATCH_SIZE = 3_600, 900, 16
_INITIAL_STEPS = 160_000  # of the initial round on ImageNet, with as many
_FEW_PERCENT = 40  # up to here the rate is higher, of new layers too
_WARM_UP, _LONGEST_WARM_UP = 1_000, 0.25  # steps; share of the training
_NMS = {'type': 'nms', 'iou_threshold': 0.7}
_MOST_PROPOSALS, _SCORE_THR = 2_000, 0.05
_SHORTEST_SIDE = 640  # px, of training images, where the config has sizes as large
_SHOWN = 3  # names in a message
Truth = dict[str, Any]


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


def fine_tuning_steps(config: Any, num_images: int, batch_size: int) -> int:
    """Steps to fine-tune a detector.

    CutLER's: 900 for each percent of COCO, 3,600 at least, with 16 images. A detector whose
    initial round is shorter than CutLER's for as many images is fine-tuned shorter by the same
    factor.

    Args:
        config: of the detector's training.
        num_images: labelled images.
        batch_size: images of a step.
    """
    base = schedule_of(config)
    images, sizes = (IMAGENET_IMAGES, base.num_images), (_BATCH_SIZE, base.batch_size)
    share = base.initial_steps / scale_steps(_INITIAL_STEPS, images, sizes)
    steps = max(_LEAST_STEPS, _STEPS_PER_PERCENT * num_images / _ONE_PERCENT)
    return max(1, round(share * steps * _BATCH_SIZE / batch_size))


def class_config(
    settings: Settings,
    classes: Sequence[str],
    annotations: tuple[Path, Path],
    images: Path,
    num_images: int,
    load_from: str | None,
) -> Any:
    """Make the config of a fine-tuning.

    Args:
        settings: of the run.
        classes: their names.
        annotations: COCO JSONs to train on and to test on.
        images: folder of the images.
        num_images: labelled images to train on.
        load_from: weights to begin with; None: those that the detector's config begins with.
    """
    config = load_detector_config(settings.detector)
    batch_size = config.train_dataloader.batch_size * max(1, settings.gpus)
    steps = fine_tuning_steps(config, num_images, batch_size)
    _set_model(config.model, len(classes), load_from is not None)
    _set_data(config, classes, annotations, images)
    _set_training(config, steps, batch_size, num_images)
    config.load_from = load_from
    config.merge_from_dict({'randomness': {'seed': settings.seed}})
    return config


def _set_model(model: Any, num_classes: int, has_weights: bool) -> None:
    for head in model.roi_head.bbox_head:
        head.update(num_classes=num_classes, drop_iou=None)  # human labels miss no objects
    model.roi_head.mask_head.update(num_classes=num_classes, confidence_source='none')
    proposals = model.train_cfg.rpn_proposal
    proposals.update(nms=_NMS, max_per_img=min(proposals.max_per_img, _MOST_PROPOSALS))
    model.test_cfg.rpn.nms = _NMS
    model.test_cfg.rcnn.score_thr = _SCORE_THR
    if has_weights:
        model.backbone.init_cfg = None


def _set_data(
    config: Any, classes: Sequence[str], annotations: tuple[Path, Path], images: Path
) -> None:
    common = {
        'data_root': '',
        'data_prefix': {'img': str(images)},
        'metainfo': {'classes': tuple(classes)},
    }
    loader = config.train_dataloader
    resize = _resize(training_labels(loader.dataset).pipeline)
    loader.dataset = ConfigDict(
        type='cuts3d_mm.SeededCocoDataset',
        ann_file=str(annotations[0]),
        filter_cfg={'filter_empty_gt': True, 'min_size': 32},
        pipeline=[
            {'type': 'LoadImageFromFile', 'color_type': 'color_ignore_orientation'},
            {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
            resize,
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'PackDetInputs'},
        ],
        **common,
    )
    for part in ('val', 'test'):
        _set_scored(config, part, annotations[1], common)


def _set_scored(config: Any, part: str, annotations: Path, common: dict[str, Any]) -> None:
    """Let images be validated or tested on, by COCO's scores."""
    dataset, ann_file = config[f'{part}_dataloader'].dataset, str(annotations)
    dataset.update(type='CocoDataset', ann_file=ann_file, **common)
    config[f'{part}_evaluator'] = ConfigDict(
        type='CocoMetric', ann_file=ann_file, metric=['bbox', 'segm']
    )


def _resize(pipeline: Sequence[Any]) -> Any:
    """The resizing of a pipeline, without small sizes where there are large ones."""
    resize = next(step for step in pipeline if str(step['type']).endswith('Resize'))
    if 'scales' not in resize:
        return resize
    large = [one for one in resize['scales'] if _SHORTEST_SIDE <= min(one) <= 800]
    return {**resize, 'scales': large or resize['scales']}


def _set_training(config: Any, steps: int, batch_size: int, num_images: int) -> None:
    is_few = num_images <= _FEW_PERCENT * _ONE_PERCENT
    new_layers = {'lr_mult': 4 if is_few else 2}
    rate = (0.04 if is_few else 0.02) * batch_size / _BATCH_SIZE
    config.train_cfg = ConfigDict(type='IterBasedTrainLoop', max_iters=steps)
    config.optim_wrapper = ConfigDict(
        type='OptimWrapper',  # no clipping, no mixed precision
        optimizer={'type': 'SGD', 'lr': rate, 'momentum': 0.9, 'weight_decay': 1e-4},
        paramwise_cfg={
            'norm_decay_mult': 0.0,
            'custom_keys': dict.fromkeys(('fc_cls', 'fc_reg', 'conv_logits'), new_layers),
        },
    )
    warm_up = max(1, min(_WARM_UP, int(_LONGEST_WARM_UP * steps)))
    drops = sorted({max(1, steps * 2 // 3), max(1, steps * 8 // 9)})
    config.param_scheduler = [
        {'type': 'LinearLR', 'start_factor': 0.001, 'by_epoch': False, 'begin': 0, 'end': warm_up},
        {
            'type': 'MultiStepLR',
            'by_epoch': False,
            'end': steps,
            'milestones': drops,
            'gamma': 0.1,
        },
    ]
    set_periods(config, steps)


def read_class_labels(path: Path) -> Truth:
    """Read a COCO JSON with its classes; each entry is checked.

    Args:
        path: the file; every annotation has a mask and the id of a class.

    Raises:
        ValueError: the file is none; the message names the entry that is not as it must be.
    """
    truth = read_ground_truth(path, needs_masks=True, needs_names=True)
    content = json.loads(path.read_text(encoding='utf-8'))
    classes = _classes(path, content.get('categories'))
    of_annotation = {one['id']: one.get('category_id') for one in content['annotations']}
    for one in truth['annotations']:
        one['category_id'] = of_annotation[one['id']]
        one['segmentation'] = _as_text(one['segmentation'])
        if one['category_id'] not in {known['id'] for known in classes}:
            raise ValueError(
                f'{path}: annotation {one["id"]}.category_id must be the id of a category, got '
                f'{one["category_id"]}'
            )
    return {**truth, 'categories': classes}


def name_as(truth: Truth, names: Collection[str], path: Path) -> Truth:
    """Keep the images of a run, and call them by the names that they have there.

    Args:
        truth: annotations; images may be named by their last part where that is unique.
        names: of the images of the run.
        path: of the annotations, for messages.

    Raises:
        ValueError: it is not clear which image a name means.
    """
    found = match_names([image['file_name'] for image in truth['images']], names, path)
    images = [
        {**image, 'file_name': found.get(image['file_name'], image['file_name'])}
        for image in truth['images']
    ]
    return of_images({**truth, 'images': images}, set(found.values()))


def of_images(truth: Truth, names: Collection[str]) -> Truth:
    """Keep the images of some names."""
    images = [image for image in truth['images'] if image['file_name'] in names]
    ids = {image['id'] for image in images}
    annotations = [one for one in truth['annotations'] if one['image_id'] in ids]
    return {**truth, 'images': images, 'annotations': annotations}


def annotated(truth: Truth) -> set[str]:
    """Names of the images with an object; a crowd is none."""
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


def require_images(path: Path, labelled: Truth, known: Truth) -> None:
    """Check that all labelled images are among those of the run.

    Raises:
        ValueError: some are not; the message names up to three.
    """
    missing = len(labelled['images']) - len(known['images'])
    if missing or not known['annotations']:
        ids = {image['id'] for image in known['images']}
        gone = [image['file_name'] for image in labelled['images'] if image['id'] not in ids]
        named = f', such as {", ".join(sorted(gone)[:_SHOWN])}' if gone else ''
        raise ValueError(
            f'--labels must annotate images of IMAGES; in {path} {missing} of '
            f'{len(labelled["images"])} are not there{named}, and '
            f'{len(known["annotations"])} annotations are left'
        )


def _as_text(segmentation: Any) -> Any:
    """Run lengths as JSON has them; polygons as they are."""
    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], bytes):
        return {**segmentation, 'counts': segmentation['counts'].decode('ascii')}
    return segmentation


def _classes(path: Path, categories: Any) -> list[dict[str, Any]]:
    is_list = isinstance(categories, list) and categories
    if not is_list or not all(
        isinstance(one, dict) and type(one.get('id')) is int and isinstance(one.get('name'), str)
        for one in categories
    ):
        raise ValueError(
            f'{path}: categories must be a list of classes, each with an id and a name'
        )
    return [{'id': one['id'], 'name': one['name']} for one in categories]


def divide_labels(
    few: Path, annotations: Path | None, names: Sequence[str]
) -> tuple[Truth, Truth]:
    """Divide into labels to train on, and truth of other images to test on, by the same classes.

    Args:
        few: COCO JSON of the few labels.
        annotations: COCO JSON to test on, or None. Where it has no object of these classes in
            other images, a tenth of the annotated images of `few` is tested on.
        names: of the images of the run.

    Raises:
        ValueError: the labels are not as they must be, or one side would have no object.
    """
    labelled = read_class_labels(few)
    known = name_as(labelled, names, few)
    require_images(few, labelled, known)
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
    with suppress(ValueError):  # annotations without classes say nothing of them
        truth = read_class_labels(annotations)
    return with_classes_of(name_as(truth, names, annotations), labels)


def match_names(annotated: Collection[str], names: Collection[str], path: Path) -> dict[str, str]:
    """Find the image of each annotated name: by the full name, or the last part if it is unique.

    Args:
        annotated: names in the annotations.
        names: of the images of a run.
        path: of the annotations, for messages.

    Returns:
        Annotated name -> name of the image; names without an image are left out.

    Raises:
        ValueError: a name without a folder could be that of several images, or several names
            that of an image without a folder.
    """
    known = set(names)
    found = {name: name for name in annotated if name in known}
    counts = Counter(map(_last_part, annotated))
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(_last_part(name), []).append(name)
    for name in annotated:
        last = _last_part(name)
        images = by_last.get(last, [])
        free = [image for image in images if image not in found]
        if name in found or not free:
            continue
        if len(images) == counts[last] == 1:
            found[name] = images[0]
        elif last in (name, *free):
            raise ValueError(
                f'annotations must name images in full where last parts repeat; in {path}, '
                f'{name} can be {" or ".join(free[:_SHOWN])}, and {counts[last]} of the names '
                f'end in {last}; write them relative to IMAGES'
            )
    return found


def _last_part(name: str) -> str:
    return PurePosixPath(name).name

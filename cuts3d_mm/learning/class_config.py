"""Write the config that fine-tunes a detector on a few labels, as CutLER does on COCO's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict

from cuts3d_mm.engine.self_training import training_labels
from cuts3d_mm.learning.detector_config import load_detector_config, schedule_of
from cuts3d_mm.learning.plan import Settings
from cuts3d_mm.learning.schedule import IMAGENET_IMAGES, scale_steps
from cuts3d_mm.learning.training_config import set_periods

# CutLER's yaml files for 1 to 100 % of COCO train2017, for 16 images of a step.
_ONE_PERCENT = 1_182.87  # images
_LEAST_STEPS, _STEPS_PER_PERCENT, _BATCH_SIZE = 3_600, 900, 16
_INITIAL_STEPS = 160_000  # of the initial round on ImageNet, with as many
_FEW_PERCENT = 40  # up to here the rate is higher, of new layers too
_WARM_UP, _LONGEST_WARM_UP = 1_000, 0.25  # steps; share of the training
_NMS = {'type': 'nms', 'iou_threshold': 0.7}
_MOST_PROPOSALS, _SCORE_THR = 2_000, 0.05
_SHORTEST_SIDE = 640  # px, of training images, where the config has sizes as large


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

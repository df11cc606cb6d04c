"""Convert what a detector returns to common formats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.tracking import MaskTracker
from cuts3d_mm.arrays import Mask
from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import ImageRecord, encode_instance

MOST_INSTANCES = 65535  # of an index image


def to_supervision(sample: Any, score_thr: float = 0.0) -> dict[str, NDArray[Any]]:
    """Arguments of `supervision.Detections`.

    Args:
        sample: `DetDataSample`; a detector without masks has its boxes filled.
        score_thr: smallest score, in [0, 1].

    Returns:
        `xyxy` (N, 4) float32 px, `mask` (N, H, W) bool, `confidence` (N,) float32,
        `class_id` (N,) int64; the best first. With `tracker_id` (N,) int64 where objects are
        followed.
    """
    found = sample.pred_instances.cpu()
    scores = found.scores.numpy().astype(np.float32)
    chosen = np.argsort(-scores, kind='stable')
    chosen = chosen[scores[chosen] >= score_thr]
    arguments = {
        'xyxy': found.bboxes.numpy().astype(np.float32)[chosen],
        'mask': _masks(found, tuple(sample.ori_shape))[chosen],
        'confidence': scores[chosen],
        'class_id': found.labels.numpy()[chosen],
    }
    if 'instances_id' in found:
        arguments['tracker_id'] = found.instances_id.numpy()[chosen]
    return arguments


def number_objects(sample: Any, tracker: MaskTracker, score_thr: float) -> None:
    """Set `pred_instances.instances_id`: the numbers of objects in the next frame of a video.

    Args:
        sample: `DetDataSample` of the frame.
        tracker: has seen the frames before.
        score_thr: smallest score of an object, in [0, 1]; all others have the number 0.
    """
    found = sample.pred_instances
    masks = _masks(found.cpu(), tuple(sample.ori_shape))
    is_object = (found.scores.cpu().numpy() >= score_thr) & masks.any(axis=(1, 2))
    numbers = np.zeros(len(masks), np.int64)
    numbers[is_object] = tracker.update(masks[is_object])
    found.instances_id = found.labels.new_tensor(numbers)


def _masks(found: Any, image_hw: tuple[int, int]) -> Mask:
    """(N, H, W), of what a detector has found."""
    if 'masks' in found:
        return np.asarray(found.masks).astype(bool)
    masks = np.zeros((len(found), *image_hw), bool)
    for mask, (left, top, right, bottom) in zip(masks, found.bboxes.tolist(), strict=True):
        mask[max(round(top), 0) : round(bottom), max(round(left), 0) : round(right)] = True
    return masks


def to_record(sample: Any, name: str, score_thr: float = 0.0) -> ImageRecord:
    """One row of a label store; instances whose mask is empty are left out."""
    found = to_supervision(sample, score_thr)
    instances = tuple(
        encode_instance(mask, None, min(float(score), 1.0))
        for mask, score in zip(found['mask'], found['confidence'], strict=True)
        if mask.any()
    )
    return ImageRecord(name, tuple(sample.ori_shape), instances)


def track_ids(sample: Any, score_thr: float = 0.0) -> list[int]:
    """Numbers of the objects of `to_record`, in its order; none where they are not followed."""
    found = to_supervision(sample, score_thr)
    return [int(number) for number in found.get('tracker_id', ()) if number]


def to_coco(sample: Any, image_id: int, score_thr: float = 0.0) -> list[dict[str, Any]]:
    """COCO results, which `pycocotools.COCO.loadRes` reads; boxes are those of the masks."""
    record = to_record(sample, str(image_id), score_thr)
    return [
        {'image_id': image_id, **coco_annotation(instance, record.image_hw)}
        for instance in record.instances
    ]


def to_index_image(sample: Any, score_thr: float = 0.0) -> NDArray[np.uint16]:
    """Number every pixel by its instance, for a PNG.

    Returns:
        (H, W) uint16; 0 for none, 1 for the best instance, which also lies on top, and so on.
        Of objects that are followed each has its own number.

    Raises:
        ValueError: an object that is followed has a number that does not fit.
    """
    found = to_supervision(sample, score_thr)
    masks = found['mask'][:MOST_INSTANCES]
    numbers = found.get('tracker_id', np.arange(1, len(masks) + 1))
    if numbers.max(initial=0) > MOST_INSTANCES:
        raise ValueError(f'mask images hold {MOST_INSTANCES} objects; leave out --save masks')
    index = np.zeros(tuple(sample.ori_shape), np.uint16)
    for mask, number in reversed(list(zip(masks, numbers, strict=False))):
        index[mask] = number
    return index

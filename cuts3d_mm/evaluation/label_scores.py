"""Score labels against annotations, compare two sets of labels, and report both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask

from cuts3d_mm.arrays import Double
from cuts3d_mm.files.paths import BadName, path_to_write, shown
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.matching import key_of, match_names
from cuts3d_mm.images.reading import ImageFailure, read_named_image
from cuts3d_mm.labels.coco import coco_annotation, is_results_list, read_labels, read_results
from cuts3d_mm.labels.coco_json import mask_code, read_ground_truth
from cuts3d_mm.labels.left_out import BoxesAlone, Crowd
from cuts3d_mm.labels.record import ImageRecord, turning_advice
from cuts3d_mm.visualization.charts import (
    draw_precision_recall,
    format_scores,
    format_table,
    percent,
)
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import save_picture

from .average_precision import KINDS, class_agnostic_ap, run_evaluation, statistics_of

# Smallest and largest number of annotated instances, for each group of images.
INSTANCE_GROUPS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, None))
IOU_THRESHOLDS = (0.5, 0.75, 0.9)
_RECALL_STEPS = 101
_SAME = 0.01  # images with a smaller change of the quality count as unchanged
Detections = list[dict[str, Any]]


def score_labels(
    records: Iterable[ImageRecord], ground_truth: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Score pseudo-labels as if they were detections; see `labels_as_detections`."""
    return class_agnostic_ap(ground_truth, labels_as_detections(records, ground_truth))


def labels_as_detections(
    records: Iterable[ImageRecord], ground_truth: dict[str, Any]
) -> list[dict[str, Any]]:
    """Turn pseudo-labels into COCO results.

    Images are matched as `match_names` does. An annotated image without labels counts as an image
    without detections.

    Raises:
        ValueError: no labelled image is annotated, or sizes differ.
    """
    return _match(records, ground_truth)[0]


def _match_side(side: Place, truth: dict[str, Any], crowd: Crowd) -> tuple[Detections, set[Any]]:
    """Read labels; a results list speaks of all annotated images."""
    if not is_results_list(side):
        return _match(read_labels(side, crowd), truth)
    sizes = {image['id']: (image['height'], image['width']) for image in truth['images']}
    return list(read_results(side, sizes)), set(sizes)


def _match(
    records: Iterable[ImageRecord], ground_truth: dict[str, Any]
) -> tuple[Detections, set[Any]]:
    """Turn pseudo-labels into COCO results, and find the ids of the images that are labelled."""
    images = {image['file_name']: image for image in ground_truth['images']}
    keys = {key_of(name) for name in images}
    detections: Detections = []
    labelled, others, names = set(), dict[str, ImageRecord](), list[str]()

    def take(record: ImageRecord, image: dict[str, Any]) -> None:
        labelled.add(image['id'])
        if (image['height'], image['width']) != record.image_hw:
            image_hw = image['height'], image['width']
            raise ValueError(
                f'{record.name} must be (height, width) {image_hw} as annotated, the labels say '
                f'{record.image_hw}{turning_advice(image_hw, record.image_hw)}'
            )
        for instance in record.instances:
            annotation = coco_annotation(instance, record.image_hw)
            detections.append(annotation | {'image_id': image['id']})

    for record in records:
        if record.failure is None and record.name in images:
            names.append(record.name)
            take(record, images[record.name])
        elif record.failure is None and key_of(record.name) in keys:
            others[record.name] = record
    if others:
        for annotated, name in match_names(list(images), [*names, *others], 'annotations').items():
            if name in others:
                take(others[name], images[annotated])
    if not labelled:
        raise ValueError('labels and ground truth must share image names, they share no name')
    return detections, labelled


def scores_by_count(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    kinds: Sequence[str] = KINDS,
    evaluations: Mapping[str, Any] | None = None,
) -> dict[str, tuple[int, dict[str, dict[str, float]]]]:
    """Score images with few and with many annotated instances apart.

    Args:
        ground_truth: as for `class_agnostic_ap`, as are the next two.
        detections: COCO results.
        kinds: shapes to compare.
        evaluations: results of `run_evaluation` by kind; None: they are made.

    Returns:
        Name of a group -> number of its images, and their scores by `class_agnostic_ap`; groups
        without an image are left out.
    """
    if evaluations is None:
        evaluations = _evaluations(ground_truth, detections, kinds)
    counts: dict[Any, int] = dict.fromkeys((i['id'] for i in ground_truth['images']), 0)
    for annotation in ground_truth['annotations']:
        if not annotation.get('iscrowd'):
            counts[annotation['image_id']] += 1
    groups = {}
    for first, last in INSTANCE_GROUPS:
        chosen = {k for k, n in counts.items() if n >= first and (last is None or n <= last)}
        if chosen:
            name = f'{first}' if first == last else f'{first}-{last or ""}'
            groups[name] = len(chosen), _scores(ground_truth, evaluations, chosen)
    return groups


def _evaluations(
    ground_truth: dict[str, Any], detections: Detections, kinds: Iterable[str]
) -> dict[str, Any]:
    return {kind: run_evaluation(ground_truth, detections, kind) for kind in kinds}


def _scores(
    ground_truth: dict[str, Any], evaluations: Mapping[str, Any], chosen: set[Any] | None = None
) -> dict[str, dict[str, float]]:
    return {
        kind: statistics_of(ground_truth, evaluation, chosen)
        for kind, evaluation in evaluations.items()
    }


def precision_recall(evaluation: Any) -> dict[float, Double]:
    """Compute interpolated precision as pycocotools does.

    Args:
        evaluation: result of `run_evaluation`.

    Returns:
        IoU threshold -> (101,) precision at recall 0, 0.01, ..., 1.
    """
    if evaluation is None:
        return {iou: np.zeros(_RECALL_STEPS) for iou in IOU_THRESHOLDS}
    steps = list(np.round(evaluation.params.iouThrs, 2))
    precision = evaluation.eval['precision'][:, :, 0, 0, -1]
    return {iou: np.clip(precision[steps.index(iou)], 0, 1) for iou in IOU_THRESHOLDS}


@dataclass(frozen=True)
class ImageChange:
    """The quality of two sets of labels for an image, see `image_quality`."""

    image_id: Any
    file_name: str
    before: float  # quality of the first set
    after: float  # quality of the second set

    @property
    def gain(self) -> float:
        """Difference of the qualities, positive if the second set is better."""
        return self.after - self.before


def image_quality(truth: list[dict[str, Any]], found: list[dict[str, Any]]) -> float:
    """Compute the best mask IoU of any label with each object, and their mean, in [0, 1].

    Args:
        truth: run-length codes of the objects, at least one.
        found: run-length codes of the labels.
    """
    if not found:
        return 0.0
    overlap = coco_mask.iou(found, truth, [0] * len(truth))  # (labels, objects)
    return float(np.asarray(overlap).max(axis=0).mean())


def compare(
    ground_truth: dict[str, Any],
    before: Iterable[dict[str, Any]],
    after: Iterable[dict[str, Any]],
) -> list[ImageChange]:
    """Compare two sets of detections image by image; images without an object are left out.

    Returns:
        The changes, the greatest loss first.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in ground_truth['images']}
    truth: dict[Any, list[dict[str, Any]]] = {}
    for annotation in ground_truth['annotations']:
        if not annotation.get('iscrowd'):
            image_id = annotation['image_id']
            code = mask_code(annotation['segmentation'], sizes[image_id])
            truth.setdefault(image_id, []).append(code)
    sides = [_codes_by_image(side) for side in (before, after)]
    changes = []
    for image in ground_truth['images']:
        image_id = image['id']
        if image_id in truth:
            quality = [image_quality(truth[image_id], side.get(image_id, [])) for side in sides]
            changes.append(ImageChange(image_id, image['file_name'], *quality))
    return sorted(changes, key=lambda change: (change.gain, change.file_name))


def count_changes(changes: list[ImageChange]) -> dict[str, int]:
    """Count the images that got better or worse, or stayed the same."""
    better = sum(change.gain > _SAME for change in changes)
    worse = sum(change.gain < -_SAME for change in changes)
    return {'better': better, 'worse': worse, 'same': len(changes) - better - worse}


def _of_images(ground_truth: dict[str, Any], chosen: set[Any]) -> dict[str, Any]:
    return {
        'images': [image for image in ground_truth['images'] if image['id'] in chosen],
        'annotations': [a for a in ground_truth['annotations'] if a['image_id'] in chosen],
    }


def _codes_by_image(detections: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    codes: dict[Any, list[dict[str, Any]]] = {}
    for one in detections:
        codes.setdefault(one['image_id'], []).append(one['segmentation'])
    return codes


@dataclass(frozen=True)
class ScoreReport:
    """The scores of a set of labels, and its comparison with an earlier set if there is one."""

    ground_truth: dict[str, Any]
    detections: Detections
    earlier: Detections | None
    evaluations: dict[str, Any]  # results for the labels, by kind of shape
    earlier_evaluations: dict[str, Any]  # empty without earlier labels
    num_annotated: int  # images of the annotations; `ground_truth` holds those that are scored

    @classmethod
    def of(
        cls,
        labels: Place,
        ground_truth: Path,
        against: Place | None,
        all_images: bool = False,
        crowd: Crowd = 'ignore',
    ) -> ScoreReport:
        """Read the labels and annotations, and score the labels.

        Annotations of boxes alone score boxes alone.

        Args:
            labels: label store, COCO JSON or COCO results list.
            ground_truth: COCO JSON of the true objects.
            against: earlier labels to compare with.
            all_images: whether annotated images without labels count as images without
                detections; otherwise the images are scored that all these labels cover.
            crowd: whether regions of a COCO JSON that are marked `iscrowd` are ignored or are
                objects.
        """
        kinds: tuple[str, ...] = KINDS
        try:
            truth = read_ground_truth(ground_truth, True, True, crowd=crowd)
        except BoxesAlone:
            if against is not None:  # masks are compared
                raise
            truth, kinds = read_ground_truth(ground_truth, False, True, crowd=crowd), KINDS[:1]
        num_annotated = len(truth['images'])
        sides = [_match_side(side, truth, crowd) for side in (labels, against) if side is not None]
        if not all_images:
            scored = set.intersection(*(labelled for _, labelled in sides))
            if not scored:
                raise ValueError(
                    'both sets of labels must share annotated images, they share none'
                )
            truth = _of_images(truth, scored)
            sides = [
                ([one for one in found if one['image_id'] in scored], scored) for found, _ in sides
            ]
        found = [detections for detections, _ in sides]
        earlier = found[1] if against is not None else None
        evaluations = [_evaluations(truth, detections, kinds) for detections in found]
        return cls(truth, found[0], earlier, evaluations[0], (*evaluations, {})[1], num_annotated)

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """Scores by kind of shape and name, see `class_agnostic_ap`."""
        return _scores(self.ground_truth, self.evaluations)

    def scope(self) -> str:
        """Say which of the annotated images are scored."""
        count = len(self.ground_truth['images'])
        if count == self.num_annotated:
            return f'all {count} annotated images'
        return (
            f'{count} of {self.num_annotated} annotated images, those with labels; --all for all'
        )

    def table(self) -> str:
        """Format the scores of boxes and masks."""
        return format_scores(self.scores)

    def table_by_count(self) -> str:
        """Format the scores of masks by the number of annotated objects in an image."""
        groups = scores_by_count(self.ground_truth, self.detections, (), self.evaluations)
        kind = tuple(self.evaluations)[-1]
        rows = []
        for name, (count, scores) in groups.items():
            figures = (percent(scores[kind][m]) for m in ('AP', 'AP50', 'AR100'))
            rows.append([name, str(count), *figures])
        shape = 'mask' if kind == 'segm' else 'box'
        return format_table(['objects', 'images', f'{shape} AP %', 'AP50 %', 'AR100 %'], rows)

    def changes(self) -> list[ImageChange]:
        """Compare with the earlier labels image by image, the greatest loss first."""
        return compare(self.ground_truth, self._earlier_labels(), self.detections)

    def comparison(self) -> str:
        """Format the scores of the earlier labels, and the number of images that got better."""
        changes = self.changes()
        earlier = format_scores(_scores(self.ground_truth, self.earlier_evaluations))
        counts = ', '.join(f'{count} {name}' for name, count in count_changes(changes).items())
        lines = (f'{c.gain:+.2f}  {c.file_name}' for c in (*changes[:3], *changes[-3:]))
        images = f'images: {counts} (mean best mask IoU of their objects)'
        return '\n'.join(['compared with', earlier, '', images, *lines])

    def plot(self) -> Figure:
        """Draw precision against recall."""
        curves = {'labels': precision_recall(tuple(self.evaluations.values())[-1])}
        if self.earlier is not None:
            curves['compared with'] = precision_recall(self.earlier_evaluations['segm'])
        return draw_precision_recall(curves)

    def draw_worst(self, images: Place, out: Path, count: int) -> list[str]:
        """Draw the images that got worse the most: annotations, earlier labels, these labels.

        Returns:
            A reason for each image that could not be drawn.
        """
        out.mkdir(parents=True, exist_ok=True)
        sizes = {i['id']: (i['height'], i['width']) for i in self.ground_truth['images']}
        truth = [a for a in self.ground_truth['annotations'] if not a.get('iscrowd')]
        refused = []
        for rank, change in enumerate(self.changes()[:count]):
            name = f'{rank:03d}_{PurePosixPath(change.file_name).stem}.png'
            try:
                pixels = read_named_image(images, change.file_name)
                path = path_to_write(out, name)
            except (BadName, ImageFailure) as failure:
                refused.append(f'{shown(change.file_name)!r}: {failure}')
                continue
            parts = [
                draw_instances(pixels, _masks(side, change.image_id, sizes[change.image_id]))
                for side in (truth, self._earlier_labels(), self.detections)
            ]
            save_picture(path, np.concatenate(parts, axis=1))
        return refused

    def _earlier_labels(self) -> Detections:
        if self.earlier is None:
            raise ValueError('a comparison needs earlier labels; pass `against`')
        return self.earlier


def _masks(side: Detections, image_id: Any, image_hw: tuple[int, int]) -> list[np.ndarray]:
    found = (one['segmentation'] for one in side if one['image_id'] == image_id)
    return [coco_mask.decode(mask_code(code, image_hw)).astype(bool) for code in found]

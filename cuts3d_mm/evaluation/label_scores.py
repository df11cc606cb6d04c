"""Score labels against annotations, compare two sets of labels, and report both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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

from .average_precision import KINDS, class_agnostic_ap, run_evaluation, summarize

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
    """Turn pseudo-labels into COCO results, with images matched as `match_names` does.

    Raises:
        ValueError: no labelled image is annotated, or sizes differ.
    """
    return _match(records, ground_truth)[0]


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
    ground_truth: dict[str, Any], evaluations: Mapping[str, Any]
) -> dict[str, tuple[int, dict[str, dict[str, float]]]]:
    """Score images with few and with many annotated instances apart.

    Returns:
        Name of a group -> number of its images, and their scores by `class_agnostic_ap`; groups
        without an image are left out.
    """
    counts = Counter(a['image_id'] for a in ground_truth['annotations'] if not a.get('iscrowd'))
    groups = {}
    for first, last in INSTANCE_GROUPS:
        chosen = {k for k, n in counts.items() if n >= first and (last is None or n <= last)}
        if chosen:
            name = f'{first}' if first == last else f'{first}-{last or ""}'
            groups[name] = len(chosen), summarize(ground_truth, evaluations, chosen)
    return groups


def precision_recall(evaluation: Any) -> dict[float, Double]:
    """Compute interpolated precision of a `run_evaluation` as pycocotools does.

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

    There must be an object; masks are run-length codes.
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
    sides = (ground_truth['annotations'], before, after)
    truth, *found = (_codes_by_image(side, ground_truth) for side in sides)
    changes = []
    for image in ground_truth['images']:
        image_id = image['id']
        if image_id in truth:
            quality = [image_quality(truth[image_id], side.get(image_id, [])) for side in found]
            changes.append(ImageChange(image_id, image['file_name'], *quality))
    return sorted(changes, key=lambda change: (change.gain, change.file_name))


def count_changes(changes: list[ImageChange]) -> dict[str, int]:
    """Count the images that got better or worse, or stayed the same."""
    better = sum(change.gain > _SAME for change in changes)
    worse = sum(change.gain < -_SAME for change in changes)
    return {'better': better, 'worse': worse, 'same': len(changes) - better - worse}


def _codes_by_image(
    side: Iterable[dict[str, Any]], ground_truth: dict[str, Any]
) -> dict[Any, list[dict[str, Any]]]:
    """Collect the run-length codes of each image, crowds aside."""
    sizes = {image['id']: (image['height'], image['width']) for image in ground_truth['images']}
    codes: dict[Any, list[dict[str, Any]]] = {}
    for one in side:
        if not one.get('iscrowd'):
            code = mask_code(one['segmentation'], sizes[one['image_id']])
            codes.setdefault(one['image_id'], []).append(code)
    return codes


@dataclass(frozen=True)
class ScoreReport:
    """The scores of a set of labels, and its comparison with an earlier set if there is one."""

    ground_truth: dict[str, Any]  # annotations of the images that are scored
    num_annotated: int  # images of the annotations
    found: list[Detections]  # labels, then the earlier labels if they are given
    evaluations: list[dict[str, Any]]  # their results by kind of shape

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
        sizes = {image['id']: (image['height'], image['width']) for image in truth['images']}
        scored, sides = set(sizes), []
        for side in (labels, against):
            if side is not None and is_results_list(side):  # speaks of all annotated images
                sides.append((list(read_results(side, sizes)), scored))
            elif side is not None:
                sides.append(_match(read_labels(side, crowd), truth))
        if not all_images:
            scored = set.intersection(*(labelled for _, labelled in sides))
            if not scored:
                raise ValueError(
                    'both sets of labels must share annotated images, they share none'
                )
            truth = {
                'images': [image for image in truth['images'] if image['id'] in scored],
                'annotations': [a for a in truth['annotations'] if a['image_id'] in scored],
            }
        found = [[one for one in side if one['image_id'] in scored] for side, _ in sides]
        evaluations = [
            {kind: run_evaluation(truth, detections, kind) for kind in kinds}
            for detections in found
        ]
        return cls(truth, num_annotated, found, evaluations)

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """Scores by kind of shape and name, see `class_agnostic_ap`."""
        return summarize(self.ground_truth, self.evaluations[0])

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
        groups = scores_by_count(self.ground_truth, self.evaluations[0])
        kind = tuple(self.evaluations[0])[-1]
        rows = []
        for name, (count, scores) in groups.items():
            figures = (percent(scores[kind][m]) for m in ('AP', 'AP50', 'AR100'))
            rows.append([name, str(count), *figures])
        shape = 'mask' if kind == 'segm' else 'box'
        return format_table(['objects', 'images', f'{shape} AP %', 'AP50 %', 'AR100 %'], rows)

    def changes(self) -> list[ImageChange]:
        """Compare with the earlier labels image by image, the greatest loss first."""
        if len(self.found) < 2:
            raise ValueError('a comparison needs earlier labels; pass `against`')
        return compare(self.ground_truth, *self.found[::-1])

    def comparison(self) -> str:
        """Format the scores of the earlier labels, and the number of images that got better."""
        changes = self.changes()
        earlier = format_scores(summarize(self.ground_truth, self.evaluations[1]))
        counts = ', '.join(f'{count} {name}' for name, count in count_changes(changes).items())
        lines = (f'{c.gain:+.2f}  {c.file_name}' for c in (*changes[:3], *changes[-3:]))
        images = f'images: {counts} (mean best mask IoU of their objects)'
        return '\n'.join(['compared with', earlier, '', images, *lines])

    def plot(self) -> Figure:
        """Draw precision against recall."""
        kind = tuple(self.evaluations[0])[-1]
        names = ('labels', 'compared with')
        evaluated = zip(names, self.evaluations, strict=False)
        curves = {name: precision_recall(results[kind]) for name, results in evaluated}
        return draw_precision_recall(curves)

    def draw_worst(self, images: Place, out: Path, count: int) -> list[str]:
        """Draw the images that got worse the most: annotations, earlier labels, these labels.

        Returns:
            A reason for each image that could not be drawn.
        """
        out.mkdir(parents=True, exist_ok=True)
        sides = (self.ground_truth['annotations'], *self.found[::-1])
        codes = [_codes_by_image(side, self.ground_truth) for side in sides]
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
                draw_instances(
                    pixels, [coco_mask.decode(code) > 0 for code in side.get(change.image_id, [])]
                )
                for side in codes
            ]
            save_picture(path, np.concatenate(parts, axis=1))
        return refused

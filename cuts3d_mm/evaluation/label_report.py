"""Report the scores of labels in tables, curves and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pycocotools import mask as coco_mask

from cuts3d_mm.evaluation.class_agnostic_ap import class_agnostic_ap
from cuts3d_mm.evaluation.label_scores import (
    ImageChange,
    compare,
    count_changes,
    labels_as_detections,
    precision_recall,
    scores_by_count,
)
from cuts3d_mm.files.paths import BadName, path_to_write, shown
from cuts3d_mm.files.remote import Place
from cuts3d_mm.images.reading import ImageFailure, read_named_image
from cuts3d_mm.labels.coco import read_labels
from cuts3d_mm.labels.coco_json import mask_code, read_ground_truth
from cuts3d_mm.visualization.curves import draw_precision_recall
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import save_picture
from cuts3d_mm.visualization.tables import format_scores, format_table

Detections = list[dict[str, Any]]


@dataclass(frozen=True)
class ScoreReport:
    """One set of labels against annotations, and maybe another set."""

    ground_truth: dict[str, Any]
    detections: Detections
    earlier: Detections | None
    scores: dict[str, dict[str, float]]

    @classmethod
    def of(cls, labels: Place, ground_truth: Path, against: Place | None) -> ScoreReport:
        """Read and score."""
        truth = read_ground_truth(ground_truth, needs_masks=True, needs_names=True)
        detections = _read(labels, truth)
        earlier = None if against is None else _read(against, truth)
        return cls(truth, detections, earlier, class_agnostic_ap(truth, detections))

    def table(self) -> str:
        """Scores of boxes and masks."""
        return format_scores(self.scores)

    def table_by_count(self) -> str:
        """Scores of masks by the number of annotated objects of an image."""
        groups = scores_by_count(self.ground_truth, self.detections)
        rows = []
        for name, (count, scores) in groups.items():
            figures = (f'{100 * scores["segm"][m]:.2f}' for m in ('AP', 'AP50', 'AR100'))
            rows.append([name, str(count), *figures])
        return format_table(['objects', 'images', 'mask AP %', 'AP50 %', 'AR100 %'], rows)

    def changes(self) -> list[ImageChange]:
        """Images of the comparison, the greatest loss first."""
        return compare(self.ground_truth, self._earlier_labels(), self.detections)

    def comparison(self) -> str:
        """Scores of the earlier labels, and how many images got better."""
        earlier = format_scores(class_agnostic_ap(self.ground_truth, self._earlier_labels()))
        changes = self.changes()
        counts = ', '.join(f'{count} {name}' for name, count in count_changes(changes).items())
        lines = [f'{c.gain:+.2f}  {c.file_name}' for c in (*changes[:3], *changes[-3:])]
        text = '\n'.join(lines)
        return (
            f'compared with\n{earlier}\n\nimages: {counts} (mean best mask IoU of their '
            f'objects)\n{text}'
        )

    def plot(self) -> Figure:
        """Precision against recall."""
        curves = {'labels': precision_recall(self.ground_truth, self.detections)}
        if self.earlier is not None:
            curves['compared with'] = precision_recall(self.ground_truth, self.earlier)
        return draw_precision_recall(curves)

    def draw_worst(self, images: Place, out: Path, count: int) -> list[str]:
        """Draw the images that got worse the most: annotations, earlier labels, these labels.

        Returns:
            Why an image could not be drawn, for each of those.
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
            raise ValueError('a comparison needs earlier labels, got none; pass `against`')
        return self.earlier


def _read(labels: Place, truth: dict[str, Any]) -> Detections:
    return labels_as_detections(read_labels(labels), truth)


def _masks(side: Detections, image_id: Any, image_hw: tuple[int, int]) -> list[np.ndarray]:
    found = (one['segmentation'] for one in side if one['image_id'] == image_id)
    return [coco_mask.decode(mask_code(code, image_hw)).astype(bool) for code in found]

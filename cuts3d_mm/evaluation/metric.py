"""Score detections in a training, as a metric of MMEngine."""

from __future__ import annotations

from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path

from cuts3d_mm.datasets.pseudo_labels import ClassAgnosticCOCO
from cuts3d_mm.registry import METRICS

from .average_precision import KINDS, STATISTICS, class_agnostic_ap


@METRICS.register_module()
class ClassAgnosticCocoMetric(CocoMetric):
    """Scores of pycocotools, with all categories of the annotations taken as one class.

    AP, AP50, AP75 and AP by size, AR with 1, 10 and 100 detections of an image, unrounded. At
    most 100 detections count, as in CutLER and detectron2. Crowd regions are ignored as COCO
    does. LVIS annotates only some objects of an image; with one class, detections of all other
    objects count as wrong, as in the papers that report LVIS.

    Args:
        ann_file (str): COCO JSON.
        metric (str | list[str]): `bbox`, `segm` or both. Defaults to `bbox`.

    All other arguments go to `mmdet.CocoMetric`.
    """

    def __init__(self, ann_file: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        unknown = set(self.metrics) - set(KINDS)
        if unknown:
            raise ValueError(f'metric must be one or both of {KINDS}, got {sorted(unknown)}')
        with get_local_path(ann_file, backend_args=self.backend_args) as local_path:
            self._coco_api = ClassAgnosticCOCO(local_path, needs_masks='segm' in self.metrics)

    def compute_metrics(
        self, results: list[tuple[dict[str, Any], dict[str, Any]]]
    ) -> dict[str, float]:
        """Score the collected detections."""
        if self.format_only:
            return super().compute_metrics(results)
        detections = [one for _, result in results for one in _as_coco(result)]
        scores = class_agnostic_ap(self._coco_api.dataset, detections, self.metrics)
        return {
            f'{kind}_{STATISTICS[name]}': value
            for kind, figures in scores.items()
            for name, value in figures.items()
        }


def _as_coco(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Turn the detections of an image into COCO results."""
    boxes_xywh = result['bboxes'].astype(float)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    detections = [
        {'image_id': result['img_id'], 'bbox': box, 'score': score}
        for box, score in zip(boxes_xywh.tolist(), result['scores'].tolist(), strict=True)
    ]
    for detection, mask in zip(detections, result.get('masks', ()), strict=False):
        detection['segmentation'] = mask
    return detections

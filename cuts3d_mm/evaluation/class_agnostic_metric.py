"""Class-agnostic COCO scores as a metric of MMDetection."""

from __future__ import annotations

from typing import Any

from mmdet.evaluation import CocoMetric
from mmengine.fileio import get_local_path

from cuts3d_mm.datasets.pseudo_labels import ClassAgnosticCOCO
from cuts3d_mm.evaluation.class_agnostic_ap import KINDS, class_agnostic_ap
from cuts3d_mm.registry import METRICS

# name of a score -> its name in MMDetection's logs
_LOG_NAMES = {
    'AP': 'mAP',
    'AP50': 'mAP_50',
    'AP75': 'mAP_75',
    'APs': 'mAP_s',
    'APm': 'mAP_m',
    'APl': 'mAP_l',
    'AR1': 'AR@1',
    'AR10': 'AR@10',
    'AR100': 'AR@100',
}


@METRICS.register_module()
class ClassAgnosticCocoMetric(CocoMetric):
    """Scores of pycocotools with all categories of the annotations taken as one.

    AP, AP50, AP75 and AP by size, AR with 1, 10 and 100 detections of an image, unrounded. At
    most 100 detections count, as in CutLER and detectron2. Crowd regions are ignored as COCO
    does. LVIS annotates only some of the objects of an image; taken as one class all others
    count as wrong detections, as in the papers that report it.

    Args:
        ann_file (str): COCO JSON.
        metric (str | list[str]): `bbox`, `segm` or both. Defaults to `bbox`.

    All other arguments are those of `mmdet.CocoMetric`.
    """

    def __init__(self, ann_file: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        unknown = set(self.metrics) - set(KINDS)
        if unknown:
            raise ValueError(f'metric must be of {KINDS}, got {sorted(unknown)}')
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
            f'{kind}_{_LOG_NAMES[name]}': value
            for kind, figures in scores.items()
            for name, value in figures.items()
        }


def _as_coco(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Detections of one image as COCO results."""
    boxes_xywh = result['bboxes'].astype(float)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    detections = [
        {'image_id': result['img_id'], 'bbox': box, 'score': score}
        for box, score in zip(boxes_xywh.tolist(), result['scores'].tolist(), strict=True)
    ]
    for detection, mask in zip(detections, result.get('masks', ()), strict=False):
        detection['segmentation'] = mask
    return detections

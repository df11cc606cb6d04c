"""Class-agnostic COCO scores as a metric of MMDetection."""

from __future__ import annotations

from typing import Any

from mmdet.evaluation import CocoMetric

from cuts3d_mm.labels.coco import take_as_one_class
from cuts3d_mm.registry import METRICS


@METRICS.register_module()
class ClassAgnosticCocoMetric(CocoMetric):
    """`mmdet.CocoMetric` with all categories of the annotations taken as one.

    At most 100 detections per image count, as in CutLER and detectron2. Arguments are those of
    `mmdet.CocoMetric`.
    """

    def __init__(self, *args: Any, proposal_nums: Any = (100, 1, 10), **kwargs: Any) -> None:
        super().__init__(*args, proposal_nums=proposal_nums, **kwargs)
        if self._coco_api is not None:
            take_as_one_class(self._coco_api.dataset)
            self._coco_api.createIndex()

"""COCO annotations of any number of classes, taken as one."""

from __future__ import annotations

from typing import ClassVar

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from cuts3d_mm.labels.coco import DATASET_META, take_as_one_class
from cuts3d_mm.registry import DATASETS


class ClassAgnosticCOCO(COCO):
    """A COCO index in which every annotation is of the one category `object`."""

    def createIndex(self) -> None:
        """Index the annotations after renaming their categories."""
        take_as_one_class(self.dataset)
        super().createIndex()


@DATASETS.register_module()
class ClassAgnosticCocoDataset(CocoDataset):
    """`mmdet.CocoDataset` of one class, `object`; crowd regions stay ignored."""

    METAINFO: ClassVar[dict] = DATASET_META
    COCOAPI = ClassAgnosticCOCO

"""Read COCO annotations of any number of classes as one class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from cuts3d_mm.labels.coco_json import DATASET_META, read_ground_truth
from cuts3d_mm.registry import DATASETS


class ClassAgnosticCOCO(COCO):
    """A COCO index in which every annotation is of the one category `object`.

    Args:
        annotation_file: a COCO JSON, each entry of which is checked.
        needs_masks: whether every annotation must have a mask.

    Raises:
        ValueError: an entry is not as it must be.
    """

    def __init__(self, annotation_file: str, needs_masks: bool = False) -> None:
        super().__init__()
        self.dataset = read_ground_truth(Path(annotation_file), needs_masks)
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


@DATASETS.register_module()
class ClassAgnosticCocoDataset(CocoDataset):
    """`mmdet.CocoDataset` of one class, `object`; crowd regions stay ignored."""

    METAINFO: ClassVar[dict[str, Any]] = DATASET_META
    COCOAPI = ClassAgnosticCOCO

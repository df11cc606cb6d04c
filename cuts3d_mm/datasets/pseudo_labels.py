"""Read a label store or a COCO JSON as a data set of one class."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import BaseDetDataset

from cuts3d_mm.datasets.samplers import SeededIndex
from cuts3d_mm.files.paths import require_inside
from cuts3d_mm.labels.coco_json import DATASET_META
from cuts3d_mm.labels.record import ImageRecord, InstanceRecord
from cuts3d_mm.labels.table import LabelTable, SelectedRecords
from cuts3d_mm.registry import DATASETS


@DATASETS.register_module()
class PseudoLabelDataset(BaseDetDataset):
    """Pseudo-labels of one class, `object`, with their confidence.

    Reads one image when it is asked for; a set of any size takes next to no memory. Labels of
    CutLER and CuVLER, whose files swap width and height, are corrected with a warning.

    Args:
        ann_file (str): Folder of a label store, or a COCO JSON.
        data_prefix (dict): `img` is the folder that the image names are relative to.
        filter_cfg (dict, optional): `filter_empty_gt` leaves out images without an instance;
            `min_size` (pixels) images with a shorter side. Failed images are always left out.

    All other arguments are those of `mmdet.BaseDetDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = DATASET_META

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The records are in a file that is mapped into memory, not in Python objects.
        kwargs['serialize_data'] = False
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> SelectedRecords:
        """Open the labels.

        Raises:
            ValueError: `ann_file` is no label file, or `classes` names other than one class.
        """
        classes = self.metainfo['classes']
        if not isinstance(classes, (tuple, list)) or len(classes) != 1:
            raise ValueError(
                f"metainfo must be dict(classes=('object',)), a tuple of one name with a comma, "
                f'got classes={classes!r}'
            )
        table = LabelTable(Path(self.ann_file))
        return SelectedRecords(table, np.flatnonzero(~table.is_failure))

    def filter_data(self) -> SelectedRecords:
        """Leave out what `filter_cfg` says; nothing in test mode."""
        records: SelectedRecords = self.data_list
        if self.test_mode or not self.filter_cfg:
            return records
        table, kept = records.table, records.indices
        if self.filter_cfg.get('filter_empty_gt', False):
            kept = kept[table.num_instances[kept] > 0]
        kept = kept[table.image_hw[kept].min(axis=1) >= self.filter_cfg.get('min_size', 0)]
        return SelectedRecords(table, kept)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Read the labels of one image in MMDetection's form."""
        if not self._fully_initialized:
            self.full_init()
        if isinstance(idx, SeededIndex):
            idx.seed_generators()
        record: ImageRecord = self.data_list[idx]
        height, width = record.image_hw
        return {
            'img_id': int(self.data_list.indices[idx]),
            'img_path': str(Path(self.data_prefix.get('img', '')) / require_inside(record.name)),
            'height': height,
            'width': width,
            'instances': [_instance_info(one, record.image_hw) for one in record.instances],
            'sample_idx': idx if idx >= 0 else len(self) + idx,
        }

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keep some images: those at the indices, or the first N (the last N for -N)."""
        self.data_list = self._get_unserialized_subset(indices)

    def get_subset(self, indices: Sequence[int] | int) -> PseudoLabelDataset:
        """Return a data set of some images, as `get_subset_` selects them."""
        subset = copy.copy(self)
        subset.get_subset_(indices)
        return subset

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> SelectedRecords:
        chosen: Any = np.asarray(indices)
        if isinstance(indices, int):
            chosen = slice(indices) if indices >= 0 else slice(indices, None)
        return self.data_list[chosen]


def _instance_info(instance: InstanceRecord, image_hw: tuple[int, int]) -> dict[str, Any]:
    left, top, width, height = instance.box_xywh
    return {
        'bbox': [left, top, left + width, top + height],
        'bbox_label': 0,
        'ignore_flag': 0,
        'mask': {'size': list(image_hw), 'counts': instance.rle.decode('ascii')},
        'score': instance.score,
        'confidence': instance.confidence,
    }

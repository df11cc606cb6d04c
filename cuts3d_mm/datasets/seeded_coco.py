"""Read a COCO JSON with classes, so that a resumed training sees the same samples."""

from __future__ import annotations

from typing import Any

from mmdet.datasets import CocoDataset

from cuts3d_mm.datasets.samplers import SeededIndex
from cuts3d_mm.registry import DATASETS


@DATASETS.register_module()
class SeededCocoDataset(CocoDataset):
    """`mmdet.CocoDataset` that seeds its random transforms as `SeededInfiniteSampler` says."""

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Read the annotations of one image."""
        if isinstance(idx, SeededIndex):
            idx.seed_generators()
        info: dict[str, Any] = super().get_data_info(idx)
        return info

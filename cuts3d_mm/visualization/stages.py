"""Hold the intermediate results of the recipe on one image, for drawing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.cut_instances import Instance, RejectedCut
from cuts3d_mm.arrays import Float, Pixels


@dataclass(frozen=True)
class Stages:
    """Everything that the figure of one image shows."""

    image: Pixels  # (H, W, 3) RGB
    depth: Float | None  # (h, w) in [0, 1] on the patch grid; None for a 2D recipe
    importance: Float | None  # (h, w) in [beta, 1]; None where it is off
    instances: tuple[Instance, ...]
    rejected: tuple[RejectedCut, ...] = ()

    def owners(self) -> NDArray[np.int64]:
        """Index of the instance of each patch, (h, w); -1 for none."""
        owner = np.full(self._grid_hw(), -1)
        for index, instance in enumerate(self.instances):
            owner[instance.cut.mask] = index
        return owner

    def _grid_hw(self) -> tuple[int, ...]:
        if self.depth is not None:
            return self.depth.shape
        return self.instances[0].cut.mask.shape if self.instances else (1, 1)

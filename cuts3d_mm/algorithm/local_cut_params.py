"""Every number of the cut in 3D, with its unit, its default and its source as in `params.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Neighborhood = Literal['grid', 'knn']
Capacity = Literal['step', 'affinity', 'margin', 'distance']
Spacing = Literal['linear', 'geometric']
Terminals = Literal['single', 'regional']
Outside = Literal['drop', 'far']


@dataclass(frozen=True)
class EvidenceParams:
    """When a LocalCut is taken; otherwise the 2D component stays as it is."""

    min_share: float = 0.1  # of the component that the cut must keep [O]
    min_depth_step: float = 0.05  # median along the new border, in [0, 1] [O]
    min_contrast: float = 1.0  # that step over the 90th percentile inside the cut [O]


@dataclass(frozen=True)
class LocalCutParams:
    """LocalCut: a minimum cut on the point cloud of the semantic mask (Sec. 3.2)."""

    neighborhood: Neighborhood = 'grid'  # the 8 patches around each [O], or k-NN in 3D [P]
    # Longest edge kept, the cloud spans [0, 1]: 3D distance [V3], or depth step on the grid [O].
    tau_knn: float = 0.115
    num_neighbors: int = 10  # k of 'knn'; the paper leaves it open [O]
    capacity: Capacity = 'step'  # edge length -> capacity [O]
    depth_step: float = 0.03  # of 'step': length at which an edge costs 1/e [O]
    eigenvector_step: float = 0.2  # the same of its eigenvector step, largest entry 1 [O]
    terminals: Terminals = 'regional'  # one source and sink node [P], or a region of each [O]
    terminal_fraction: float = 0.01  # share of the cloud in a regional terminal [O]
    outside: Outside = 'drop'  # points off the semantic mask: left out [P] or far [V3]
    evidence: EvidenceParams | None = EvidenceParams()  # when a cut is taken; None: always [P]


@dataclass(frozen=True)
class ConfidenceParams:
    """Spatial Confidence: agreement of several LocalCuts (Eq. 4)."""

    num_cuts: int = 8  # T, thresholds from tau_min to tau_knn [O]
    tau_min_ratio: float = 0.01  # tau_min / tau_knn; the paper leaves it open [O]
    spacing: Spacing = 'geometric'  # of the thresholds [O]; the paper: linear
    terminal_fraction: float | None = 0.05  # of regional terminals [O]; None: the cut's own

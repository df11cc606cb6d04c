"""Pseudo-labels as data sets of MMDetection, and their transforms."""

import mmdet.datasets  # noqa: F401  registers what our registries inherit

from cuts3d_mm.datasets.pseudo_labels import (
    ClassAgnosticCocoDataset,
    MixedImagesDataset,
    PseudoLabelDataset,
    SeededCocoDataset,
)
from cuts3d_mm.datasets.samplers import SeededInfiniteSampler
from cuts3d_mm.datasets.transforms import (
    AlphaBlendCopyPaste,
    ConfidentCopyPaste,
    LoadPseudoLabels,
)

__all__ = [
    'AlphaBlendCopyPaste',
    'ClassAgnosticCocoDataset',
    'ConfidentCopyPaste',
    'LoadPseudoLabels',
    'MixedImagesDataset',
    'PseudoLabelDataset',
    'SeededCocoDataset',
    'SeededInfiniteSampler',
]

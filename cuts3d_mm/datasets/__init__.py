"""Pseudo-labels as data sets of MMDetection, and their transforms."""

import mmdet.datasets  # noqa: F401  registers what our registries inherit

from .pseudo_labels import (
    ClassAgnosticCocoDataset,
    MixedImagesDataset,
    PseudoLabelDataset,
    SeededCocoDataset,
)
from .samplers import SeededInfiniteSampler
from .transforms import (
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

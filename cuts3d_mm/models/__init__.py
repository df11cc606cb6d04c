"""Losses and heads that train on uncertain labels, in MMDetection's detectors."""

import mmdet.models  # noqa: F401  registers what our registries inherit

from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.registry import MODELS

from .losses import SCSoftTargetMaskLoss
from .roi_heads import (
    DropLossBBoxHead,
    PseudoLabelAssigner,
    PseudoLabelSampler,
    RelabelSampler,
    SCMaskHead,
    SingleMaskCascadeRoIHead,
)

__all__ = [
    'DropLossBBoxHead',
    'PseudoLabelAssigner',
    'PseudoLabelSampler',
    'RelabelSampler',
    'SCMaskHead',
    'SCSoftTargetMaskLoss',
    'SingleMaskCascadeRoIHead',
]

# MMDetection builds the pseudo-label generator by its name too.
MODELS.register_module(module=PseudoLabelGenerator)

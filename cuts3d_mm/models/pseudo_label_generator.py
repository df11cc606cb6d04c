"""Let MMDetection's registry of models build the pseudo-label generator by name."""

from __future__ import annotations

from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.registry import MODELS

MODELS.register_module(module=PseudoLabelGenerator)

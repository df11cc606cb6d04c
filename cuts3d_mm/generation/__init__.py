"""Images in, labels out."""

from cuts3d_mm.generation import extractors  # noqa: F401  registers
from cuts3d_mm.generation.generator import PseudoLabelGenerator

__all__ = ['PseudoLabelGenerator']

"""Depth of images, from files or networks; all registered."""

from cuts3d_mm.labellers.depth.file import DepthFromFile
from cuts3d_mm.labellers.depth.huggingface import HFDepth
from cuts3d_mm.labellers.depth.marigold import MarigoldDepth

__all__ = ['DepthFromFile', 'HFDepth', 'MarigoldDepth']

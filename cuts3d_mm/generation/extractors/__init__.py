"""Image in, arrays out: patch features and depth. All registered."""

from cuts3d_mm.generation.extractors.color_texture import ColorTextureFeatures
from cuts3d_mm.generation.extractors.depth_file import DepthFromFile
from cuts3d_mm.generation.extractors.depth_hf import HFDepth
from cuts3d_mm.generation.extractors.depth_marigold import MarigoldDepth
from cuts3d_mm.generation.extractors.vit_keys import ViTKeyFeatures

__all__ = [
    'ColorTextureFeatures',
    'DepthFromFile',
    'HFDepth',
    'MarigoldDepth',
    'ViTKeyFeatures',
]

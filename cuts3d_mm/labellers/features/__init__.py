"""Extract patch features from images; all registered."""

from cuts3d_mm.labellers.features.color_texture import ColorTextureFeatures
from cuts3d_mm.labellers.features.timm_features import TimmFeatures
from cuts3d_mm.labellers.features.vit_keys import ViTKeyFeatures

__all__ = ['ColorTextureFeatures', 'TimmFeatures', 'ViTKeyFeatures']

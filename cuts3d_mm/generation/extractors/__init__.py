"""Image in, arrays out: patch features and depth. All registered."""

from cuts3d_mm.generation.extractors.color_texture import ColorTextureFeatures

__all__ = ['ColorTextureFeatures']

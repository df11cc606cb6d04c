"""Run the recipe on one image and keep its stages."""

from __future__ import annotations

from cuts3d_mm.algorithm.cut_patches import depth_on_grid
from cuts3d_mm.algorithm.spatial_importance import spatial_importance
from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.generator import PseudoLabelGenerator
from cuts3d_mm.visualization.stages import Stages


def explain_image(generator: PseudoLabelGenerator, image: NamedImage) -> Stages:
    """Run a generator on one image and keep what the figure shows.

    Raises:
        ImageFailure: the image has no usable depth.
    """
    inputs = generator.extract([image])[0]
    instances = generator.cut(inputs)
    params = generator.params
    grid_hw = inputs.features.shape[0], inputs.features.shape[1]
    depth = depth_on_grid(inputs.depth, grid_hw, params)
    importance = None
    if depth is not None and params.importance is not None:
        importance = spatial_importance(depth, params.importance)
    return Stages(image.pixels, depth, importance, tuple(instances))

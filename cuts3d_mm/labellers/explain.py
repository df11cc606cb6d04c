"""Run a generator on one image and keep its intermediate results, to draw them."""

from __future__ import annotations

from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.visualization.figures import Stages

from .generator import PseudoLabelGenerator


def explain_image(generator: PseudoLabelGenerator, image: NamedImage) -> Stages:
    """Run a generator on one image and keep what the figure shows.

    Raises:
        ImageFailure: the image has no usable depth.
    """
    cuts = generator.cut(generator.extract([image])[0])
    return Stages(image.pixels, cuts.depth, cuts.importance, cuts.instances, cuts.rejected)

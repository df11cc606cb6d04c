"""Divide the work on an image into stages that can run in different processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cuts3d_mm.algorithm.cut_instances import (
    ImageCuts,
    Instance,
    PatchCuts,
    PatchGraph,
    cut_graph,
    refine_cuts,
)
from cuts3d_mm.algorithm.ncut import NoConvergence
from cuts3d_mm.algorithm.params import CutParams
from cuts3d_mm.arrays import Pixels
from cuts3d_mm.images.reading import ImageFailure


@dataclass(frozen=True)
class Stage:
    """One step of the work on an image that follows the networks."""

    name: str
    # Takes what the stage before returns, the first one what `extract` makes of an image; the
    # last one returns instances. Can be pickled, needs no network and raises ImageFailure.
    run: Callable[[Any], Any]


@dataclass(frozen=True)
class ImageGraph:
    """What the recipe needs of one image when the networks are done with it."""

    graph: PatchGraph
    resized: Pixels  # (H'', W'', 3) RGB
    image_hw: tuple[int, int]  # of the original image


@dataclass(frozen=True)
class ImagePatchCuts:
    """The cuts of one image on the patch grid, and the image to refine them on."""

    cuts: PatchCuts
    resized: Pixels  # (H'', W'', 3) RGB
    image_hw: tuple[int, int]  # of the original image


def cutting_stages(params: CutParams) -> tuple[Stage, ...]:
    """Stages that lead from an `ImageGraph` to instances."""
    return (
        Stage('cut', partial(_cut, params=params)),
        Stage('refine', partial(_refined_instances, params=params)),
    )


def cut_image(image: ImageGraph, params: CutParams) -> ImageCuts:
    """Run the recipe on one image, and keep what led to the instances.

    Raises:
        ImageFailure: no solver finds how to cut it.
    """
    return _refine(_cut(image, params), params)


def _cut(image: ImageGraph, params: CutParams) -> ImagePatchCuts:
    try:
        cuts = cut_graph(image.graph, params)
    except NoConvergence as error:
        raise ImageFailure(str(error)) from error
    return ImagePatchCuts(cuts, image.resized, image.image_hw)


def _refine(image: ImagePatchCuts, params: CutParams) -> ImageCuts:
    return refine_cuts(image.cuts, image.resized, image.image_hw, params)


def _refined_instances(image: ImagePatchCuts, params: CutParams) -> Sequence[Instance]:
    return _refine(image, params).instances

"""Cut the instances out of images: extractors, then the recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from cuts3d_mm.algorithm.crops import Window, corner_windows, cut_crops, refine_crops
from cuts3d_mm.algorithm.cut_instances import (
    DepthNotFinite,
    ImageCuts,
    Instance,
    cut_patches,
    link_images,
    refine_cuts,
)
from cuts3d_mm.algorithm.grouping import embed_masks
from cuts3d_mm.algorithm.ncut import NoConvergence
from cuts3d_mm.algorithm.params import CutParams, Similarity, complete_stored
from cuts3d_mm.arrays import Float, Pixels
from cuts3d_mm.images.reading import ImageFailure, NamedImage, check_rgb, resize_rgb

from .depth.files import (
    LargerIs,
    check_larger_is,
    finite_depth,
    require_orientation,
)
from .embedding import describing_features
from .registry import (
    DEPTH,
    FEATURES,
    LABELLERS,
    build_params,
    require_depth,
)


class Extractor(Protocol):
    """What a feature extractor or a depth source must be, see docs/extend.md."""

    def __call__(self, images: Any) -> list[Any]:
        """Map images to the features of their patches, or to their depth."""

    def to(self, device: str) -> object:
        """Move networks, if there are any, to a device."""


@dataclass(frozen=True)
class PreparedImage:
    """What the CPU makes of an image for the networks."""

    resized: tuple[Pixels, ...]  # (H', W', 3) of the image, and of each window of it
    depth_input: Any = None  # of `prepare` of the depth extractor


@LABELLERS.register_module()
class PseudoLabelGenerator:
    """Cut the instances out of images.

    Args:
        features (dict): Config of a feature extractor.
        depth (dict, optional): Config of a depth extractor; None for a recipe that uses no
            depth. Defaults to None.
        recipe (dict, optional): Fields of `CutParams` that differ from its defaults; the key
            `preset` chooses those: 'cuts3d', 'paper', 'paper_v3' or 'maskcut'. Defaults to
            None.
        input_hw (tuple[int, int]): Size that images are brought to for features and
            refinement, not keeping the aspect, in pixels. Defaults to (480, 480).
        crops (bool): Whether the four corners of each image, 55 % of its sides, are cut too.
            That finds smaller objects for five times the work; each of the five parts may have
            `max_instances`, and instances come by falling score. Defaults to False.
        embed (bool): Whether instances get an embedding, see `embed_masks`. Defaults to False.
    """

    def __init__(
        self,
        features: dict[str, Any],
        depth: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        input_hw: tuple[int, int] = (480, 480),
        crops: bool = False,
        embed: bool = False,
    ) -> None:
        self.params = build_params(recipe)
        require_depth(self.params, depth)
        self.input_hw = (int(input_hw[0]), int(input_hw[1]))
        self.crops, self.embed = bool(crops), bool(embed)
        self.features: Extractor = FEATURES.build(features)
        self.depth: Extractor | None = DEPTH.build(depth) if self.params.uses_depth else None
        self._cutter: Any = None

    @staticmethod
    def resolve(config: dict[str, Any]) -> dict[str, Any]:
        """Complete a config: the whole recipe, and no depth source that it does not use.

        Raises:
            ValueError: an unknown preset, parameter or choice.
        """
        params = build_params(complete_stored(config['recipe'] or {}))
        depth = config['depth'] if params.uses_depth else None
        return {**config, 'recipe': asdict(params), 'depth': depth}

    def to(self, device: str) -> PseudoLabelGenerator:
        """Move the networks of the extractors to a device."""
        for extractor in (self.features, self.depth):
            if extractor is not None:
                extractor.to(device)
        return self

    @staticmethod
    def require_on_device(config: dict[str, Any]) -> None:
        """Refuse a config whose images cannot be cut on a device.

        Raises:
            ValueError: a device cannot follow the recipe.
        """
        from cuts3d_mm.algorithm.cut_on_device import require_on_device

        require_on_device(build_params(config.get('recipe')))

    def cut_on(self, device: str) -> None:
        """Let `extract` cut images, too, and refine their masks, on a device.

        Raises:
            ValueError: a device cannot follow the recipe.
        """
        import torch

        from cuts3d_mm.algorithm.cut_on_device import DeviceCutter

        self._cutter = DeviceCutter(self.params, torch.device(device))

    def predict(
        self,
        image: Pixels,
        depth: ArrayLike | None = None,
        larger_is: LargerIs = 'far',
        name: str = '',
    ) -> list[Instance]:
        """Cut the instances out of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            depth: (h, w) of any size and unit, in place of the config's depth source; NaN, inf
                and 0 mean "not measured" and are filled from the nearest value.
            larger_is: 'far' for depth, 'near' for disparity.
            name: path relative to the image folder, by which depth files are found.

        Returns:
            The instances in the order of the cuts.

        Raises:
            ValueError: a wrong shape; the config reads depth from files, and none is given; or
                depth is given to a recipe in 2D.
            ImageFailure: the depth has no valid value, or no solver finds how to cut the image.
        """
        return list(self.explain(image, depth, larger_is, name).instances)

    def explain(
        self,
        image: Pixels,
        depth: ArrayLike | None = None,
        larger_is: LargerIs = 'far',
        name: str = '',
    ) -> ImageCuts:
        """Cut the instances out of one image, as `predict` does, and keep what led to them."""
        check_rgb(image)
        given = self._given(image, depth, larger_is)
        return self.cut(self.extract([NamedImage(name, image, given)])[0])

    def _given(self, image: Pixels, depth: ArrayLike | None, larger_is: LargerIs) -> Float | None:
        check_larger_is(larger_is)
        if depth is None:
            if larger_is != 'far':
                raise ValueError('larger_is says how to read depth, which is not given')
            return None
        if self.depth is None:
            raise ValueError('depth must not be given: the recipe uses none; leave it out')
        values = np.asarray(depth, np.float32)
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f'depth must be (h, w), got shape {values.shape}')
        require_orientation(values.shape, image.shape[:2])
        return finite_depth(values, larger_is, zero_is_invalid=True, source='depth')

    def predict_batch(self, images: Sequence[NamedImage]) -> list[list[Instance]]:
        """Cut the instances out of images whose networks run in one batch.

        Raises:
            ImageFailure: an image has no usable depth, or no solver finds how to cut it.
        """
        return [list(self.cut(image).instances) for image in self.extract(images)]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What follows `extract`, image by image, in any process."""
        steps = {'cut': _cut, 'refine': _refined_instances}
        return tuple(Stage(name, partial(run, params=self.params)) for name, run in steps.items())

    def prepare(self, image: NamedImage) -> NamedImage:
        """Do what needs no network, in any thread: resize the image, read its depth from a file.

        Raises:
            ImageFailure: the file holds no usable depth.
        """
        check_rgb(image.pixels)
        depth, depth_input = image.depth, None
        if self.depth is not None and depth is None:
            if getattr(self.depth, 'reads_files', False):
                (depth,) = self.depth([image])
            elif hasattr(self.depth, 'prepare'):
                depth_input = self.depth.prepare(image.pixels)
        parts = [image.pixels, *(window.of(image.pixels) for window in self._windows(image))]
        resized = tuple(resize_rgb(pixels, self.input_hw) for pixels in parts)
        return replace(image, depth=depth, prepared=PreparedImage(resized, depth_input))

    def _windows(self, image: NamedImage) -> list[Window]:
        return list(corner_windows(image.pixels.shape[:2])) if self.crops else []

    def extract(self, images: Sequence[NamedImage]) -> list[ImageCuts]:
        """Run the extractors on images, and link their patches.

        Raises:
            ImageFailure: an image has no usable depth.
        """
        return self.launch(images)()

    def launch(self, images: Sequence[NamedImage]) -> Callable[[], list[ImageCuts]]:
        """Start what `extract` does; networks on a GPU are not waited for.

        Raises:
            ImageFailure: an image has no usable depth; what is returned may raise it, too.
        """
        images = [self.prepare(one) if one.prepared is None else one for one in images]
        prepared: list[PreparedImage] = [image.prepared for image in images]
        features = self.features([one.resized[0] for one in prepared])
        depths = self._depths(images, isinstance(features[0], np.ndarray))
        sizes = [image.pixels.shape[:2] for image in images]
        resized = [one.resized[0] for one in prepared]
        linked = [self._link(features, depths, resized, sizes, self.embed)]
        for image, depth, ready in zip(images, depths, prepared, strict=True):
            windows, parts = self._windows(image), list(ready.resized[1:])
            if windows:
                of_windows = [None if depth is None else one.of(depth) for one in windows]
                sizes = [one.window_hw for one in windows]
                linked.append(self._link(self.features(parts), of_windows, parts, sizes))

        def wait_for_all() -> list[ImageCuts]:
            return [image for wait in linked for image in wait()]

        wait = wait_for_all if self._cutter is None else self._cutter.start(wait_for_all).result

        def collect() -> list[ImageCuts]:
            found = wait()
            parts = iter(found[len(images) :])
            return [
                replace(
                    cuts, parts=tuple((window, next(parts)) for window in self._windows(image))
                )
                for cuts, image in zip(found[: len(images)], images, strict=True)
            ]

        return collect

    def _link(
        self,
        features: list[Any],
        depths: Sequence[Any],
        resized: Sequence[Pixels],
        sizes: Sequence[tuple[int, ...]],
        embed: bool = False,
    ) -> Callable[[], list[ImageCuts]]:
        similarity: Similarity = getattr(self.features, 'similarity', 'cosine')
        wait_for_links = link_images(features, depths, self.params, similarity)

        def wait() -> list[ImageCuts]:
            try:
                linked = wait_for_links()
            except DepthNotFinite as error:
                raise ImageFailure('the depth model returned NaN or inf') from error
            described = [
                describing_features(self.features, one) if embed else None for one in features
            ]
            return [
                replace(cuts, resized=small, image_hw=(size[0], size[1]), described=found)
                for cuts, small, size, found in zip(linked, resized, sizes, described, strict=True)
            ]

        return wait

    def cut(self, image: ImageCuts) -> ImageCuts:
        """Run the recipe on an image that is linked, and keep what led to the instances.

        Raises:
            ImageFailure: no solver finds how to cut it.
        """
        return _refine(_cut(image, self.params), self.params)

    def _depths(self, images: Sequence[NamedImage], is_waited_for: bool) -> list[Any]:
        """Depth of each image, as arrays if the device is waited for, else also as tensors."""
        if self.depth is None:
            return [None] * len(images)
        without = [image for image in images if image.depth is None]
        launch = None if is_waited_for else getattr(self.depth, 'launch', None)
        estimate: Callable[..., Any] = launch or self.depth
        found = iter(estimate(without) if without else [])
        return [next(found) if image.depth is None else image.depth for image in images]


@dataclass(frozen=True)
class Stage:
    """One step of the work on an image that follows the networks."""

    name: str
    # Takes what the stage before returns, the first one what `extract` makes of an image; the
    # last one returns instances. Can be pickled, needs no network and raises ImageFailure.
    run: Callable[[Any], Any]


def _cut(image: ImageCuts, params: CutParams) -> ImageCuts:
    if image.links is None:
        return image  # a device has cut it
    try:
        return (cut_crops if image.parts else cut_patches)(image, params)
    except NoConvergence as error:
        raise ImageFailure(str(error)) from error


def _refine(image: ImageCuts, params: CutParams) -> ImageCuts:
    cuts = (refine_crops if image.parts else refine_cuts)(image, params)
    if cuts.described is None or not cuts.instances:
        return cuts
    masks, maps = zip(*((one.mask, one.confidence) for one in cuts.instances), strict=True)
    vectors = embed_masks(cuts.described, masks, maps)
    pairs = zip(cuts.instances, vectors, strict=True)
    return replace(cuts, instances=tuple(replace(one, embedding=v) for one, v in pairs))


def _refined_instances(image: ImageCuts, params: CutParams) -> Sequence[Instance]:
    return _refine(image, params).instances

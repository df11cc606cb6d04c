"""Describe instances by the features of their image, for groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.affinity import normalize_features
from cuts3d_mm.algorithm.grouping import embed_masks
from cuts3d_mm.arrays import Float, Mask, Pixels
from cuts3d_mm.images.reading import NamedImage, resize_rgb

from .networks import choose_device, with_precision
from .registry import FEATURES, LABELLERS, fetch_weights


def describing_features(source: Any, features: Any) -> NDArray[np.float16]:
    """Make (h, w, C) features fit to be averaged: of length 1, without places of patches."""
    array = np.asarray(features.float().cpu() if hasattr(features, 'cpu') else features)
    array = array[..., : array.shape[-1] - getattr(source, 'position_channels', 0)]
    if getattr(source, 'similarity', 'cosine') == 'cosine':
        array = normalize_features(array.reshape(-1, array.shape[-1])).reshape(array.shape)
    return array.astype(np.float16)


class Embedder:
    """Describes instances by a feature source, on images brought to `input_hw` pixels."""

    def __init__(self, features: dict[str, Any], input_hw: Sequence[int] = (480, 480)) -> None:
        self.source: Any = FEATURES.build(features)
        self.input_hw = int(input_hw[0]), int(input_hw[1])

    @classmethod
    def of_generator(cls, model: dict[str, Any], device: str = 'auto') -> Embedder:
        """Make what describes instances as a generator sees them, on a device."""
        FEATURES.check(model.get('features'))  # imports torch where a network needs it
        used: dict[str, Any] = {
            key: model[key] for key in ('features', 'input_hw') if key in model
        }
        fetch_weights(used)
        device = choose_device(device)
        embedder = cls(**with_precision(used, device, 'auto'))
        embedder.source.to(device)
        return embedder

    def describe(
        self, pixels: Pixels, masks: Sequence[Mask], confidences: Sequence[Float | None]
    ) -> Float:
        """Describe the masks of one image, (H, W, 3) uint8 RGB, by a vector each, (N, C)."""
        (features,) = self.source([resize_rgb(pixels, self.input_hw)])
        return embed_masks(describing_features(self.source, features), masks, confidences)


@LABELLERS.register_module()
class EmbeddingLabeller:
    """Label images as another labeller does, and describe what it finds.

    Args:
        labeller (dict): Config of the labeller.
        features (dict): Config of a feature source.
        input_hw (tuple[int, int]): Size that images are brought to for the features, in pixels.
            Defaults to (480, 480).
    """

    def __init__(
        self,
        labeller: dict[str, Any],
        features: dict[str, Any],
        input_hw: tuple[int, int] = (480, 480),
    ) -> None:
        self.labeller = LABELLERS.build(labeller)
        self.embedder = Embedder(features, input_hw)

    def to(self, device: str) -> EmbeddingLabeller:
        """Move the networks to a device."""
        self.labeller.to(device)
        self.embedder.source.to(device)
        return self

    def predict_batch(self, images: Sequence[NamedImage]) -> list[list[Any]]:
        """Find the instances of images, each with its embedding."""
        described = []
        for image, found in zip(images, self.labeller.predict_batch(images), strict=True):
            masks, maps = [one.mask for one in found], [one.confidence for one in found]
            vectors = self.embedder.describe(image.pixels, masks, maps) if masks else ()
            pairs = zip(found, vectors, strict=True)
            described.append([replace(one, embedding=vector) for one, vector in pairs])
        return described

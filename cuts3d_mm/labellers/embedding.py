"""Describe instances by the features of their image, for groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from cuts3d_mm.algorithm.grouping import embed_masks
from cuts3d_mm.arrays import Float, Mask, Pixels
from cuts3d_mm.images.reading import resize_rgb

from .networks import choose_device, with_precision
from .registry import FEATURES, fetch_weights


def embed_features(
    source: Any, features: Any, masks: list[Mask], confidences: list[Float | None]
) -> list[bytes]:
    """Describe masks by the patch features of their image, without the position of the patches.

    Args:
        source: feature source that made the features.
        features: (h, w, C) array or tensor.
        masks: (H, W) masks of the image.
        confidences: map of each mask, or None.

    Returns:
        A vector of float16 for each mask, as label stores keep it.
    """
    array = np.asarray(features.cpu() if hasattr(features, 'cpu') else features)
    array = array[..., : array.shape[-1] - getattr(source, 'position_channels', 0)]
    similarity = getattr(source, 'similarity', 'cosine')
    vectors = embed_masks(array, masks, confidences, similarity)
    return [vector.astype('<f2').tobytes() for vector in vectors]


class Embedder:
    """Describes instances by a feature source.

    Args:
        model: config of a generator, whose `features` and `input_hw` are used.
        device: device of the network, if there is one.
    """

    def __init__(self, model: dict[str, Any], device: str = 'auto') -> None:
        FEATURES.check(model.get('features'))
        fetch_weights({'features': model['features']})
        device = choose_device(device)
        used = with_precision({'features': model['features']}, device, 'auto')
        self.source: Any = FEATURES.build(used['features'])
        self.source.to(device)
        self.input_hw: tuple[int, int] = tuple(model.get('input_hw', (480, 480)))

    def describe(
        self, pixels: Pixels, masks: list[Mask], confidences: list[Float | None]
    ) -> list[bytes]:
        """Describe the masks of one image, (H, W, 3) uint8 RGB."""
        (features,) = self.source([resize_rgb(pixels, self.input_hw)])
        return embed_features(self.source, features, masks, confidences)

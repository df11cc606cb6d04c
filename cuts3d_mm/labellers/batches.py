"""Bring images to a device as one normalized batch, and features back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuts3d_mm.arrays import Pixels


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Copy a batch to a device, through pinned memory to a GPU, so that the CPU goes on."""
    if device.type == 'cuda':
        return batch.pin_memory().to(device, non_blocking=True)
    return batch.to(device)


def normalized_batch(
    images: list[Pixels], mean: Tensor, std: Tensor, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Stack images of one size and normalize them on the device.

    Args:
        images: (H, W, 3) uint8 RGB.
        mean: (1, 3, 1, 1) of RGB in [0, 1].
        std: (1, 3, 1, 1) of RGB in [0, 1].
        device: where the batch goes.
        dtype: of the batch.

    Returns:
        (B, 3, H, W).
    """
    pixels = to_device(torch.from_numpy(np.stack(images)), device)
    values = pixels.permute(0, 3, 1, 2).float() / 255
    return ((values - mean.to(device)) / std.to(device)).to(dtype)


def image_features(features: Tensor) -> list[Any]:
    """Features of each image: an array, or on a GPU a tensor that stays there to be linked.

    Args:
        features: (B, h, w, C).

    Returns:
        (h, w, C) float32, one per image.
    """
    features = features.float()
    return list(features.numpy() if features.device.type == 'cpu' else features)

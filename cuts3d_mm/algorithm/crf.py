"""Refine masks along the edges of their image with a fully connected CRF.

Mean-field inference in a fully connected two-label CRF (Kraehenbuehl and Koltun 2011) with
MaskCut's potentials. With two labels the field is one number per pixel, the log odds z, and
the message is a filter of q1 - q0 = tanh(z / 2): one channel per mask, all masks of an image
in one filter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.params import CrfParams
from cuts3d_mm.algorithm.permutohedral import MAX_CHANNELS, Lattice, build_lattice, filter_values
from cuts3d_mm.arrays import Float, Mask


def refine_masks(masks: Mask, image: NDArray[np.uint8], params: CrfParams) -> Mask:
    """Refine the masks of one image.

    Args:
        masks: (M, H, W).
        image: (H, W, 3) uint8 RGB.

    Returns:
        (M, H, W) refined masks.
    """
    if masks.shape[1:] != image.shape[:2] or image.shape[2:] != (3,):
        raise ValueError(
            f'image must have shape {(*masks.shape[1:], 3)} like the masks, got {image.shape}'
        )
    if len(masks) == 0:
        return masks.copy()
    height, width = image.shape[:2]
    kernels = [
        (params.spatial_weight, *_spatial_kernel(height, width, params.spatial_sigma_px)),
        (params.bilateral_weight, *_bilateral_kernel(image, params)),
    ]
    signs = np.where(masks.reshape(len(masks), -1).T, 1, -1).astype(np.float32)
    refined = [
        _mean_field(signs[:, start : start + MAX_CHANNELS], kernels, params)
        for start in range(0, len(masks), MAX_CHANNELS)
    ]
    return np.concatenate(refined, axis=1).T.reshape(masks.shape)


def refine_masks_pydensecrf(masks: Mask, image: NDArray[np.uint8], params: CrfParams) -> Mask:
    """Refine masks as `refine_masks` does, one by one with the library that MaskCut uses."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            "method 'pydensecrf' needs the package: pip install pydensecrf2, "
            "or choose 'permutohedral'"
        ) from error
    height, width = image.shape[:2]
    refined = np.empty_like(masks)
    for index, mask in enumerate(masks):
        field = densecrf.DenseCRF2D(width, height, 2)
        half = params.unary_logit / 2 * np.where(mask.ravel(), 1, -1)
        field.setUnaryEnergy(np.stack([half, -half]).astype(np.float32))
        field.addPairwiseGaussian(params.spatial_sigma_px, params.spatial_weight)
        field.addPairwiseBilateral(
            params.bilateral_sigma_px,
            params.bilateral_sigma_rgb,
            np.array(image, order='C'),  # the library wants a writable buffer
            params.bilateral_weight,
        )
        probability = np.array(field.inference(params.num_iterations))
        refined[index] = (probability[1] > probability[0]).reshape(height, width)
    return refined


def _mean_field(
    signs: Float, kernels: list[tuple[float, Lattice, Float]], params: CrfParams
) -> Mask:
    channels = signs.shape[1]
    width = channels if channels < 3 else MAX_CHANNELS
    unary = np.zeros((len(signs), width), np.float32)
    unary[:, :channels] = params.unary_logit * signs
    logits = unary
    for _ in range(params.num_iterations):
        field = np.tanh(logits * np.float32(0.5))
        logits = unary.copy()
        for weight, lattice, norm in kernels:
            logits += np.float32(weight) * norm * filter_values(lattice, norm * field)
    return logits[:, :channels] > 0


@lru_cache(maxsize=4)
def _spatial_kernel(height: int, width: int, sigma_px: float) -> tuple[Lattice, Float]:
    lattice = build_lattice(_pixel_positions(height, width) / np.float32(sigma_px))
    return lattice, _symmetric_norm(lattice)


def _bilateral_kernel(image: NDArray[np.uint8], params: CrfParams) -> tuple[Lattice, Float]:
    places = _pixel_positions(*image.shape[:2]) / np.float32(params.bilateral_sigma_px)
    colors = image.reshape(-1, 3) / np.float32(params.bilateral_sigma_rgb)
    lattice = build_lattice(np.concatenate([places, colors], axis=1))
    return lattice, _symmetric_norm(lattice)


def _pixel_positions(height: int, width: int) -> Float:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


def _symmetric_norm(lattice: Lattice) -> Float:
    """(P, 1) factor applied before and after a filter: 1 / sqrt(local density)."""
    ones = np.ones((len(lattice.vertices), 1), np.float32)
    return 1 / np.sqrt(filter_values(lattice, ones) + np.float32(1e-20))

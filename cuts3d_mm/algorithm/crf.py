"""Refine masks along the edges of their image with a fully connected CRF.

Mean-field inference in a fully connected two-label CRF (Kraehenbuehl and Koltun 2011) with
MaskCut's potentials.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.algorithm.mean_field import infer_masks, normalize_weights
from cuts3d_mm.algorithm.params import CrfParams
from cuts3d_mm.algorithm.permutohedral import Lattice, build_lattice
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
    refined = infer_masks(
        np.ascontiguousarray(masks.reshape(len(masks), -1), bool),
        params.unary_logit,
        params.num_iterations,
        _spatial_lattice(height, width, params.spatial_sigma_px, params.spatial_weight),
        _bilateral_lattice(image, params),
    )
    return refined.reshape(masks.shape)


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


@lru_cache(maxsize=4)
def _spatial_lattice(height: int, width: int, sigma_px: float, weight: float) -> Lattice:
    positions = _pixel_positions(height, width) / np.float32(sigma_px)
    return normalize_weights(build_lattice(positions), weight)


def _bilateral_lattice(image: NDArray[np.uint8], params: CrfParams) -> Lattice:
    height, width = image.shape[:2]
    positions = np.empty((5, height * width), np.float32)
    positions[:2] = _pixel_positions(height, width)
    positions[:2] /= np.float32(params.bilateral_sigma_px)
    positions[2:] = image.reshape(-1, 3).T
    positions[2:] /= np.float32(params.bilateral_sigma_rgb)
    return normalize_weights(build_lattice(positions), params.bilateral_weight)


def _pixel_positions(height: int, width: int) -> Float:
    """(2, P) column and row of each pixel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns.ravel(), rows.ravel()]).astype(np.float32)

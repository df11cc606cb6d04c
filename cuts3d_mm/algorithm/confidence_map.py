"""A stored confidence map in, the doubt that training works with out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Steps = NDArray[np.uint8]

CONFIDENCE_STEPS = 255  # a stored confidence of 255 is 1.0


def doubt_of_grid(confidence: Steps, extend: bool = False) -> Steps:
    """Turn a confidence map on the patch grid into doubt, 1 - confidence.

    Args:
        confidence: (h, w) in steps of 1/255; 0 where the instance has no confidence.
        extend: whether a patch without confidence takes that of the nearest patch that has
            one. Otherwise it is certain: the weight of Eq. 6 is 1 outside the map.

    Returns:
        (h, w) in steps of 1/255.
    """
    is_known = confidence > 0
    if extend and is_known.any():
        rows, columns = distance_transform_edt(
            ~is_known, return_distances=False, return_indices=True
        )
        return np.asarray(CONFIDENCE_STEPS - confidence[rows, columns], np.uint8)
    return np.where(is_known, CONFIDENCE_STEPS - confidence, 0).astype(np.uint8)

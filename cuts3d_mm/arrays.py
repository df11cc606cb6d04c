"""Name the types of arrays that many modules take and return."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]  # (H, W, 3) RGB where nothing else is said

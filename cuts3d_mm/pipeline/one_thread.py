"""Give this process one thread, so that sums are taken in one order."""

from __future__ import annotations

import sys

import cv2
from threadpoolctl import threadpool_limits


def use_one_thread() -> None:
    """Limit OpenCV, BLAS and, where something has imported it, torch."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    torch = sys.modules.get('torch')  # not imported for its own sake: it takes seconds
    if torch is not None:
        torch.set_num_threads(1)

"""Write the folder that others load the detector from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.engine.runner import build_detector
from cuts3d_mm.hub.publishing import NO_LICENCE, ReleaseFacts, write_release

_NAME = 'owner/name'  # in the model card, until cuts3d publish writes the real one


def release(config: Any, checkpoint: Path, folder: Path) -> None:
    """Write a release of trained weights.

    Args:
        config: of the training.
        checkpoint: at its end.
        folder: to write, which may be there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    expected = build_detector(config).state_dict()
    write_release(str(checkpoint), config, expected, ReleaseFacts(_NAME, {}, NO_LICENCE), folder)

"""`hf://` in MMEngine: `load_from`, `init_cfg`, and wherever else a checkpoint is named."""

from __future__ import annotations

from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from cuts3d_mm.hub.load_weights import load_weights
from cuts3d_mm.hub.location import HUB_PREFIX


@CheckpointLoader.register_scheme(prefixes=HUB_PREFIX, force=True)
def load_from_hub(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load `hf://owner/repo[@revision]/file` for MMEngine, tensors and plain values only.

    Raises:
        ValueError: a malformed location, or a file that could run code.
        HubError: the file cannot be had.
    """
    return dict(load_weights(filename))

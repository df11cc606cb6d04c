"""Turn the config of a detector into that of a labeller."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.digest import digest_weights


def labeller_config(config: Config, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Turn the config of a detector into that of a `DetectorLabeller`.

    Args:
        config: of a training or a test; its `test_dataloader` has the pipeline.
        checkpoint: weights, as for `read_state`.
        options: other arguments of `DetectorLabeller`.

    Raises:
        ValueError: the config is of no detector, or the checkpoint holds no weights.
    """
    if 'model' not in config or 'test_dataloader' not in config:
        raise ValueError('CONFIG must define model and test_dataloader, it does not')
    plain = config.to_dict()
    return {
        'type': 'cuts3d_mm.DetectorLabeller',
        'detector': plain['model'],
        'pipeline': plain['test_dataloader']['dataset']['pipeline'],
        'checkpoint': checkpoint,
        'weights_sha256': digest_weights(read_state(checkpoint).weights),
        **options,
    }

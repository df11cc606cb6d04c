"""Turn the config of a detector into that of a labeller."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config


def check_options(score_thr: float, max_per_image: int) -> None:
    """Check which instances of a detector become labels.

    Raises:
        ValueError: a number out of its range.
    """
    if not 0 <= score_thr <= 1:
        raise ValueError(f'score_thr must lie in [0, 1], got {score_thr}')
    if max_per_image < 1:
        raise ValueError(f'max_per_image must be at least 1, got {max_per_image}')


def labeller_config(config: Config, checkpoint: str, **options: Any) -> dict[str, Any]:
    """Turn the config of a detector into that of a `DetectorLabeller`.

    Args:
        config: of a training or a test; its `test_dataloader` has the pipeline.
        checkpoint: weights, as for `read_state`.
        options: other arguments of `DetectorLabeller`.

    Raises:
        ValueError: the config is of no detector, or the checkpoint holds no weights.
    """
    from cuts3d_mm.weights import read_state  # torch takes seconds
    from cuts3d_mm.weights.digest import digest_weights

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

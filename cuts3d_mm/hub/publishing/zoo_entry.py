"""Write the entry of `configs/cuts3d/metafile.yml` by which the model zoo and mim find weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

COLLECTION, METAFILE = 'CutS3D', 'configs/cuts3d/metafile.yml'


def zoo_entry(config: Path, weights_url: str, scores: dict[str, dict[str, float]]) -> str:
    """Write the entry of a released detector.

    Args:
        config: one that the package ships.
        weights_url: of the checkpoint.
        scores: data set -> metric -> value in [0, 1]; percent in the entry.

    Returns:
        YAML, indented as an item of `Models`.
    """
    results = [
        {
            'Task': 'Instance Segmentation',
            'Dataset': name,
            'Metrics': {metric: round(100 * value, 2) for metric, value in found.items()},
        }
        for name, found in scores.items()
    ]
    entry: dict[str, Any] = {
        'Name': config.stem,
        'In Collection': COLLECTION,
        'Config': f'configs/{config.parent.name}/{config.name}',
        **({'Results': results} if results else {}),
        'Weights': weights_url,
    }
    lines = yaml.safe_dump([entry], sort_keys=False, width=1000).splitlines()
    return ''.join(f'  {line}\n' for line in lines)

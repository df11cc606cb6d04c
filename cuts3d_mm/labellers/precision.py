"""Choose the precision of a generator's networks."""

from __future__ import annotations

import inspect
from typing import Any

from cuts3d_mm.labellers.registry import DEPTH, FEATURES

_PARTS = {'features': FEATURES, 'depth': DEPTH}


def with_precision(model: dict[str, Any], device: str, precision: str) -> dict[str, Any]:
    """Set the precision of the networks that a generator config names.

    Args:
        model: config of a generator.
        device: of the networks.
        precision: 'fp32', 'bf16', or 'auto': bfloat16 on a GPU, float32 on the CPU, and what
            the config says where it says something.

    Raises:
        ValueError: bfloat16 for a config without a network that could use it.
    """
    if precision == 'auto' and device.partition(':')[0] == 'cpu':
        return model
    changes = {}
    for part, registry in _PARTS.items():
        config = model.get(part)
        if config is None or not _takes_half(registry.get(config['type'])):
            continue
        half = config.get('half', True) if precision == 'auto' else precision == 'bf16'
        changes[part] = {**config, 'half': half}
    if precision == 'bf16' and not changes:
        raise ValueError('precision bf16 needs a network, this config has none that can use it')
    return {**model, **changes}


def _takes_half(kind: Any) -> bool:
    return kind is not None and 'half' in inspect.signature(kind).parameters

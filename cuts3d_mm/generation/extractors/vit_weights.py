"""A ViT state dict with DINO, timm or DINOv2 names in, mmpretrain's names out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Applied in order to every name.
_RENAMES = (
    (r'^(module|backbone|teacher|student)\.', ''),
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.(\d+)\.norm1\.', r'layers.\1.ln1.'),
    (r'^blocks\.(\d+)\.norm2\.', r'layers.\1.ln2.'),
    (r'^blocks\.(\d+)\.attn\.', r'layers.\1.attn.'),
    (r'^blocks\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^blocks\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^blocks\.(\d+)\.ls1\.gamma$', r'layers.\1.attn.gamma1.weight'),
    (r'^blocks\.(\d+)\.ls2\.gamma$', r'layers.\1.ffn.gamma2.weight'),
    (r'^norm\.', 'ln1.'),
)
# Parts of the published files that a backbone has no use for.
_UNUSED = re.compile(r'^(mask_token$|head\.|fc_norm\.|register_tokens$)')
_WRAPPERS = ('teacher', 'state_dict', 'model')


def map_vit_keys(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Rename weights to mmpretrain's `VisionTransformer`.

    Args:
        weights: name -> tensor; a wrapper such as `{'teacher': {...}}` is opened.
        expected: state dict of the network they are meant for.

    Raises:
        ValueError: a weight is unknown, missing or of another shape; all are named.
    """
    for wrapper in _WRAPPERS:
        inner: Any = weights.get(wrapper)
        if isinstance(inner, Mapping):
            weights = inner
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        if not _UNUSED.match(name):
            renamed[name] = tensor
    problems = _compare(renamed, expected)
    if problems:
        raise ValueError('checkpoint must fit the ViT, got ' + '; '.join(problems))
    return renamed


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    unknown = sorted(found.keys() - expected.keys())
    missing = sorted(expected.keys() - found.keys())
    misshapen = [
        f'{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}'
        for name in sorted(found.keys() & expected.keys())
        if found[name].shape != expected[name].shape
    ]
    kinds = {'unknown': unknown, 'missing': missing, 'misshapen': misshapen}
    return [f'{kind}: {", ".join(names)}' for kind, names in kinds.items() if names]

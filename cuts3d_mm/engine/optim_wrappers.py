"""Optimizer wrappers that clip the gradient of each parameter alone, as CutLER does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from cuts3d_mm.registry import OPTIM_WRAPPERS

_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_ adds it to a norm
_AMP_TYPES = {
    'OptimWrapper': 'AmpOptimWrapper',
    'cuts3d_mm.PerParameterClipOptimWrapper': 'cuts3d_mm.AmpPerParameterClipOptimWrapper',
}


def clip_each(gradients: Sequence[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale every gradient whose norm exceeds `max_norm` down to it, in place.

    A global clip scales all gradients by one factor, so that a few large gradients shrink the
    rest; here each gradient has a factor of its own.

    Args:
        gradients: gradients of the parameters, any shapes.
        max_norm: largest norm that a gradient keeps.
        norm_type: p of the p-norm.

    Returns:
        Norms before the clip, (number of gradients,).
    """
    gradients = list(gradients)
    # One kernel for many tensors, in place of several for each.
    norms = torch.stack(torch._foreach_norm(gradients, norm_type))
    factors = (max_norm / (norms + _EPS)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factors.tolist())
    return norms


def require_amp(config: Config) -> None:
    """Change the optimizer wrapper of a config to its twin that trains in mixed precision."""
    wrapper = config.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind in _AMP_TYPES.values():
        return
    if kind not in _AMP_TYPES:
        raise ValueError(
            f'--amp needs optim_wrapper.type to be one of {list(_AMP_TYPES)}, got {kind}'
        )
    wrapper.type = _AMP_TYPES[kind]
    wrapper.setdefault('loss_scale', 'dynamic')


class _PerParameterClip(OptimWrapper):
    """Optimizer wrapper whose clip works on each parameter instead of on all together."""

    def __init__(self, *args: Any, clip_grad: dict[str, Any], **kwargs: Any) -> None:
        unknown = set(clip_grad) - {'max_norm', 'norm_type'}
        if 'max_norm' not in clip_grad or unknown:
            raise ValueError(
                f'clip_grad must be dict(max_norm=..., norm_type=2), got {dict(clip_grad)}'
            )
        super().__init__(*args, clip_grad=clip_grad, **kwargs)

    def _clip_grad(self: Any) -> None:
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group['params']]
        gradients = [p.grad for p in parameters if p.requires_grad and p.grad is not None]
        if not gradients:
            return
        norms = clip_each(gradients, **self.clip_grad_kwargs)
        total = torch.linalg.vector_norm(norms, self.clip_grad_kwargs.get('norm_type', 2.0))
        self.message_hub.update_scalar('train/grad_norm', float(total))


@OPTIM_WRAPPERS.register_module()
class PerParameterClipOptimWrapper(_PerParameterClip):
    """`mmengine.OptimWrapper` whose `clip_grad` bounds the gradient of each parameter.

    So does detectron2's clipping of type `norm`, with which CutLER trains; MMEngine bounds the
    norm of all gradients together. The log's `grad_norm` is the norm of all gradients together,
    before the clip.

    Args:
        clip_grad (dict): `max_norm`, the largest norm of a gradient, and `norm_type`, the p of
            the p-norm (2 if left out).

    All other arguments are those of `mmengine.OptimWrapper`.
    """


@OPTIM_WRAPPERS.register_module()
class AmpPerParameterClipOptimWrapper(_PerParameterClip, AmpOptimWrapper):
    """`mmengine.AmpOptimWrapper` whose `clip_grad` bounds the gradient of each parameter.

    Gradients are divided by the loss scale before they are clipped.

    Args:
        clip_grad (dict): `max_norm`, the largest norm of a gradient, and `norm_type`, the p of
            the p-norm (2 if left out).

    All other arguments are those of `mmengine.AmpOptimWrapper`.
    """

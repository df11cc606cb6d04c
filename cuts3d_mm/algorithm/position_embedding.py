"""Bring the position embeddings of a vision transformer to another grid of patches."""

from __future__ import annotations

from torch import Tensor, cat
from torch.nn.functional import interpolate


def interpolate_positions(
    positions: Tensor, trained_hw: tuple[int, int], grid_hw: tuple[int, int], offset: float
) -> Tensor:
    """Interpolate position embeddings bicubically, as DINO does where the offset is 0.1.

    Patch i of a side of n lies at (i + 0.5) * s / (n + offset) - 0.5 on the trained grid, whose
    side has s patches. The embeddings of other tokens are kept.

    Args:
        positions: (1, E + s_h * s_w, C), those of E other tokens first.
        trained_hw: (s_h, s_w).
        grid_hw: (h, w), the new grid; the trained one gives the embeddings back.
        offset: patches added to the sides of the new grid.

    Returns:
        (1, E + h * w, C) in the type of the input.
    """
    if tuple(grid_hw) == tuple(trained_hw):
        return positions
    num_others = positions.shape[1] - trained_hw[0] * trained_hw[1]
    if num_others < 0:
        raise ValueError(
            f'positions must hold at least {trained_hw[0]} x {trained_hw[1]} patches, '
            f'got {positions.shape[1]}; check img_size and patch_size of the backbone'
        )
    others, patches = positions[:, :num_others], positions[:, num_others:]
    # (1, s_h * s_w, C) -> (1, C, s_h, s_w)
    grid = patches.float().reshape(1, *trained_hw, -1).permute(0, 3, 1, 2)
    if offset:
        scale = tuple((n + offset) / s for n, s in zip(grid_hw, trained_hw, strict=True))
        resized = interpolate(grid, scale_factor=scale, mode='bicubic')
    else:
        resized = interpolate(grid, size=grid_hw, mode='bicubic')
    return cat([others, resized.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)

"""Hooks of training."""

from cuts3d_mm.engine.hooks.iteration_seed import IterationSeedHook
from cuts3d_mm.engine.hooks.precise_bn import PreciseBNHook

__all__ = ['IterationSeedHook', 'PreciseBNHook']

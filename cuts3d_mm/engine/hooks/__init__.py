"""Hooks of training."""

from cuts3d_mm.engine.hooks.iteration_seed import IterationSeedHook

__all__ = ['IterationSeedHook']

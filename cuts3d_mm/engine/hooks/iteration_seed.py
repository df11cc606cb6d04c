"""Seed every iteration, so that a resumed training repeats an uninterrupted one."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from cuts3d_mm.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed the random samplers of the model in every iteration.

    A checkpoint holds no state of random generators, so that a resumed run would sample other
    boxes than an uninterrupted one. With seeds made of the run's seed, the rank and the
    iteration there is no state to hold.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch, NumPy and Python."""
        entropy = (int(runner.seed), get_rank(), int(runner.iter))
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)

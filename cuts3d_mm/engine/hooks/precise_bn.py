"""Measure batch norm statistics before a detector is saved or labels images."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from cuts3d_mm.engine.precise_bn import measure_norms, separate_batches
from cuts3d_mm.engine.self_training import SelfTrainingLoop
from cuts3d_mm.registry import HOOKS


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Measure the statistics of all batch norms of backbone and neck, as CutLER does.

    Runs after the last iteration and after the last iteration before each round of
    `SelfTrainingLoop`, before the checkpoint is saved. The training is the same with it and
    without it.

    Args:
        num_iters (int): Batches of each rank. Defaults to 200, as CutLER.
    """

    priority = 'LOW'  # before the checkpoint

    def __init__(self, num_iters: int = 200) -> None:
        if num_iters < 1:
            raise ValueError(f'num_iters must be at least 1, got {num_iters}')
        self.num_iters = num_iters

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure if this iteration is one of those to measure after."""
        if runner.iter + 1 not in self._due(runner):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        seed = int(np.random.SeedSequence((runner.seed, runner.iter)).generate_state(1)[0])
        with separate_batches(runner.train_loop.dataloader, seed) as batches:
            names = measure_norms(model, batches, self.num_iters)
        runner.logger.info(f'{len(names)} norms measured over {self.num_iters} batches')

    @staticmethod
    def _due(runner: Any) -> set[int]:
        loop = runner.train_loop
        begins = loop.begins if isinstance(loop, SelfTrainingLoop) else []
        return {runner.max_iters, *begins}

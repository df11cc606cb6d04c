"""Hooks for training: precise batch norm statistics, a seed per iteration, finite losses."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, reduce
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from cuts3d_mm.datasets.samplers import SeededInfiniteSampler
from cuts3d_mm.registry import HOOKS

from .self_training import SelfTrainingHook


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Measure the statistics of all batch norms of backbone and neck, as CutLER does.

    Runs after the last iteration and after the last iteration before each round of
    `SelfTrainingHook`, before the checkpoint is saved. The hook changes no weight and no
    random number of the training.

    Args:
        num_iters (int): Batches that each rank measures on. Defaults to 200, as CutLER.
    """

    priority = 'LOW'  # before the checkpoint

    def __init__(self, num_iters: int = 200) -> None:
        if num_iters < 1:
            raise ValueError(f'num_iters must be at least 1, got {num_iters}')
        self.num_iters = num_iters

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure after the last iteration, and after the last before each round."""
        loop = runner.train_loop
        rounds = [one.begins for one in runner.hooks if isinstance(one, SelfTrainingHook)]
        if runner.iter + 1 not in chain([runner.max_iters], *rounds):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        seed = int(np.random.SeedSequence((runner.seed, runner.iter)).generate_state(1)[0])
        with separate_batches(loop.dataloader, seed) as batches:
            names = measure_norms(model, batches, self.num_iters)
        runner.logger.info(f'{len(names)} norms measured over {self.num_iters} batches')


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed the random samplers of the model in every iteration.

    A checkpoint holds no state of random generators, so a resumed run would sample other boxes
    than an uninterrupted run. Seeds made of the run's seed, the rank and the iteration need no
    stored state.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch, NumPy and Python."""
        entropy = (int(runner.seed), get_rank(), int(runner.iter))
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """End a training whose loss stays NaN or infinite, and name the images where it began.

    Args:
        num_iters (int): Steps in a row whose loss may not be finite before the training ends.
            Mixed precision skips single steps of that kind. Defaults to 5.
    """

    def __init__(self, num_iters: int = 5) -> None:
        if num_iters < 1:
            raise ValueError(f'num_iters must be at least 1, got {num_iters}')
        self.num_iters = num_iters
        self._in_a_row = 0
        self._first = ''  # step, losses and images where it began

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look at the losses of the step.

        Raises:
            FloatingPointError: no loss was finite for `num_iters` steps in a row.
        """
        losses = {
            key: float(torch.as_tensor(one).detach())
            for key, one in (outputs or {}).items()
            if 'loss' in key
        }
        if all(map(math.isfinite, losses.values())):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row == 1:
            bad = ', '.join(key for key, loss in losses.items() if not math.isfinite(loss))
            images = ', '.join(_image_paths(data_batch)) or 'that the batch does not name'
            self._first = f'first in step {runner.iter + 1} ({bad}) with the images {images}'
        if self._in_a_row >= self.num_iters:
            raise FloatingPointError(
                f'the loss must be finite, it was not for {self._in_a_row} steps in a row, '
                f'{self._first}; look at their labels, and lower the learning rate if they are '
                'right'
            )


def _image_paths(batch: Any) -> list[str]:
    """Find the paths of the images of a batch, however its samples are nested."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)):
        return [path for part in batch for path in _image_paths(part)]
    path = getattr(batch, 'img_path', None)
    return [str(path)] if path else []


def _moments_of(values: Tensor) -> Tensor:
    """Count, mean and population variance of each channel of (N, C, ...): (3, C) float64."""
    dims = [dim for dim in range(values.dim()) if dim != 1]
    variance, mean = torch.var_mean(values.float(), dim=dims, correction=0)
    count = torch.full_like(mean, values.numel() // values.shape[1], dtype=torch.float64)
    return torch.stack([count, mean.double(), variance.double()])


def _join_moments(first: Tensor, second: Tensor) -> Tensor:
    """Join the moments of two disjoint sets of values, by the law of total variance."""
    count = first[0] + second[0]
    share = second[0] / count
    step = second[1] - first[1]
    between = share * (1 - share) * step**2
    within = (1 - share) * first[2] + share * second[2]
    return torch.stack([count, first[1] + share * step, within + between])


def measure_norms(model: Any, batches: Iterable[Any], num_batches: int) -> list[str]:
    """Set running means and variances to the moments of many batches; return the norms' names.

    While a norm trains, its running statistics average the last few batches, most of which were
    computed with earlier weights. Here the present weights give the statistics, over all
    values of `num_batches` batches of every rank. Batches pass `extract_feat` only; norms that it
    does not use, and norms in evaluation mode, stay as they are.

    Raises:
        ValueError: there are fewer batches than `num_batches`.
    """
    norms: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    }
    measured: dict[str, Tensor] = {}

    def record(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments = _moments_of(inputs[0])
        measured[name] = _join_moments(measured[name], moments) if name in measured else moments

    handles = [
        norm.register_forward_pre_hook(partial(record, name)) for name, norm in norms.items()
    ]
    for norm in norms.values():
        norm.track_running_stats = False  # normalise by the batch, as in training
    done = 0
    try:
        with torch.no_grad():
            for batch in islice(batches, num_batches):
                model.extract_feat(model.data_preprocessor(batch, True)['inputs'])
                done += 1
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms.values():
            norm.track_running_stats = True
    if done < num_batches:
        raise ValueError(f'the data must give {num_batches} batches, got {done}')
    for name, moments in measured.items():
        _, mean, variance = reduce(_join_moments, all_gather(moments))
        norms[name].running_mean.copy_(mean)
        norms[name].running_var.copy_(variance)
    return list(measured)


@contextmanager
def separate_batches(dataloader: Any, seed: int) -> Iterator[Iterator[Any]]:
    """Draw training batches in an order of their own, without an effect on the training.

    The data loader is not advanced; afterwards the random generators of this process have the
    state that they had before.
    """
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loader = DataLoader(
            dataloader.dataset,
            batch_size=dataloader.batch_size or dataloader.batch_sampler.batch_size,
            sampler=SeededInfiniteSampler(dataloader.dataset, seed=seed),
            num_workers=dataloader.num_workers,
            collate_fn=dataloader.collate_fn,
            worker_init_fn=dataloader.worker_init_fn,
        )
        try:
            yield iter(loader)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

"""Statistics of batch norms over many batches, and that the training does not notice."""

from __future__ import annotations

import copy
import os
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from helpers.commands import exit_code_of, light_environment, start_fork
from helpers.tiny_detectors import ToyDetector, loader_of, measure_on_rank
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import multiprocessing

from cuts3d_mm.engine.hooks import (
    FiniteLossHook,
    IterationSeedHook,
    PreciseBNHook,
    measure_norms,
    separate_batches,
)
from cuts3d_mm.engine.runner import build_runner
from cuts3d_mm.engine.self_training import SelfTrainingHook


def batches_of(count, seed=3):
    iterator = iter(loader_of(seed=seed))
    return [next(iterator) for _ in range(count)]


def oracle(model, batches):
    """Mean and variance of all that enters `neck`, written out in float64."""
    values = []
    for batch in batches:
        for one in batch:
            x = torch.nn.functional.batch_norm(one[None] * 0.1, torch.zeros(3), torch.ones(3))
            x = model.backbone[0](x)
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            norm = model.backbone[1]
            x = (x - mean) / (variance + norm.eps).sqrt()
            x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
            values.append(model.backbone[2](x).detach().double()[0].flatten(1))
    everything = torch.cat(values, dim=1)
    mean = everything.sum(dim=1) / everything.shape[1]
    variance = ((everything - mean[:, None]) ** 2).sum(dim=1) / everything.shape[1]
    return mean, variance


def test_statistics_are_those_of_all_values_of_all_batches():
    model = ToyDetector().train()
    names = measure_norms(model, batches_of(7), 7)
    mean, variance = oracle(model, batches_of(7))
    assert names == ['backbone.1', 'neck']
    assert torch.allclose(model.neck.running_mean.double(), mean, atol=1e-6)
    assert torch.allclose(model.neck.running_var.double(), variance, rtol=1e-5)


def test_nothing_else_of_the_model_changes():
    model = ToyDetector().train()
    before = copy.deepcopy(model.state_dict())
    measure_norms(model, batches_of(3), 3)
    changed = {
        name for name, one in model.state_dict().items() if not torch.equal(one, before[name])
    }
    assert changed == {
        f'{norm}.running_{what}' for norm in ('backbone.1', 'neck') for what in ('mean', 'var')
    }
    assert all(one.track_running_stats for one in model.modules() if hasattr(one, 'running_mean'))


def test_too_few_batches_are_an_error_and_change_nothing():
    model = ToyDetector().train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match='must give 5 batches, got 3'):
        measure_norms(model, batches_of(3), 5)
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_batches_are_seeded_and_leave_the_random_generators_alone(num_workers):
    torch.manual_seed(5), np.random.seed(5)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    drawn = []
    for seed in (1, 1, 2):
        with separate_batches(loader_of(num_workers), seed) as batches:
            drawn.append([one.sum().item() for one in next(batches)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tolist() == state[1]


class Rounds(SelfTrainingHook):
    """A round that begins after 3 iterations and changes nothing."""

    def __init__(self):
        self.begins = [3]

    def begin_round(self, *args, **kwargs):
        pass

    before_train = after_load_checkpoint = begin_round


class Watch(Hook):
    """Notes losses, and the neck's mean after each iteration; dies where it is told to."""

    priority = 'VERY_LOW'

    def __init__(self, dies_at):
        self.dies_at = dies_at
        self.losses, self.means = {}, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses[runner.iter + 1] = outputs['loss'].item()
        self.means[runner.iter + 1] = runner.model.neck.running_mean.clone()
        if runner.iter + 1 == self.dies_at:
            raise KeyboardInterrupt


def train(work_dir, *, num_workers=0, precise=True, dies_at=None, resume=False):
    """Train the toy for 6 iterations."""
    model, watch = ToyDetector(), Watch(dies_at)
    runner = Runner(
        model,
        str(work_dir),
        train_dataloader=loader_of(num_workers),
        train_cfg={'type': IterBasedTrainLoop, 'max_iters': 6, 'val_interval': 100},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 4},
            'logger': None,
            'sampler_seed': None,
        },
        custom_hooks=[IterationSeedHook(), Rounds(), watch]
        + [PreciseBNHook(num_iters=5)] * precise,
        randomness={'seed': 7},
        resume=resume,
        experiment_name=f'toy_{work_dir.parent.name}_{work_dir.name}_{resume}',
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        assert dies_at
    return model, watch


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [0, 1])
def test_order_and_losses_of_the_training_are_the_same_with_and_without_it(num_workers, tmp_path):
    precise, watch = train(tmp_path / 'with', num_workers=num_workers)
    plain, plain_watch = train(tmp_path / 'without', num_workers=num_workers, precise=False)
    assert precise.seen == plain.seen and len(plain.seen) == 6
    assert watch.losses == plain_watch.losses
    trained = [torch.cat([p.flatten() for p in model.parameters()]) for model in (precise, plain)]
    assert torch.equal(*trained)
    differing = [n for n in watch.means if not torch.equal(watch.means[n], plain_watch.means[n])]
    assert differing == [3, 4, 5, 6]  # measured after 3, when a round begins, and after the last


def test_the_last_checkpoint_holds_measured_statistics(tmp_path):
    model, _ = train(tmp_path)
    saved = torch.load(tmp_path / 'iter_6.pth', weights_only=False)['state_dict']
    assert torch.equal(saved['neck.running_var'], model.neck.running_var)
    expected = ToyDetector()
    expected.load_state_dict(saved)
    seed = int(np.random.SeedSequence((7, 5)).generate_state(1)[0])
    measure_norms(expected.train(), batches_of(5, seed), 5)
    assert torch.allclose(model.neck.running_var, expected.neck.running_var)


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path):
    whole, watch = train(tmp_path / 'whole')
    train(tmp_path / 'killed', dies_at=5)
    resumed, later = train(tmp_path / 'killed', resume=True)
    assert later.losses == {step: watch.losses[step] for step in (5, 6)}
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())


@pytest.mark.slow
def test_two_ranks_agree_and_count_what_both_saw(tmp_path):
    arguments = str(tmp_path / 'store'), str(tmp_path)
    if torch.__version__ < (2, 6):
        # Fresh processes: with torch 2.1 forked ones may wait for each other without end.
        with patch.dict(os.environ, light_environment()):
            multiprocessing.spawn(measure_on_rank, arguments, nprocs=2)
    else:
        forks = [start_fork(measure_on_rank, rank, *arguments) for rank in (0, 1)]
        assert [exit_code_of(fork) for fork in forks] == [0, 0]
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in (0, 1))
    assert torch.equal(first[1], second[1]) and torch.equal(first[2], second[2])
    mean, variance = oracle(ToyDetector(), first[0] + second[0])
    assert torch.allclose(first[1].double(), mean, atol=1e-6)
    assert torch.allclose(first[2].double(), variance, rtol=1e-5)


def losses_of(*losses, num_iters=3):
    """What a hook does with such losses; a batch of two images for each of them."""
    hook = FiniteLossHook(num_iters)
    for index, loss in enumerate(losses):
        samples = [DetDataSample(metainfo={'img_path': f'{index}/{n}.png'}) for n in range(2)]
        outputs = {'loss': torch.tensor(loss), 's0.loss_mask': torch.tensor(loss)}
        hook.after_train_iter(
            SimpleNamespace(iter=index), index, {'data_samples': samples}, outputs
        )


def test_a_loss_that_stays_not_finite_ends_the_training_and_names_the_images_of_the_batch():
    with pytest.raises(FloatingPointError) as ended:
        losses_of(1.0, float('nan'), float('inf'), float('nan'), 1.0)
    assert str(ended.value) == (
        'the loss must be finite, it was not for 3 steps in a row, first in step 2 (loss, '
        's0.loss_mask) with the images 1/0.png, 1/1.png; look at their labels, and lower the '
        'learning rate if they are right'
    )


def test_a_loss_that_is_finite_again_does_not_end_the_training():
    losses_of(float('nan'), float('inf'), 1.0, float('nan'), float('nan'))
    with pytest.raises(ValueError, match='num_iters must be at least 1, got 0'):
        FiniteLossHook(0)


def test_every_training_has_the_hook_once(tmp_path):
    config = Config(
        {
            'model': {'type': ToyDetector},
            'work_dir': str(tmp_path),
            'launcher': 'none',
            'custom_hooks': [{'type': 'cuts3d_mm.FiniteLossHook', 'num_iters': 7}],
        }
    )
    for hooks in (config.custom_hooks, None):
        config.custom_hooks = hooks
        runner = build_runner(copy.deepcopy(config))
        found = [hook for hook in runner.hooks if isinstance(hook, FiniteLossHook)]
        assert [hook.num_iters for hook in found] == ([7] if hooks else [5])

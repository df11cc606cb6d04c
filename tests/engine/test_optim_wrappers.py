"""Gradient clipping of each parameter, as CutLER trains."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers.tiny_detectors import batch_of, tiny_config
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.config import Config
from torch import nn

from cuts3d_mm.engine.optim_wrappers import clip_each, require_amp
from cuts3d_mm.registry import MODELS

PLAIN = 'cuts3d_mm.PerParameterClipOptimWrapper'
AMP = 'cuts3d_mm.AmpPerParameterClipOptimWrapper'


def gradients_of(norms):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(3, 4 + number, generator=generator) for number in range(len(norms))]
    return [one * (norm / one.norm()) for one, norm in zip(drawn, norms, strict=True)]


def test_only_gradients_above_the_bound_are_scaled_each_by_its_own_factor():
    gradients = gradients_of([50.0, 0.5, 1.5, 0.0])
    before = copy.deepcopy(gradients)
    norms = clip_each(gradients, 1.0)
    assert norms.tolist() == pytest.approx([50.0, 0.5, 1.5, 0.0])
    assert [one.norm().item() for one in gradients] == pytest.approx([1, 0.5, 1, 0], abs=1e-5)
    assert torch.equal(gradients[1], before[1]) and torch.equal(gradients[3], before[3])
    assert torch.allclose(gradients[0] * 50, before[0], rtol=1e-4)


@pytest.mark.parametrize('norm_type', [1.0, 2.0, float('inf')])
def test_each_parameter_is_clipped_as_torch_clips_it_alone(norm_type):
    gradients = gradients_of([30.0, 2.0, 0.1])
    expected = copy.deepcopy(gradients)
    for one in expected:
        parameter = nn.Parameter(torch.zeros_like(one))
        parameter.grad = one
        nn.utils.clip_grad_norm_(parameter, 1.0, norm_type)
    clip_each(gradients, 1.0, norm_type)
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-6)


def wrapper_of(kind, model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    config = {'type': kind, 'optimizer': optimizer, 'clip_grad': {'max_norm': 1.0}, **options}
    return OPTIM_WRAPPERS.build(config)


def steps_of(model, before):
    pairs = zip(before, model.parameters(), strict=True)
    return [(old - new).norm().item() for old, new in pairs]


def update(wrapper, model):
    before = [one.detach().clone() for one in model.parameters()]
    x = torch.tensor([[3.0, -2.0, 1.0]])
    # One gradient far above 1, one far below.
    wrapper.update_params(100 * model[0](x).sum() + 1e-3 * model[1](x).sum())
    return steps_of(model, before)


def test_a_large_gradient_does_not_shrink_the_small_ones():
    model = nn.ModuleList([nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)])
    large, small = update(wrapper_of(PLAIN, model), model)
    assert large == pytest.approx(1.0, abs=1e-4)
    assert small == pytest.approx(1e-3 * 14**0.5, rel=1e-3)
    model_of_stock = copy.deepcopy(model)
    _, shrunk = update(wrapper_of('OptimWrapper', model_of_stock), model_of_stock)
    assert shrunk < small / 300  # what a global clip does


class _Scaler:
    """What a GPU's gradient scaler does, without a GPU."""

    def scale(self, loss):
        return loss * 1024

    def unscale_(self, optimizer):
        for group in optimizer.param_groups:
            for parameter in group['params']:
                parameter.grad /= 1024

    def step(self, optimizer):
        optimizer.step()

    def update(self, new_scale):
        pass


def test_gradients_are_divided_by_the_loss_scale_before_they_are_clipped(monkeypatch):
    amp = pytest.importorskip('mmengine.optim.optimizer.amp_optimizer_wrapper')
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', _Scaler)
    model = nn.ModuleList([nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)])
    plain = copy.deepcopy(model)
    assert update(wrapper_of(AMP, model), model) == pytest.approx(
        update(wrapper_of(PLAIN, plain), plain), rel=1e-5
    )


@pytest.mark.parametrize('clip_grad', [{}, {'max_norm': 1.0, 'type': 'value'}])
def test_another_kind_of_clipping_is_refused(clip_grad):
    with pytest.raises(ValueError, match='clip_grad must be'):
        wrapper_of(PLAIN, nn.Linear(2, 2), clip_grad=clip_grad)


@pytest.mark.parametrize(
    'kind, expected', [('OptimWrapper', 'AmpOptimWrapper'), (PLAIN, AMP), (AMP, AMP)]
)
def test_mixed_precision_keeps_the_kind_of_clipping(kind, expected):
    config = Config({'optim_wrapper': {'type': kind}})
    require_amp(config)
    assert config.optim_wrapper.type == expected


def test_mixed_precision_of_an_unknown_wrapper_is_refused():
    with pytest.raises(ValueError, match='--amp needs'):
        require_amp(Config({'optim_wrapper': {'type': 'DeepSpeedOptimWrapper'}}))


def test_no_parameter_of_the_tiny_detector_steps_further_than_the_bound():
    torch.manual_seed(0)
    model = MODELS.build(tiny_config().model).train()
    wrapper = wrapper_of(PLAIN, model)
    inputs, samples = batch_of((2, 1), np.random.default_rng(0))
    total, _ = model.parse_losses(model.loss(inputs, samples))
    before = [one.detach().clone() for one in model.parameters()]
    total.backward()
    norms = [one.grad.norm().item() for one in model.parameters()]
    wrapper.step()
    assert any(norm > 1 for norm in norms)
    expected = [min(norm, 1.0) for norm in norms]
    assert steps_of(model, before) == pytest.approx(expected, rel=1e-3, abs=1e-5)

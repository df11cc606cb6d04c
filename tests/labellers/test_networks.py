from __future__ import annotations

import pytest

from cuts3d_mm.labellers.networks import with_precision

EMBEDDED = {
    'type': 'cuts3d_mm.PseudoLabelGenerator',
    'features': {'type': 'cuts3d_mm.ColorTextureFeatures'},
    'depth': {'type': 'cuts3d_mm.DepthFromFile', 'root': 'depth'},
}
NETWORKS = {
    **EMBEDDED,
    'features': {'type': 'cuts3d_mm.ViTKeyFeatures', 'backbone': {}},
    'depth': {'type': 'cuts3d_mm.HFDepth', 'model': 'owner/repo'},
}


def halves(model):
    return model['features'].get('half'), model['depth'].get('half')


def test_features_run_in_bfloat16_on_a_gpu_and_depth_in_float32_unless_the_config_says_otherwise():
    assert halves(with_precision(NETWORKS, 'cuda:1', 'auto')) == (True, False)
    exact = {**NETWORKS, 'features': {**NETWORKS['features'], 'half': False}}
    assert halves(with_precision(exact, 'cuda', 'auto')) == (False, False)
    half_depth = {**NETWORKS, 'depth': {**NETWORKS['depth'], 'half': True}}
    assert halves(with_precision(half_depth, 'cuda', 'auto')) == (True, True)
    assert halves(with_precision(half_depth, 'cuda', 'bf16')) == (True, True)
    for cpu in ('cpu', 'cpu:0'):
        assert with_precision(NETWORKS, cpu, 'auto') is NETWORKS


def test_a_precision_that_is_asked_for_overrides_the_config():
    half = {**NETWORKS, 'features': {**NETWORKS['features'], 'half': True}}
    assert halves(with_precision(half, 'cuda', 'fp32')) == (False, False)
    assert halves(with_precision(NETWORKS, 'cpu', 'bf16')) == (True, False)
    half_depth = {**NETWORKS, 'depth': {**NETWORKS['depth'], 'half': True}}
    assert halves(with_precision(half_depth, 'cuda', 'fp32')) == (False, False)


def test_only_networks_have_a_precision():
    assert with_precision(EMBEDDED, 'cuda', 'auto') == EMBEDDED
    with pytest.raises(ValueError, match='needs features by a network'):
        with_precision(EMBEDDED, 'cpu', 'bf16')

from __future__ import annotations

import pytest

from cuts3d_mm.labellers.precision import with_precision

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


def test_networks_run_in_bfloat16_on_a_gpu_unless_the_config_says_otherwise():
    assert halves(with_precision(NETWORKS, 'auto', 'cuda:1')) == (True, True)
    exact = {**NETWORKS, 'features': {**NETWORKS['features'], 'half': False}}
    assert halves(with_precision(exact, 'auto', 'cuda')) == (False, True)
    assert with_precision(NETWORKS, 'auto', 'cpu') is NETWORKS


def test_a_precision_that_is_asked_for_overrides_the_config():
    half = {**NETWORKS, 'features': {**NETWORKS['features'], 'half': True}}
    assert halves(with_precision(half, 'fp32', 'cuda')) == (False, False)
    assert halves(with_precision(NETWORKS, 'bf16', 'cpu')) == (True, True)


def test_only_networks_have_a_precision():
    assert with_precision(EMBEDDED, 'auto', 'cuda') == EMBEDDED
    with pytest.raises(ValueError, match='needs a network'):
        with_precision(EMBEDDED, 'bf16', 'cpu')

from __future__ import annotations

from dataclasses import asdict

import pytest

from cuts3d_mm.algorithm.params import PRESETS, RANGES, CutParams, params_from_dict


def test_nested_dicts_change_only_what_they_name():
    params = params_from_dict(CutParams, {'local_cut': {'tau_knn': 0.05}, 'max_instances': 5})
    assert params.local_cut.tau_knn == 0.05 and params.max_instances == 5
    assert params.local_cut.num_neighbors == CutParams().local_cut.num_neighbors


def test_fields_left_out_come_from_the_base():
    params = params_from_dict(CutParams, {'refine': {'method': 'none'}}, base=CutParams.maskcut())
    assert params.refine.resize == 'bicubic' and params.local_cut is None


def test_parts_can_be_switched_off():
    assert params_from_dict(CutParams, {'importance': None}).importance is None
    assert params_from_dict(CutParams, {'max_instances': None}).max_instances is None


def test_each_maskcut_quirk_can_be_switched():
    assert CutParams.maskcut(remove_rejected=True).remove_rejected


def test_rejected_cuts_that_neither_count_nor_go_are_refused():
    with pytest.raises(ValueError, match='count_rejected must be True'):
        CutParams(remove_rejected=False)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'tau': 1}, 'tau is not a parameter; known: max_instances'),
        ({'local_cut': {'tau': 1}}, 'local_cut.tau is not a parameter'),
        ({'local_cut': {'capacity': 'x'}}, 'local_cut.capacity must be one of'),
        ({'local_cut': {'tau_knn': 'x'}}, "local_cut.tau_knn must be of type float, got 'x'"),
        ({'max_instances': 2.5}, 'max_instances must be of type int'),
        ({'remove_rejected': 1}, 'remove_rejected must be of type bool'),
        ({'min_area_ratio': None}, 'min_area_ratio must be of type float, got None'),
        ({'local_cut': 3}, 'local_cut must be a dict'),
        ({'max_instances': 0}, 'max_instances must be at least 1 and finite, got 0'),
        ({'local_cut': {'tau_knn': -1}}, 'local_cut.tau_knn must be above 0 and finite, got -1'),
        ({'local_cut': {'tau_knn': float('nan')}}, 'above 0 and finite, got nan'),
        ({'importance': {'beta': 1}}, r'importance.beta must lie in \[0, 1\), got 1'),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        params_from_dict(CutParams, values)


def test_every_number_but_the_coefficients_of_the_score_has_a_range():
    def numbers(part, where=''):
        for name, value in asdict(part).items():
            if isinstance(value, dict):
                yield from numbers(getattr(part, name), f'{where}{name}.')
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield where + name

    free = set(numbers(CutParams())) - RANGES.keys()
    assert len(free) == 8 and all(one.startswith('score.') for one in free)
    assert not RANGES.keys() - set(numbers(CutParams()))


MASKCUT = {
    'background': None,
    'max_instances': 3,
    'max_eigenvalue': None,
    'score': None,
    'depth_function': 'metric',
    'count_rejected': True,
    'min_area_ratio': 0.01,
    'min_area_from_cut': 1,
    'max_overlap_iou': 0.5,
    'remove_rejected': False,
    'stop_at_rest_iou': None,
    'depth_outlier_spans': None,
    'importance': None,
    'ncut': {
        'tau_ncut': 0.15,
        'epsilon': 1e-5,
        'tolerance': 1e-6,
        'max_steps': 120,
        'start_seed': 0,
        'sign': 'strongest',
        'claimed': 'epsilon',
    },
    'local_cut': None,
    'confidence': None,
    'refine': {
        'method': 'permutohedral',
        'crf': {
            'num_iterations': 10,
            'spatial_weight': 7.0,
            'spatial_sigma_px': 3.0,
            'bilateral_weight': 10.0,
            'bilateral_sigma_px': 50.0,
            'bilateral_sigma_rgb': 5.0,
            'unary_logit': 1.0,
        },
        'min_iou': 0.5,
        'resize': 'bicubic',
    },
}
LOCAL_CUT = {
    'neighborhood': 'knn',
    'evidence': None,
    'depth_step': 0.03,  # of another capacity
    'eigenvector_step': 0.2,
    'tau_knn': 0.115,
    'num_neighbors': 10,
    'capacity': 'affinity',
    'min_share': 0.3,
    'terminals': 'single',
    'terminal_fraction': 0.01,
    'outside': 'drop',
}
PAPER = MASKCUT | {
    'stop_at_rest_iou': 0.9,
    'importance': {'beta': 0.45, 'sigma_patches': 3.0},
    'local_cut': LOCAL_CUT,
    'confidence': {
        'num_cuts': 6,
        'tau_min_ratio': 0.5,
        'spacing': 'linear',
    },
}
PAPER_V3 = PAPER | {'local_cut': LOCAL_CUT | {'outside': 'far'}}
PAPER_LETTER = PAPER | {'local_cut': LOCAL_CUT | {'capacity': 'distance', 'min_share': 0.0}}


@pytest.mark.parametrize(
    ('preset', 'values'),
    [
        ('maskcut', MASKCUT),
        ('paper', PAPER),
        ('paper_v3', PAPER_V3),
        ('paper_letter', PAPER_LETTER),
    ],
)
def test_presets_of_published_methods_never_change(preset, values):
    assert asdict(PRESETS[preset]()) == values


def test_a_preset_can_be_changed_in_single_values():
    changes = {'local_cut': {'tau_knn': 0.05}}
    params = params_from_dict(CutParams, changes, base=PRESETS['paper_v3']())
    assert params.local_cut.tau_knn == 0.05 and params.local_cut.outside == 'far'


def test_a_removed_parameter_is_dropped_at_the_value_that_remained_and_else_refused_by_name():
    stored = {'depth_resize': 'nearest', 'importance': {'pair_rule': 'product'}}
    assert params_from_dict(CutParams, stored, 'recipe.') == CutParams()
    with pytest.raises(ValueError, match='recipe.importance.pair_rule is not a parameter'):
        params_from_dict(CutParams, {'importance': {'pair_rule': 'max'}}, 'recipe.')

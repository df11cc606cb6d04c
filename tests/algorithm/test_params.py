from __future__ import annotations

import pytest

from cuts3d_mm.algorithm.params import CutParams, params_from_dict


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
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        params_from_dict(CutParams, values)

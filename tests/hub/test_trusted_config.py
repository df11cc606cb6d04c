from __future__ import annotations

import json
from copy import deepcopy

import pytest
from helpers.tiny_detectors import TINY

from cuts3d_mm.configs import load_config, shipped_root
from cuts3d_mm.hub import allow_list
from cuts3d_mm.hub.publishing import flatten_config
from cuts3d_mm.hub.trusted_config import (
    MAX_BYTES,
    parse_release_config,
    plain_dataset_meta,
    read_release_config,
    release_config,
)

CONFIGS = sorted((shipped_root() / 'configs').glob('[cd][ue]*/*.py'))
PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (64, 48)}]


def config_with(**model):
    return {
        'model': {'type': 'FasterRCNN', **model},
        'test_dataloader': {'dataset': {'pipeline': [*PIPELINE, {'type': 'PackDetInputs'}]}},
    }


def checked(**model):
    return release_config(config_with(**model), 'c')['model']


def without_weights(value):
    """The tree without what a release leaves out."""
    if isinstance(value, dict):
        return {
            k: without_weights(v) for k, v in value.items() if k not in ('init_cfg', '_scope_')
        }
    if isinstance(value, (list, tuple)):
        return type(value)(without_weights(one) for one in value)
    return value.removeprefix('mmdet.') if isinstance(value, str) else value


def as_json(value):
    """Lists in place of tuples."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize('name', [path.name for path in CONFIGS])
def test_every_shipped_detector_passes_and_keeps_its_arguments(name):
    config = load_config(name, [])
    found = parse_release_config(flatten_config(config), name)
    assert found == parse_release_config(json.dumps(found), name)
    original = without_weights(config.to_dict()['model'])
    for model in (original, found['model']):
        model['data_preprocessor'].pop('type')
        model['data_preprocessor'].pop('batch_augments', None)
    assert as_json(found['model']) == as_json(original)


def test_weights_and_imports_of_the_config_are_left_out():
    left = {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'evil.pth'}, 'pretrained': 'evil.pth'}
    config = config_with(backbone={'type': 'ResNet', 'depth': 18, **left}, **left)
    config |= {'load_from': 'x.pth', 'custom_imports': {'imports': ['os']}, 'default_scope': 'os'}
    found = release_config(config, 'c')
    assert found['model'] == {'type': 'FasterRCNN', 'backbone': {'type': 'ResNet', 'depth': 18}}
    assert found['default_scope'] == 'mmdet' and 'load_from' not in found
    assert 'custom_imports' not in found


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({'type': 'mmdet.ResNet'}, 'ResNet'),
        ({'type': 'ResNet', '_scope_': 'mmdet'}, 'ResNet'),
        ({'type': 'ConvNeXt', '_scope_': 'mmpretrain'}, 'mmpretrain.ConvNeXt'),
        ({'type': 'SCMaskHead', '_scope_': 'cuts3d_mm'}, 'cuts3d_mm.SCMaskHead'),
        ({'type': 'mmcv.ConvModule'}, 'ConvModule'),
        ({'type': 'mmpretrain.ConvNeXt', '_scope_': 'mmdet'}, 'mmpretrain.ConvNeXt'),
    ],
)
def test_scopes_become_a_part_of_the_type(given, expected):
    assert checked(backbone=given)['backbone'] == {'type': expected}


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        ({'type': 'os.system'}, 'must be the name of a class'),
        ({'type': 'antigravity'}, 'may not be'),
        ({'type': 'mmdet.models.ResNet'}, 'must be the name of a class'),
        ({'type': 'mmdet.mmdet.ResNet'}, 'must be the name of a class'),
        ({'type': 'mmcv.imread'}, 'may not be'),
        ({'type': 'ResNet', '_scope_': 'antigravity'}, 'must be the name of a class'),
        ({'type': 'ResNet', '_scope_': None}, 'must be the name of a class'),
        ({'type': ['ResNet']}, 'must be the name of a class'),
        ({'type': 'MaxIoUAssigner'}, 'not allowed in this place'),
        ({'type': 'DetectorLabeller', '_scope_': 'cuts3d_mm'}, 'source of labels'),
        ({'type': 'mmpretrain.TIMMBackbone'}, 'fetched by its name'),
        ({'type': 'ResNet', 'teacher_ckpt': 'x.pth'}, 'may not be set'),
        ({'type': 'ResNet', 'teacher_config': 'x.py'}, 'may not be set'),
        ({'type': 'ResNet', 'trust_remote_code': True}, 'may not be set'),
        ({'type': 'ResNet', '_delete_': True}, 'may not be set'),
        ({'type': 'ResNet', 'style': 'evil.py'}, 'must be one of caffe, pytorch'),
        ({'type': 'ResNet', 'name': 'evil'}, 'must be a number, not a text'),
        ({'type': 'ResNet', 'depth': 1 << 40}, 'must be a number up to'),
        ({'type': 'ResNet', 'depth': 10**400}, 'must be a number up to 1048576, got .{80}; a'),
        ({'type': 'ResNet', 'depth': float('nan')}, 'must be a number'),
        ({'type': 'ResNet', 'a\n\nb': 1}, 'may not be set'),
        ({'type': 'ResNet', 'depth': {1: 2}}, 'may not be set'),
        ({'type': 'ResNet', 'norm_cfg': {'type': 'BN', 'x': [{'type': 'os'}]}}, 'may not be'),
    ],
)
def test_what_a_release_may_not_name_is_refused_with_its_place(backbone, message):
    with pytest.raises(ValueError, match=rf'c: model\.backbone.*{message}'):
        checked(backbone=backbone)


@pytest.mark.parametrize('name', ['__import__("os").system("x")', 'ResNet', 'os'])
def test_the_name_of_an_nms_is_one_of_two_since_mmcv_evaluates_it(name):
    with pytest.raises(ValueError, match='may not be|must be the name'):
        checked(test_cfg={'rcnn': {'nms': {'type': name}}})
    assert checked(test_cfg={'nms': {'type': 'soft_nms'}})['test_cfg'] == {
        'nms': {'type': 'soft_nms'}
    }


def test_refusals_tell_the_reason_of_known_classes():
    config = config_with()
    config['model'] = {'type': 'LAD', 'teacher_ckpt': 'http://evil/x.pth'}
    with pytest.raises(ValueError, match='a distillation, which reads its teacher'):
        release_config(config, 'c')
    config['model'] = {'type': 'ResNet'}
    with pytest.raises(ValueError, match='must be a detector of MMDetection'):
        release_config(config, 'c')


def test_test_inputs_are_made_from_numbers():
    config = config_with(
        data_preprocessor={
            'type': 'MultiBranchDataPreprocessor',
            'data_preprocessor': {
                'type': 'evil.Preprocessor',
                'mean': [1, 2, 3],
                'std': [4, 5, 6],
                'pad_size_divisor': 32,
                'batch_augments': [{'type': 'os.system'}],
            },
        }
    )
    steps = [
        {'type': 'LoadImageFromFile', 'backend_args': {'backend': 'evil'}, 'to_float32': True},
        {'type': 'mmdet.Resize', 'scale': [640, 480], 'keep_ratio': True, 'backend': 'evil'},
        {'type': 'Pad', 'size': [640, 640], 'pad_val': {'img': [114, 114, 114]}},
        {'type': 'LoadAnnotations', 'with_mask': True},
        {'type': 'PackDetInputs', 'meta_keys': ('evil',)},
    ]
    config['test_dataloader'] = {'dataset': {'dataset': {'pipeline': steps}}}
    found = release_config(config, 'c')
    assert found['model']['data_preprocessor'] == {
        'type': 'DetDataPreprocessor',
        'mean': (1, 2, 3),
        'std': (4, 5, 6),
        'pad_size_divisor': 32,
    }
    loading, resize, pad, packing = found['test_dataloader']['dataset']['pipeline']
    assert loading == {'type': 'LoadImageFromFile', 'to_float32': True}
    assert resize == {'type': 'Resize', 'scale': (640, 480), 'keep_ratio': True}
    assert pad == {'type': 'Pad', 'size': (640, 640), 'pad_val': {'img': (114, 114, 114)}}
    assert packing['type'] == 'PackDetInputs' and 'border' in str(packing)
    assert found['visualizer'] == {'type': 'DetLocalVisualizer', 'name': 'visualizer'}


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        ({'type': 'evil.Transform'}, 'must be one of Resize'),
        ({'type': 'Resize', 'scale': 'evil'}, r'pipeline\[1\]\.scale must be numbers'),
        ({'type': 'Resize', 'scale': (10**6, 10**6)}, 'must be numbers up to'),
        ({'type': 'Pad', 'size_divisor': 10**9}, 'must be numbers up to'),
        ({'type': 'Pad', 'size_divisor': 10**400}, 'must be numbers up to'),
        ({'type': 'Pad', 'size_divisor': float('nan')}, 'must be numbers up to'),
        ({'type': 'Pad', 'pad_val': {'img': 'evil'}}, 'must be numbers'),
        (['Resize'], 'must be one of Resize'),
    ],
)
def test_test_inputs_that_are_no_sizes_are_refused(step, message):
    config = config_with()
    config['test_dataloader']['dataset']['pipeline'] = [PIPELINE[0], step]
    with pytest.raises(ValueError, match=message):
        release_config(config, 'c')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('import os', 'as JSON: Expecting value: line 1'),
        ('model = dict(type="FasterRCNN")', 'as JSON'),
        ('{"model": {}} {}', 'as JSON: Extra data'),
        ('[' * 100_000, 'nested at most'),
        (f'{{"model": {"9" * 5000}}}', 'as JSON: Exceeds the limit'),
        (b'\x00\xff', 'as JSON'),
        ('[]', 'must define model'),
        ('{"model": {"type": "FasterRCNN", "x": NaN}}', r'model\.x must be a number'),
        ('{"model": ' + '{"x": ' * 900 + '1' + '}' * 901, 'nested at most'),
        ('{"model": {"type": ' + '[' * 900 + ']' * 900 + '}}', 'nested at most|name of a class'),
        (' ' * (MAX_BYTES + 1), 'at most'),
    ],
)
def test_what_is_no_json_of_a_detector_is_refused(tmp_path, text, message):
    path = tmp_path / 'config.json'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as refusal:
        read_release_config(path)
    assert '\n' not in str(refusal.value) and str(path) in str(refusal.value)


def test_names_of_classes_are_short_and_printable():
    given = ['cat\n', 'a\ud800b', '\x1b[31mred', 'x' * 10_000, '\u732b']
    assert plain_dataset_meta({'classes': given})['classes'] == (
        *('cat', 'ab', '[31mred', 'x' * 100, '\u732b'),
    )


HOSTILE_VALUES = (
    'evil.pth', '../evil', 'os.system', 'http://evil/x', {'type': 'evil'}, {'_scope_': 'evil'},
    ['evil'], {'x': {'y': ('evil',)}}, b'evil', object(), 1 << 70, float('inf'), {'evil': 'evil'},
    {1: 2}, {'type': {'type': 'ResNet'}}, {None: 'evil'}, 'ResNet', {'type': 'ResNet.evil'},
)  # fmt: skip
KNOWN_TEXTS = frozenset({'DetDataPreprocessor'}).union(
    *allow_list.WORDS.values(),
    *allow_list.CHOICES.values(),
    *(allow_list.DETECTORS, allow_list.NETWORKS, allow_list.LAYERS, allow_list.LOSSES),
    allow_list.TASK_UTILS,
    (f'cuts3d_mm.{name}' for name in allow_list.OURS | allow_list.OUR_TASK_UTILS),
)


def nodes_of(value):
    """Every container in a tree."""
    children = value.values() if isinstance(value, dict) else value
    yield value
    for child in children:
        if isinstance(child, (dict, list)):
            yield from nodes_of(child)


def texts_of(value):
    if isinstance(value, dict):
        return {text for one in value.values() for text in texts_of(one)}
    if isinstance(value, (list, tuple)):
        return {text for one in value for text in texts_of(one)}
    return {value} if isinstance(value, str) else set()


@pytest.mark.slow
def test_whatever_is_put_anywhere_only_known_texts_come_out(rng):
    original = load_config(TINY, []).to_dict()
    passed = 0
    for _ in range(1000):
        config = deepcopy(original)
        nodes = [node for node in nodes_of(config['model']) if node]
        node = nodes[rng.integers(len(nodes))]
        keys = list(node) if isinstance(node, dict) else range(len(node))
        keys = [*keys, 'evil', 'name', 'type', '_scope_'] if isinstance(node, dict) else keys
        node[keys[rng.integers(len(keys))]] = HOSTILE_VALUES[rng.integers(len(HOSTILE_VALUES))]
        try:
            found = release_config(config, 'c')
        except ValueError as refusal:
            assert '\n' not in str(refusal)
            continue
        passed += 1
        assert texts_of(found['model']) <= KNOWN_TEXTS
    assert passed  # the parts that are left out may hold anything

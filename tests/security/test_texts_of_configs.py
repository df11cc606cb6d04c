"""Nothing but words of our lists comes through the door for configs."""

from __future__ import annotations

from copy import deepcopy

import pytest
from helpers.tiny_detectors import TINY

from cuts3d_mm.configs import load_config
from cuts3d_mm.hub.allow_list import (
    CHOICES,
    DETECTORS,
    LAYERS,
    LOSSES,
    NETWORKS,
    OUR_TASK_UTILS,
    OURS,
    TASK_UTILS,
    WORDS,
)
from cuts3d_mm.hub.trusted_config import release_config

HOSTILE_VALUES = (
    'evil.pth', '../evil', 'os.system', 'http://evil/x', {'type': 'evil'}, {'_scope_': 'evil'},
    ['evil'], {'x': {'y': ('evil',)}}, b'evil', object(), 1 << 70, float('inf'), {'evil': 'evil'},
    {1: 2}, {'type': {'type': 'ResNet'}}, {None: 'evil'}, 'ResNet', {'type': 'ResNet.evil'},
)  # fmt: skip
KNOWN_TEXTS = (
    frozenset().union(*WORDS.values(), *CHOICES.values())
    | DETECTORS | NETWORKS | LAYERS | LOSSES | TASK_UTILS
    | {f'cuts3d_mm.{name}' for name in OURS | OUR_TASK_UTILS}
    | {'DetDataPreprocessor'}
)  # fmt: skip


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

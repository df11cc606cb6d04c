from __future__ import annotations

import time

import pytest

from cuts3d_mm.hub.trusted_config import MAX_BYTES, parse_literals, read_literals


def test_values_keep_their_kinds():
    text = (
        "a = (1, -2.5, None)\nb = {'x-y': [True, 'z' 'w']}  # a comment\n"
        "c = dict(type='mmdet.Resize', s=(\n    2,\n    3,\n))\nd = (1)\ne = ()\nf = (1, )\n"
        "g = dict({'backbone.norm': dict(decay_mult=0.0)}, h=1e-3)\n"
    )
    assert parse_literals(text, 'c') == {
        'a': (1, -2.5, None),
        'b': {'x-y': [True, 'zw']},
        'c': {'type': 'mmdet.Resize', 's': (2, 3)},
        'd': 1,
        'e': (),
        'f': (1,),
        'g': {'backbone.norm': {'decay_mult': 0.0}, 'h': 0.001},
    }


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        'a = open("x")',
        'a = dict(**b)',
        'a = {**b}',
        'a = [1 for _ in ()]',
        'a.b = 1',
        'a = b = 1',
        'a = f"{x}"',
        'a = b"x"',
        'a = --1',
        'a = 1j',
        'a = 1 + 2',
        'a: int = 1',
        'a = dict(1)',
        'a = [1 2]',
        'a = [,]',
        'a = {[]: 1}',
        'a = 1; b = 2',
        '    a = 1',
        'True = 1',
        'a = lambda: 0',
        'a = __import__("os").system("echo")',
        'print("x")',
        '_base_ = ["../x.py"] + []',
        f'a = {"9" * 5000}',
    ],
)
def test_code_is_refused_with_its_line(text):
    with pytest.raises(ValueError, match='line 2 is code'):
        parse_literals(f'x = 1\n{text}\n', 'c')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = ' + '[' * 100_000, 'nested at most'),
        ('a = ' + 'dict(b=' * 100 + ')' * 100, 'nested at most'),
        ('a = ' + '-' * 100_000 + '1', 'is code'),
        ('a = ' + 'not ' * 100_000 + '1', 'is code'),
        ('a = dict()' + '()' * 100_000, 'is code'),
        ('a = x' + '.x' * 100_000, 'is code'),
        ('a = 1' + '+1' * 100_000, 'is code'),
        ('a = "x', 'is code|no Python'),
        ('a = ((1', 'no Python'),
        ('a = "\\x"', 'no Python'),
        ('a = \x00', 'is code|no Python'),
        ('a = 1\na = 2', 'every key once'),
        ('a = dict(b=1, b=2)', 'every key once'),
        ('a = 1\n' * MAX_BYTES, 'at most'),
    ],
)
def test_texts_that_would_crash_or_confuse_a_parser_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_literals(text, 'c')


@pytest.mark.slow
def test_the_largest_text_is_read_in_seconds():
    started = time.process_time()
    parse_literals(f'a = [{"[]," * (MAX_BYTES // 3 - 4)}]', 'c')
    assert time.process_time() - started < 20


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'c.py').write_bytes(b'\x00\xff')
    with pytest.raises(ValueError, match='it is no Python'):
        read_literals(tmp_path / 'c.py')
    (tmp_path / 'c.py').write_bytes(b'a = 1\n' * MAX_BYTES)
    with pytest.raises(ValueError, match='at most'):
        read_literals(tmp_path / 'c.py')

from __future__ import annotations

import time

import pytest

from cuts3d_mm.hub.private_text import refuse_secrets, without_local_paths


@pytest.mark.parametrize(
    'text',
    [
        '/home/name',
        '/home/name/depth',
        '~/name',
        '~name/depth',
        '~name',
        '../../home/name',
        './../name',
        'C:\\Users\\name',
        'C:/Users/name/depth',
        '\\\\server\\name',
        'file:///home/name',
        'FILE:///C:/Users/name',
        'root:/home/name',
        '--out=/home/name/runs',
        "cannot identify '/home/name/my photos/x y.jpg'",
        'see "/home/my name/depth" and ~/name, then go',
        '[/home/name, ..\\name]',
    ],
)
def test_local_paths_are_replaced_also_inside_of_longer_texts(text):
    found = without_local_paths({'a': [text, (text,)], text: 1})
    assert 'name' not in str(found) and 'home' not in str(found) and 'Users' not in str(found)


@pytest.mark.parametrize(
    'text',
    [
        'https://host/name/x?a=/b',
        'hf://owner/repo/w.pth',
        's3://bucket/name',
        'data/coco/val2017',
        '3/4',
        'a ~ b',
        'word/',
        '12:30',
        'deit-base',
        '',
    ],
)
def test_other_texts_stay(text):
    assert without_local_paths([text, 3, None]) == [text, 3, None]


def test_names_of_files_stay():
    assert without_local_paths('/home/name/dino_vitb8.pth') == 'dino_vitb8.pth'
    assert without_local_paths('see C:\\Users\\name\\w.pth now') == 'see w.pth now'


@pytest.mark.parametrize(
    ('value', 'place'),
    [
        ({'init_kwargs': {'api_key': 'abc'}}, r'run\.init_kwargs\.api_key'),
        ({'hf_token': 'x'}, r'run\.hf_token'),
        ({'aws_secret_access_key': 'x'}, r'run\.aws_secret_access_key'),
        ({'S3': {'accessKey': 'x'}}, r'run\.S3\.accessKey'),
        ({'password': 'x'}, r'run\.password'),
        (['s3://user:hunter22@bucket/x'], r'run\[0\] looks like a password in an address'),
        (['https://host/x?X-Amz-Signature=abcdef'], r'run\[0\]'),
        ({'text': 'use hf_abcdefghijklmnopqrst'}, r'run\.text'),
        ({'hf_abcdefghijklmnopqrst': 1}, r'a name in run'),
        ({'a': 'AKIAIOSFODNN7EXAMPLE'}, r'run\.a'),
        ({'a': 'ghp_abcdefghijklmnopqrst'}, r'run\.a'),
        ({'a': '-----BEGIN RSA PRIVATE KEY-----'}, r'run\.a'),
        ({'a': 'set password: hunter22'}, r'run\.a'),
    ],
)
def test_secrets_are_refused_by_their_place_and_never_shown(value, place):
    with pytest.raises(ValueError, match=place) as error:
        refuse_secrets(value, 'run')
    assert 'hunter22' not in str(error.value) and 'abcdefghij' not in str(error.value)


def test_ordinary_values_pass():
    refuse_secrets(
        {
            'num_tokens': 5,
            'token': '',
            'weights_sha256': 'ab' * 32,
            'revision': 'ab' * 20,
            'url': 'https://host/x?download=true',
            'author': 'me',
        },
        'run',
    )


@pytest.mark.parametrize(
    'part', ['~', '/', '../', 'a:', 'http://', '\\', '"/', 'a.', '?token', "'/a"]
)
def test_long_texts_take_no_long_time(part):
    started = time.process_time()
    text = part * 30_000
    refuse_secrets(text, 'run')
    without_local_paths(text)
    assert time.process_time() - started < 5

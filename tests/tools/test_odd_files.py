"""What is in a folder of images but cannot be read is a record; the other images are done."""

from __future__ import annotations

import json
import os
import sys

import pytest
from helpers.drawn import write_images
from PIL import Image

from cuts3d_mm.labels.store import read_store

QUICK = ('--cfg-options', 'model.input_hw=(64,64)')
LONG = 'x' * 251 + '.bmp'


@pytest.fixture
def folder(tmp_path, rng):
    images = tmp_path / 'images'
    (good,) = write_images(images, 1, rng)
    picture = (images / good).read_bytes()
    (images / LONG).write_bytes(picture)
    (images / 'folder.png').mkdir()
    (images / 'folder.png' / 'inner.png').write_bytes(picture)
    (images / 'broken.png').symlink_to('nowhere')
    for name in ('loop.png', 'loop'):
        (images / name).symlink_to(name)
    (images / 'device.png').symlink_to('/dev/zero')
    os.mkfifo(images / 'pipe.png')
    (images / os.fsdecode(b'caf\xe9.png')).write_bytes(picture)
    (images / os.fsdecode(b'\xe9')).mkdir()
    (images / os.fsdecode(b'\xe9') / 'x.png').write_bytes(picture)
    (images / 'new\nline.png').write_bytes(picture)
    return images


REASONS = {
    'folder.png': 'it is a folder',
    'broken.png': 'leads nowhere',
    'loop.png': 'leads nowhere',
    'device.png': 'a link leads out of',
    'pipe.png': 'it is a named pipe',
    'caf\\xe9.png': 'file name must be UTF-8',
    '\\xe9/x.png': 'file name must be UTF-8',
    'new\nline.png': 'a control character',
}


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems refuse such names')
def test_odd_files_are_records_and_the_others_are_labelled(cuts3d, folder, tmp_path):
    out = tmp_path / 'out'
    code, _, err = cuts3d('generate', 'maskcut_color-texture', folder, out, '--workers', 0, *QUICK)
    assert code == 3 and 'too many failures (8 of 11 images' in err
    assert 'the first in \\xe9/x.png: file name must be UTF-8' in err
    lines = (out / 'failures.jsonl').read_text().splitlines()
    failures = {(line := json.loads(text))['path']: line['reason'] for text in lines}
    assert set(failures) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in failures[name], name
    labelled = {record.name for record in read_store(out) if record.failure is None}
    assert labelled == {'a/000.png', 'folder.png/inner.png', LONG}
    # It is drawn as LONG.jpg, which would have a name that is too long.
    code, output, _ = cuts3d('view', out, folder, tmp_path / 'seen')
    assert code == 3 and output.startswith('2 images ->')
    (failure,) = (tmp_path / 'seen/not_drawn.jsonl').read_text().splitlines()
    assert 'longer than 255 bytes' in json.loads(failure)['reason']
    assert Image.open(tmp_path / 'seen/folder.png/inner.png').size == (88, 60)

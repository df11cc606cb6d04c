"""Broken depth maps among good ones, as `cuts3d generate` meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.drawn import write_depths, write_images
from helpers.hostile_files import hostile_depth_maps, write_hostile_depth
from helpers.mutated_files import image_files, postscript

from cuts3d_mm.labels.store import read_store

TOOLS = Path(__file__).parents[2] / 'tools'
KINDS = tuple(hostile_depth_maps())
NUM_GOOD = 5
# Reads the peak of its own memory, in bytes, after the command has ended. Not from getrusage: that
# counts the memory of the process that has started this one.
MEASURED = """
import re, runpy, sys
sys.argv = ['cuts3d generate', *sys.argv[1:]]
try:
    runpy.run_path({tool!r}, run_name='__main__')
finally:
    status = open('/proc/self/status').read()
    print('peak', int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1]) * 1024)
"""


@pytest.fixture
def folder(tmp_path, rng):
    """Images; each has a depth map of another kind, the last ones a good one."""
    names = write_images(tmp_path / 'images', len(KINDS) + NUM_GOOD, rng)
    for name, kind in zip(names, KINDS, strict=False):
        write_hostile_depth(tmp_path / 'depth', name, kind)
    write_depths(tmp_path / 'depth', names[len(KINDS) :], rng)
    return tmp_path


def generate(folder):
    tool = MEASURED.format(tool=str(TOOLS / 'generate.py'))
    command = [sys.executable, '-c', tool, 'cuts3d_color-texture_file-depth.py']
    command += [folder / 'images', folder / 'out', '--depth', folder / 'depth', '--workers', '0']
    command += ['--batch-size', '8', '--max-failures', '1']
    command += ['--cfg-options', 'model.input_hw=(96,128)']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    return int(done.stdout.split('peak')[1])


def content(folder):
    return {p.name: p.read_bytes() for p in (folder / 'out').iterdir() if p.is_file()}


@pytest.mark.slow
def test_every_hostile_depth_map_is_one_record_and_the_rerun_changes_nothing(folder):
    peak_bytes = generate(folder)
    records = list(read_store(folder / 'out'))
    lines = (folder / 'out/failures.jsonl').read_text().splitlines()
    failures = {line['path']: line['reason'] for line in map(json.loads, lines)}
    assert set(failures) == {record.name for record in records[: len(KINDS)]}
    for kind, record in zip(KINDS, records, strict=False):
        assert str(Path(record.name).with_suffix('')) in failures[record.name], kind
    good = records[len(KINDS) :]
    assert len(good) == NUM_GOOD and all(record.failure is None for record in good)
    assert peak_bytes < 2**30  # the maps promise terabytes
    before = content(folder)
    generate(folder)
    assert content(folder) == before


DEPTH_CONFIG = 'cuts3d_color-texture_file-depth.py'


@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_files_that_are_not_what_their_names_say_are_records_and_the_rest_is_labelled(
    cuts3d, tmp_path, rng, workers
):
    names = write_images(tmp_path / 'images', 9, rng)
    write_depths(tmp_path / 'depth', names, rng)
    depth = (tmp_path / 'depth' / names[4]).with_suffix('.npy')
    depth.write_bytes(depth.read_bytes()[:-100])
    avif = image_files(rng).get('avif', b'')
    (tmp_path / 'images/damaged.jpg').write_bytes(avif[: len(avif) * 2 // 3])
    (tmp_path / 'images/drawing.png').write_bytes(postscript())
    expected = {names[4], 'damaged.jpg', 'drawing.png'}
    arguments = (
        *('generate', DEPTH_CONFIG, tmp_path / 'images', tmp_path / 'out'),
        *('--depth', tmp_path / 'depth', '--workers', workers, '--max-failures', '1.0'),
        *('--cfg-options', 'model.input_hw=(96,128)'),
    )
    contents = []
    for _ in range(2):
        code, out, err = cuts3d(*arguments)
        assert code == 0 and '11 images: ' in out and '3 failures' in out, err
        contents.append(content(tmp_path))
    assert contents[0] == contents[1]
    records = list(read_store(tmp_path / 'out'))
    assert {record.name for record in records if record.failure is not None} == expected
    reasons = (tmp_path / 'out/failures.jsonl').read_text()
    assert all(name in reasons for name in expected)

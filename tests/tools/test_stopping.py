"""A stopped command ends with all its processes, and goes on where it was."""

from __future__ import annotations

import os
import time
from signal import SIGINT, SIGKILL, SIGTERM

import pytest
from image_folders import write_images
from stopped_runs import start, stop, wait_until

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='needs POSIX signals')
RESUME_LINE = 'cuts3d generate: interrupted; run the same command again to resume'
OPTIONS = ('--cfg-options', 'model.input_hw=(192,256)', 'model.features.num_frequencies=64')


def generate(folder, out):
    arguments = (folder / 'images', folder / out, '--workers', 2)
    return start('generate', 'maskcut_color-texture.py', *arguments, *OPTIONS)


def finish(folder, out):
    process = generate(folder, out)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return {path.name: path.read_bytes() for path in (folder / out).glob('*.parquet')}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    import numpy as np

    folder = tmp_path_factory.mktemp('stopping')
    write_images(folder / 'images', 56, np.random.default_rng(0), (60, 90))
    return folder


@pytest.fixture(scope='module')
def whole(folder):
    return finish(folder, 'whole')


@pytest.mark.parametrize(('number', 'code'), [(SIGINT, 130), (SIGTERM, 143)])
@pytest.mark.parametrize('delay_s', [1, 5])
def test_a_signal_while_a_run_starts_ends_it(folder, number, code, delay_s):
    process = generate(folder, f'early_{code}_{delay_s}')
    time.sleep(delay_s)
    output = stop(process, number)
    assert process.returncode == code and RESUME_LINE in output
    assert output.count('interrupted') == 1


@pytest.mark.slow
def test_a_run_stopped_in_every_way_ends_with_the_bytes_of_an_uninterrupted_one(folder, whole):
    ways = [  # signals, whether all processes get them as from a terminal, exit codes
        ((SIGINT,), True, {130}),
        ((SIGTERM,), False, {143}),
        ((SIGKILL,), False, {-SIGKILL}),
        ((SIGINT, SIGINT), True, {130}),
        ((SIGTERM,), True, {143}),
    ]
    for number, (signals, whole_group, codes) in enumerate(ways):
        process = generate(folder, 'stopped')
        shards = folder / 'stopped'
        assert wait_until(process, lambda: len(list(shards.glob('labels-*'))) > number)  # noqa: B023
        output = stop(process, *signals, whole_group=whole_group)
        assert process.returncode in codes
        assert (RESUME_LINE in output) == (SIGKILL not in signals)
    assert finish(folder, 'stopped') == whole
    assert not list((folder / 'stopped').glob('.*partial'))


@pytest.mark.slow
def test_a_lost_worker_ends_the_run_with_one_line(folder, whole):
    import psutil

    process = generate(folder, 'lost')
    assert wait_until(process, lambda: list((folder / 'lost').glob('labels-*')))
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if 'spawn_main' in ' '.join(child.cmdline())
    ]
    workers[0].kill()
    output, _ = process.communicate()
    assert process.returncode == 2 and 'a worker process died' in output
    assert 'Traceback' not in output
    assert finish(folder, 'lost') == whole

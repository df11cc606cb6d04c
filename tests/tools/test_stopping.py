"""A stopped command ends with all its processes, and goes on where it was."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from signal import SIGINT, SIGKILL, SIGTERM

import numpy as np
import psutil
import pytest
from helpers.commands import (
    StartedFork,
    is_guarded,
    members,
    output_of,
    start,
    stop,
    wait_until,
)
from helpers.drawn import write_images
from helpers.tiny_detectors import write_checkpoint
from helpers.training import train_command, write_training_set

from cuts3d_mm.labels.store import read_store

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='needs POSIX signals')
RESUME_LINE = 'cuts3d generate: interrupted; run the same command again to resume\n'
OPTIONS = ('--cfg-options', 'model.input_hw=(192,256)')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stopping')
    write_images(folder / 'images', 160, np.random.default_rng(0), (60, 90))  # 20 shards
    return folder


def generate(folder, out):
    arguments = (folder / 'images', folder / out, '--workers', 2)
    return start('generate', 'maskcut_color-texture.py', *arguments, *OPTIONS)


def finish(cuts3d, folder, out):
    arguments = (folder / 'images', folder / out, '--workers', 0)
    cuts3d.done('generate', 'maskcut_color-texture.py', *arguments, *OPTIONS)
    return {path.name: path.read_bytes() for path in (folder / out).glob('labels-*.parquet')}


def after_a_shard(folder, out):
    """Start a run and wait until it has written a shard more than was there."""

    def count():
        return len(list((folder / out).glob('labels-*')))

    before = count()
    process = generate(folder, out)
    # Python itself prints a traceback in a process that loses its parent while it is spawned.
    assert wait_until(process, lambda: count() > before)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ('delay_s', 'numbers', 'code'),
    [(0, (SIGINT,), 130), (2, (SIGINT,), 130), (1, (SIGTERM,), 143), (1, (SIGINT, SIGINT), 130)],
)
def test_a_signal_while_a_run_starts_ends_it_with_one_line(
    tmp_path, folder, delay_s, numbers, code
):
    process = generate(folder, tmp_path)
    assert wait_until(process, lambda: any(tmp_path.iterdir()))  # it holds its folder
    time.sleep(delay_s)
    output = stop(process, *numbers)
    assert process.returncode == code and output.endswith(RESUME_LINE)
    assert output.count('interrupted') == 1


@pytest.mark.slow
def test_a_signal_before_anything_is_loaded_ends_a_command_with_one_line(tmp_path, folder):
    process = generate(folder, tmp_path)
    assert wait_until(process, lambda: is_guarded(process.pid))
    output = stop(process, SIGINT)
    assert process.returncode == 130
    assert output in ('cuts3d generate: interrupted\n', RESUME_LINE)


@pytest.mark.slow
def test_a_run_stopped_in_every_way_ends_with_the_bytes_of_an_uninterrupted_one(cuts3d, folder):
    process = after_a_shard(folder, 'out')
    output = stop(process, SIGINT)  # all processes get it, as from a terminal
    assert process.returncode == 130 and output.endswith(RESUME_LINE)
    process = after_a_shard(folder, 'out')
    stop(process, SIGKILL, whole_group=False)
    process = after_a_shard(folder, 'out')
    output = stop(process, SIGTERM, SIGTERM, whole_group=False)
    assert process.returncode == 143 and output.endswith(RESUME_LINE)
    process = after_a_shard(folder, 'out')
    children = psutil.Process(process.pid).children()
    next(child for child in children if 'spawn_main' in ' '.join(child.cmdline())).kill()
    output = output_of(process)  # goes on by itself
    assert process.returncode == 0 and 'a worker process died of SIGKILL' in output
    assert finish(cuts3d, folder, 'out') == finish(cuts3d, folder, 'whole')
    assert not list((folder / 'out').glob('.*partial'))


@pytest.mark.slow
def test_a_stopped_training_leaves_no_process_that_loads_data(tmp_path):
    root, work_dir = write_training_set(tmp_path / 'set'), tmp_path / 'work'
    loaders = ('train_dataloader.num_workers=2', 'train_dataloader.prefetch_factor=8')
    command = train_command(root, work_dir, 200, *loaders)
    process = StartedFork('train', *command[2:])
    assert wait_until(process, (work_dir / 'iter_2.pth').is_file)
    assert len(members(process.pid)) >= 3
    output = stop(process, SIGINT)
    assert process.returncode == 130
    assert output.endswith('interrupted; add --resume to the same command to go on from the '
                           'latest checkpoint\n')  # fmt: skip
    (work_dir / 'iter_4.pth').unlink(missing_ok=True)
    command.insert(3, '--resume')
    process = StartedFork('train', *command[2:])
    assert wait_until(process, lambda: any(work_dir.glob('iter_[4-9].pth')))
    stop(process, SIGKILL, whole_group=False, is_quiet=False)


@pytest.mark.slow
@pytest.mark.parametrize('number', [SIGINT, SIGKILL])
def test_a_stopped_detection_keeps_what_it_found(tmp_path, number):
    write_images(tmp_path / 'in', 400, np.random.default_rng(0))
    model = write_checkpoint(tmp_path / 'iter_1.pth')
    weights = ('--weights', tmp_path / 'iter_1.pth', '--device', 'cpu', '--score-thr', 0)
    out = tmp_path / 'out'
    found = out / 'detections.json'
    process = StartedFork('detect', tmp_path / 'in', '--model', model, *weights, '--out', out)
    assert wait_until(
        process, lambda: found.is_file() and json.loads(found.read_text())['annotations']
    )
    output = stop(process, number)
    if number == SIGINT:
        assert process.returncode == 130
        assert output.endswith(f'interrupted; what was found until now is in {out}\n')
    names = [image['file_name'] for image in json.loads(found.read_text())['images']]
    assert 0 < len(names) < 400
    assert all((out / 'pictures' / name).is_file() for name in names)
    stored = [record.name for record in read_store(out / 'labels')]
    assert stored[: len(names)] == names  # the labels are written just before the JSON


@pytest.mark.slow
def test_a_stopped_app_leaves_no_process_and_no_file(tmp_path):
    pytest.importorskip('gradio')
    pytest.importorskip('plotly')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    def answers():
        with socket.socket() as client:
            return client.connect_ex(('127.0.0.1', port)) == 0

    process = start('app', '--port', port, TMPDIR=str(tmp_path))
    assert wait_until(process, answers)
    time.sleep(1)  # for the first answer it may still start
    assert list(tmp_path.glob('cuts3d-app-*'))
    output = stop(process, SIGINT)
    assert process.returncode == 130 and output.endswith('interrupted; the page is closed\n')
    assert not list(tmp_path.glob('cuts3d-app-*'))


def test_a_command_in_a_child_process_ends_with_the_command_that_started_it():
    child = 'import time\nfrom cuts3d_mm.processes import guard\nwith guard(""): time.sleep(99)'
    parent = (
        'import sys; from cuts3d_mm.processes import run_command_in_child;'
        f'run_command_in_child([sys.executable, "-c", {child!r}])'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', parent],
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert wait_until(process, lambda: any(is_guarded(one.pid) for one in members(process.pid)))
    stop(process, SIGKILL, whole_group=False)

"""Without a connection, commands say within seconds what is missing and what needs no download."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.drawn import write_images

from cuts3d_mm.hub.client import ANSWER_LIMIT_S

ROOT = Path(__file__).parents[2]
MOST_S = 10.0  # CPU and waiting: the time on a machine with nothing else to do
DINO = 'cuts3d_dino-vitb8_zoedepth'


@contextmanager
def closed_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # not listening: refused
        yield f'http://127.0.0.1:{taken.getsockname()[1]}'


@contextmanager
def silent_port():
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()  # connections come about, nothing is ever said
        yield f'http://127.0.0.1:{silent.getsockname()[1]}'


@contextmanager
def full_port():
    """Packets are swallowed: no connection comes about."""
    with silent_port() as url, socket.socket() as one, socket.socket() as two:
        for client in (one, two):
            client.setblocking(False)
            client.connect_ex(('127.0.0.1', int(url.rpartition(':')[2])))
        yield url


@contextmanager
def no_name():
    yield 'http://hub.invalid'


def run(tmp_path, url, *arguments):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, '-m', 'cuts3d_mm', *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'HF_ENDPOINT': url, 'HF_HOME': str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stderr, cpu, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize('network', [closed_port, silent_port, full_port, no_name])
@pytest.mark.parametrize('command', ['generate', 'detect'])
def test_what_is_missing_is_said_within_seconds(tmp_path, rng, network, command):
    write_images(tmp_path / 'images', 1, rng)
    arguments = {
        'generate': (DINO, tmp_path / 'images', tmp_path / 'out'),
        'detect': (tmp_path / 'images', '--model', 'owner/repo', '--out', tmp_path / 'out'),
    }[command]
    with network() as url:
        code, err, cpu, wall = run(tmp_path, url, command, *arguments)
    missing = {'generate': 'timm/vit_base_patch8_224.dino', 'detect': 'owner/repo'}[command]
    assert code == 2 and err.count('\n') == 1, err
    assert missing in err and f'{url} does not answer' in err
    assert 'built-in features need no download' in err
    assert cpu + min(wall, ANSWER_LIMIT_S) < MOST_S, f'{cpu:.1f} s of CPU, {wall:.1f} s in all'
    assert not (tmp_path / 'out').exists()

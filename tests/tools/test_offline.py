"""Without a connection, commands say within seconds what is missing and what needs no download."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import write_images

from cuts3d_mm.hub.client import ANSWER_LIMIT_S

ROOT = Path(__file__).parents[2]
MOST_S = 10.0
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


BUILT_IN = 'built-in features need no download'
COMMANDS = {  # command -> its arguments, what is missing, and its own advice
    'generate': ((DINO, 'images', 'out'), 'timm/vit_base_patch8_224.dino', BUILT_IN),
    'detect': (
        ('images', '--model', 'owner/repo', '--out', 'out'),
        'owner/repo',
        'cuts3d download owner/repo has made',
    ),
    'download': (('owner/repo', '--out', 'out'), 'owner/repo', 'check the connection'),
}


def start(folder, url, command):
    """Start a command in a folder of its own, where nothing is cached."""
    folder.mkdir()
    write_images(folder / 'images', 1, np.random.default_rng(0))
    variables = {'PYTHONPATH': str(ROOT), 'HF_ENDPOINT': url, 'HF_HOME': str(folder / 'cache')}
    with (folder / 'said').open('wb') as said:
        return subprocess.Popen(
            [sys.executable, '-m', 'cuts3d_mm', command, *COMMANDS[command][0]],
            env={**os.environ, **variables},
            cwd=folder,
            stderr=said,
            stdout=subprocess.DEVNULL,
        )


@pytest.mark.slow
def test_what_is_missing_is_said_within_seconds(tmp_path):
    """The commands take turns: each meets a network that refuses and one that swallows."""
    networks = (closed_port, no_name, silent_port, full_port)
    with ExitStack() as stack:
        urls = {network.__name__: stack.enter_context(network()) for network in networks}
        cases = list(zip(urls, cycle(COMMANDS)))
        began = time.monotonic()
        started = [start(tmp_path / '-'.join(case), urls[case[0]], case[1]) for case in cases]
        for (network, command), process in zip(cases, started, strict=True):
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            folder = tmp_path / f'{network}-{command}'
            err = (folder / 'said').read_text()
            assert process.returncode == 2 and err.count('\n') == 1, err
            assert COMMANDS[command][1] in err and f'{urls[network]} does not answer' in err
            assert COMMANDS[command][2] in err and (BUILT_IN in err) == (command == 'generate')
            cpu, wall = used.ru_utime + used.ru_stime, time.monotonic() - began
            # CPU and waiting: the time on a machine with nothing else to do.
            assert cpu + min(wall, ANSWER_LIMIT_S) < MOST_S, f'{cpu:.1f} s CPU, {wall:.1f} s'
            assert not (folder / 'out').exists()

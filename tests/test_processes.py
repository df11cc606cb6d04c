from __future__ import annotations

import os
import signal
import threading
import time
from operator import methodcaller
from pathlib import Path

import pytest

from cuts3d_mm.processes import KEEP_HEAP_KEY, signals_blocked, start_child


@pytest.fixture
def other_thread():
    """A thread that can take the signals of this process."""
    is_over = threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()
    yield
    is_over.set()
    thread.join()


def test_a_signal_that_another_thread_takes_waits_until_a_child_is_started(other_thread):
    is_started = False
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), signals_blocked():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(200):
            time.sleep(0.001)
        is_started = True
    assert is_started and signal.getsignal(signal.SIGINT) is handler


@pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='reads /proc')
@pytest.mark.parametrize(
    ('variables', 'is_kept'),
    [
        ({}, True),
        ({KEEP_HEAP_KEY: '0'}, False),
        ({'GLIBC_TUNABLES': 'glibc.malloc.tcache_max=9'}, False),
    ],
)
def test_a_worker_keeps_its_heap_unless_the_user_says_otherwise(variables, is_kept, monkeypatch):
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.delenv('PYTHONSAFEPATH', raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    process, connection = start_child(methodcaller('recv'))
    environment = ''
    while 'PYTHONSAFEPATH=1' not in environment:  # before, it is still a copy of this process
        environment = Path(f'/proc/{process.pid}/environ').read_text()
    connection.send(None)
    process.join()
    assert ('trim_threshold' in environment) == is_kept and dict(os.environ) == before

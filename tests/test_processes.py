from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from cuts3d_mm.processes import signals_blocked


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

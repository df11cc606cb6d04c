"""The script of `make demo`, with an installer and a command that only wait."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
INSTALLER = """#!/usr/bin/env bash
case "${3:-whole}" in
    check) exit 1 ;;
    whole) sleep "$SECONDS_TO_SLEEP" & wait ;;
esac
"""
COMMAND = '#!/usr/bin/env bash\nexec sleep "$SECONDS_TO_SLEEP"\n'

pytestmark = pytest.mark.skipif(shutil.which('setsid') is None, reason='needs setsid')


def sleeping(seconds):
    """Processes that sleep for so long."""
    command = ['sleep', seconds]
    return [one for one in psutil.process_iter(['cmdline']) if one.info['cmdline'] == command]


def wait_for(count, seconds):
    deadline = time.monotonic() + 60
    while len(sleeping(seconds)) != count:
        assert time.monotonic() < deadline, sleeping(seconds)
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_demo_leaves_no_installer_and_no_command(tmp_path, number):
    shutil.copy(ROOT / 'requirements/demo.sh', tmp_path)
    (tmp_path / 'install.sh').write_text(INSTALLER)
    python = tmp_path / 'venv/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text(COMMAND)
    python.chmod(0o755)
    seconds = str(1_000_000 + os.getpid())
    script = subprocess.Popen(
        ['bash', tmp_path / 'demo.sh', 'onedl', tmp_path / 'venv', '1'],
        env={**os.environ, 'SECONDS_TO_SLEEP': seconds},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        wait_for(2, seconds)
        script.send_signal(number)
        assert script.wait(60) == 128 + number
        wait_for(0, seconds)
    finally:
        script.kill()
        for one in sleeping(seconds):
            one.kill()

"""Few files of the package lie on the way of an image."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
MOST = 19  # files


def test_an_image_passes_few_files_on_its_way_to_the_store():
    command = [sys.executable, 'benchmarks/trace_files.py', 'image']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    title, *files = run.stdout.split('\n  ')
    assert title == f'image: {len(files)} files' and len(files) <= MOST, run.stdout
    files = [name.strip() for name in files]
    assert files[0] == 'pipeline/work.py' and 'labels/store.py' in files

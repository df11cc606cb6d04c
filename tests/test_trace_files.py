"""Few files of the package lie on the way of an image."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.commands import run_forked

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
MOST = 19  # files


def test_an_image_passes_few_files_on_its_way_to_the_store():
    run = run_forked([sys.executable, ROOT / 'benchmarks/trace_files.py', 'image'])
    assert run.returncode == 0, run.stderr
    title, *files = run.stdout.split('\n  ')
    assert title == f'image: {len(files)} files' and len(files) <= MOST, run.stdout
    files = [name.strip() for name in files]
    assert files[0] == 'pipeline/work.py' and 'labels/store.py' in files

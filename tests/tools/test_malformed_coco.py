"""Malformed COCO files, as the commands and data sets that read one meet them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.commands import run_forked

SCRIPT = Path(__file__).parents[1] / 'helpers/malformed_runs.py'
SEED, COUNT = 3, 504
MOST_BYTES = 2**27  # that files make a process grow by


@pytest.mark.slow
def test_malformed_files_are_refused_in_one_line_and_sound_ones_accepted(tmp_path):
    done = run_forked([sys.executable, SCRIPT, tmp_path, SEED, COUNT])
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]
    ended = [line for line in lines if 'outcome' in line]
    wrong = [line for line in ended if line['outcome'] not in ('accepted', 'refused')]
    assert len(ended) == COUNT and not wrong
    changes = {line['case']: line['change'] for line in lines if 'change' in line}
    counts = Counter((changes[line['case']], line['outcome']) for line in ended)
    assert counts['sound', 'refused'] == 0 and counts['sound', 'accepted'] > 20
    assert sum(count for (_, outcome), count in counts.items() if outcome == 'refused') > COUNT / 2
    loaded = next(line['loaded_bytes'] for line in lines if 'loaded_bytes' in line)
    assert lines[-1]['peak_bytes'] - loaded < MOST_BYTES

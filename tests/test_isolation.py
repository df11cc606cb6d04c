"""Tests in one process do not see what earlier ones have left."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize('test', ['first', 'second'])
def test_a_run_of_the_same_second_logs_to_the_output_of_its_own_test(capsys, test):
    """The name of a run is its second; MMEngine keeps a logger for each name."""
    logging = pytest.importorskip('mmengine.logging')
    logging.MMLogger.get_instance('20261129_120000').info(test)
    output = capsys.readouterr()
    assert test in output.out + output.err and 'Logging error' not in output.err

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from cuts3d_mm.labels.store import Counts
from cuts3d_mm.pipeline import progress
from cuts3d_mm.pipeline.progress import (
    RemainingTime,
    Report,
    Span,
    StageTotals,
    Stopwatch,
    profiled,
    size_of,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_names_the_images_and_says_that_it_loads_until_the_first_is_done(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    monkeypatch.setattr(
        progress, 'Console', lambda stderr: Console(file=terminal, force_terminal=True, width=150)
    )
    with progress.ProgressLine('labelling [val] photos') as line:
        line.start(2, Counts())
        line._bar.refresh()
        before = terminal.getvalue()
        line.add(Report(Counts(1, 3, 0)))
        line._bar.refresh()
    assert 'labelling [val] photos' in before and 'loading' in before and '0/2' in before
    assert '3 instances' in terminal.getvalue()[len(before) :]


def test_a_log_says_what_is_loading_on_which_images_and_later_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, '_LOG_EVERY_S', 0)
    with progress.ProgressLine('labelling val2017') as line:
        line.start(2, Counts())
        line.add(Report(Counts(1, 3, 0)))
    loading, later = capsys.readouterr().err.splitlines()
    assert loading == 'labelling val2017: 0/2 images, loading'
    assert later.startswith('labelling val2017: 1/2 images, ') and '3 instances' in later


def test_a_log_says_nothing_of_loading_when_all_is_done(capsys):
    with progress.ProgressLine('labelling val2017') as line:
        line.start(2, Counts(2, 3, 0))
    assert 'loading' not in capsys.readouterr().err


def test_the_line_names_the_stage_that_limits_the_rate(monkeypatch, capsys):
    monkeypatch.setattr(progress, '_LOG_EVERY_S', 0)
    spans = [Span(stage, 0, s, s, 1, 0, 1, 1) for stage, s in (('extract', 1), ('refine', 3))]
    with progress.ProgressLine('labelling photos') as line:
        line.start(2, Counts())
        line.add(Report(Counts(1, 3, 0), tuple(spans)))
    assert 'limited by refine' in capsys.readouterr().err.splitlines()[-1]


def test_loading_is_left_out_of_the_rate_and_of_the_time_that_is_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, '_LOG_EVERY_S', 0)
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    with progress.ProgressLine('detecting') as line:
        line.start(12, Counts())
        now[0] = 160.0  # networks were loaded
        line.add(Report(Counts(1, 3, 0)))
        assert 'left' not in capsys.readouterr().err
        now[0] = 161.0
        line.add(Report(Counts(1, 3, 0)))
    said = capsys.readouterr().err.splitlines()[-1]
    assert '1.00 images/s' in said and said.endswith('10 s left')


def span(stage, seconds, process=1, start_s=0.0, images=1, num_bytes=0):
    return Span(stage, start_s, seconds, seconds / 2, images, num_bytes, process, process)


def test_a_stretch_of_work_is_measured_even_if_it_fails():
    watch = Stopwatch()
    with pytest.raises(ValueError), watch.measure('cut', 3) as work:
        work.hands_on([np.zeros((2, 3), np.float32), b'abc'])
        raise ValueError
    (found,) = watch.take()
    assert (found.stage, found.images, found.num_bytes) == ('cut', 3, 27) and found.seconds >= 0
    assert watch.take() == ()


def test_bytes_are_those_of_arrays_and_texts_at_any_depth():
    assert size_of({'no': 'dict'}) == 0
    assert size_of(span('abcd', 1)) == 4
    assert size_of((np.zeros(5), [b'12', ('x', None)])) == 43


def test_the_limiting_stage_of_workers_that_do_all_is_the_longest():
    totals = StageTotals()
    totals.add([span(*s) for s in (('read', 1), ('extract', 2), ('refine', 5), ('encode', 1))])
    assert totals.limiting_stage() == 'refine'


@pytest.mark.parametrize(('cut_s', 'limit'), [(3, 'cut'), (1, 'extract')])
def test_the_limiting_stage_of_a_staged_run_is_in_its_busiest_processes(cut_s, limit):
    totals = StageTotals()
    totals.add([span('read', 9, process=1), span('extract', 2, process=1)])
    for worker in (2, 3):
        totals.add([span('cut', cut_s, process=worker), span('encode', 0.1, process=worker)])
    assert totals.limiting_stage() == limit


def test_nothing_limits_a_run_that_has_not_begun():
    assert StageTotals().limiting_stage() == ''


class Line:
    def start(self, total_images, done):
        self.total = total_images

    def add(self, report):
        self.counts = report.counts


def test_a_profile_is_a_trace_and_a_table(tmp_path, capsys):
    line = Line()
    with profiled(line, tmp_path / 'trace.json') as progress:
        progress.start(7, Counts())
        progress.add(Report(Counts(2, 1, 0), (span('cut', 0.5, start_s=3.0), span('encode', 0.1))))
        progress.add(Report(spans=(span('cut', 0.3, num_bytes=4000),)))
    events = json.loads((tmp_path / 'trace.json').read_text())
    assert [event['name'] for event in events] == ['cut', 'encode', 'cut']
    assert events[0]['ts'] == 3e6 and events[0]['dur'] == 5e5 and events[0]['ph'] == 'X'
    table = capsys.readouterr().err
    assert '400.00' in table and '200.00' in table and '2.00' in table
    assert line.total == 7 and line.counts == Counts()


def test_an_empty_profile_is_a_valid_trace(tmp_path):
    with profiled(Line(), tmp_path / 'trace.json'):
        pass
    assert json.loads((tmp_path / 'trace.json').read_text()) == []


def test_without_a_trace_nothing_is_added():
    line = Line()
    with profiled(line, None) as progress:
        assert progress is line


def test_an_end_that_slips_by_more_than_a_tenth_is_named_once():
    now = [0.0]
    remaining = RemainingTime(lambda: now[0])
    said = []
    for now[0], left_s in ((0, 7200), (600, 6900), (1200, 7200), (1800, 6600), (8000, 100)):
        said.append(remaining.describe(left_s))
    slipped = '2.0 h left, the end has slipped by 20 min'
    assert said == ['2.0 h left', '1.9 h left', slipped, '1.8 h left', '2 min left']

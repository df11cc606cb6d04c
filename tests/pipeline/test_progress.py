from __future__ import annotations

import io
import sys

from rich.console import Console

from cuts3d_mm.labels.store import Counts
from cuts3d_mm.pipeline import progress
from cuts3d_mm.pipeline.progress import Report, Span


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

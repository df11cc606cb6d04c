"""Write the page about a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuts3d_mm.labels.merging import KeptPredictions, LabelStatistics
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.few_labels import FewLabels
from cuts3d_mm.learning.folders import Folders, PassFolders
from cuts3d_mm.learning.plan import Plan
from cuts3d_mm.learning.report_detections import show_detections
from cuts3d_mm.learning.request import Request, format_duration
from cuts3d_mm.learning.scores import METRICS
from cuts3d_mm.learning.steps import read_steps
from cuts3d_mm.learning.training import train_command, weights_after
from cuts3d_mm.visualization.curves import draw_training
from cuts3d_mm.visualization.report.blocks import (
    Block,
    Picture,
    Section,
    Table,
    Text,
)
from cuts3d_mm.visualization.report.page import write_report

_TITLE = 'What a detector learned from images alone'
_AGREEMENT = (
    'Agreement with pseudo-labels says whether the detector has learned what the cuts show, not '
    'whether they show objects: look at the pictures, or give annotations to score against.'
)
_EMBEDDED = (
    'This run used the embedded features, which are hand-made from colour and texture: they see '
    'surfaces, not kinds of objects, and on photos they find little. Its detector is tiny and was '
    'trained from scratch.'
)
_NOTHING_NEW = (
    'A round in which no prediction became a label has trained longer on the labels that were '
    'there: what it gained is the gain of more steps.'
)
_MIB = 2**20


@dataclass(frozen=True)
class Results:
    """What a run has made."""

    plan: Plan
    plan_text: Sequence[str]
    root: Path  # folder of the images
    detections: Sequence[Path]  # a store per round
    kept: Sequence[KeptPredictions]  # by each round of self-training
    agreement: Sequence[Sequence[str]]
    num_annotated: int
    scores: Sequence[Sequence[str]]
    few: FewLabels | None
    log: Sequence[dict[str, Any]]  # of the training


def write_run_report(request: Request, results: Results) -> None:
    """Write `report.html`."""
    folders = Folders(request.out)
    current = folders.of_pass(len(results.plan.passes))
    introduction: list[Block] = [Text(line) for line in results.plan_text]
    if results.plan.settings.is_offline:
        introduction.append(Text(_EMBEDDED))
    few = [] if results.few is None else [Section('With a few labels', [_few(results.few)])]
    sections = [
        Section('Scores', _scores(results)),
        *few,
        Section('Pseudo-labels', _labels(folders, current)),
        Section('Training', _training(results)),
        Section(
            'Detections on held-out images',
            show_detections(results.root, current, results.detections),
        ),
        Section('Time and memory', [_costs(folders)]),
        Section('The same by hand', _commands(request, results, folders, current)),
    ]
    write_report(folders.report, _TITLE, introduction, sections)


_WATCHED = 'mask AP50 against held-out pseudo-labels, %'


def _scores(results: Results) -> list[Block]:
    metrics = [f'mask {metric} %' for metric in METRICS]
    blocks: list[Block] = []
    if results.scores:
        caption = f'On {results.num_annotated} held-out images, against the annotations.'
        blocks.append(Table(['labels', *metrics], results.scores, caption))
    if results.agreement:
        caption = 'Against the pseudo-labels of the held-out images, which no round trains on.'
        blocks += [Table(['detections', *metrics], results.agreement, caption), Text(_AGREEMENT)]
    else:
        blocks.append(Text('No held-out image has a pseudo-label: nothing to agree with.'))
    return blocks


def _few(few: FewLabels) -> Table:
    caption = (
        f'By class, on {few.num_tested} images whose labels are not trained on. Both were trained '
        f'for {few.num_steps} steps on {few.num_images} labelled images; the second one began '
        'with the weights that self-training began with.'
    )
    return Table(['start', 'mask AP %', 'mask AP50 %', 'box AP50 %'], few.rows, caption)


def _labels(folders: Folders, current: PassFolders) -> list[Block]:
    found = LabelStatistics.of(read_store(current.labels))
    text = (
        f'{found.num_images} images to train on, {found.num_instances} instances; '
        f'{found.images_by_count[0]} images have none and are not trained on. '
        f'{found.num_failures} images more could not be cut.'
    )
    sheet = Picture(folders.contact_sheet.read_bytes(), 'image/jpeg', 'images chosen at random')
    return [Text(text), sheet]


def _training(results: Results) -> list[Block]:
    """Losses and scores, and which predictions became labels of a round."""
    blocks: list[Block] = [Picture.of_figure(draw_training(results.log, _WATCHED))]
    rows = [
        [f'round {number}', f'{kept.num_kept:,} of {kept.num_all:,}']
        + [f'{score:.2f}' for score in (kept.score_thr, kept.best_score)]
        for number, kept in enumerate(results.kept, 1)
    ]
    if rows:
        header = ['labels of', 'predictions that became labels', 'smallest score', 'best score']
        blocks.append(Table(header, rows))
    if any(kept.num_kept == 0 for kept in results.kept):
        blocks.append(Text(_NOTHING_NEW))
    return blocks


def _costs(folders: Folders) -> Table:
    rows = [
        [name, format_duration(cost.seconds), f'{cost.peak_bytes / _MIB:.0f} MiB']
        for name, cost in read_steps(folders.steps).items()
    ]
    return Table(
        ['step', 'time', 'largest process until then'],
        rows,
        'Of the longest run that ended a step; what was interrupted is not counted.',
    )


def _commands(
    request: Request, results: Results, folders: Folders, current: PassFolders
) -> list[Block]:
    settings, schedule = results.plan.settings, results.plan.current.schedule
    depth = ['--depth', settings.depth] if settings.depth else []
    exclude = ['--exclude', str(request.exclude)] if request.exclude else []
    images, weights = settings.images, weights_after(current, len(schedule.round_steps))
    # Folders of their own: typed as shown, no command writes into the run.
    training = train_command(current.config, Path('WORK_DIR'), settings.gpus, resumes=False)
    by_command = {
        'cut': ['generate', settings.generator, images, 'LABELS', *depth, *exclude],
        'label by the last detector': [
            'predict',
            str(current.config),
            str(weights),
            images,
            'OUT',
        ],
        'detect': ['detect', images, '--model', str(folders.release)],
        'publish': ['publish', str(folders.release), '--repo', 'OWNER/NAME'],
    }
    lines = {name: shlex.join(['cuts3d', *words]) for name, words in by_command.items()}
    lines['train'] = shlex.join(['python', '-m', *training])
    return [Text(f'{name}: {line}') for name, line in lines.items()]

"""Write the report of a learning run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import SCORE_THR
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.labels.coco import read_coco
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.left_out import Remarks
from cuts3d_mm.labels.merging import (
    KeptPredictions,
    LabelSelection,
    LabelStatistics,
    select_records,
)
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import read_scores, read_store
from cuts3d_mm.pipeline.progress import format_duration
from cuts3d_mm.visualization import report_page as page
from cuts3d_mm.visualization.charts import draw_training, percent
from cuts3d_mm.visualization.contact_sheets import NUM_SHOWN
from cuts3d_mm.visualization.overlays import draw_record

from .classes import FewLabels, name_as, names_in, of_images
from .plan import Folders, watched_names
from .planning import Planned
from .training import read_costs, selected_annotations, train_command, weights_after
from .verdict import Verdict

_TITLE = 'What a detector learned from images alone'
_AGREEMENT = (
    'Agreement with pseudo-labels says whether the detector has learned what the cuts show, not '
    'whether they show objects: look at the pictures, or give annotations to score against.'
)
_NOTHING_NEW = (
    'A round in which no prediction became a label has trained longer on the labels that were '
    'there: what it gained is the gain of more steps.'
)
_MIB = 2**20
_WATCHED = 'mask AP50 against held-out pseudo-labels, %'
_SHOWN_AT_ONCE = 6  # images; the others are opened by a click
_LONGEST_PX = 320  # size of a picture
METRICS = ('AP', 'AP50', 'AR100')  # scores of masks


def agreement(folders: Folders, detections: Sequence[Path]) -> list[dict[str, float]]:
    """Scores of masks of each round, in [0, 1], against held-out pseudo-labels, if any."""
    truth = folders.read_held_out()
    if not selected_annotations(truth):
        return []
    return [score_labels(read_store(one), truth)['segm'] for one in detections]


def scores(
    annotations: Path,
    names: Sequence[str],
    folders: Folders,
    detections: Sequence[Path],
) -> tuple[int, list[list[str]]]:
    """Score pseudo-labels and detections on the held-out images that are annotated and labelled.

    Args:
        annotations: COCO JSON.
        names: names of all images of the run, held out or not.
        folders: folders of the run.
        detections: a store per round.

    Returns:
        Number of those images, and a row for the labels and for each round, in percent; no rows
        without an image.
    """
    cut = tuple(read_coco(folders.held_out, 'objects'))
    labelled = _labelled(cut) & _labelled(read_store(detections[0]))
    known = name_as(read_ground_truth(annotations, needs_masks=True), names, annotations)
    truth = of_images(known, labelled)
    if not truth['images']:
        return 0, []
    found: dict[str, Iterable[ImageRecord]] = {'pseudo-labels': cut}
    left_out = Remarks()
    if selected_annotations(folders.read_held_out()):
        chosen = tuple(read_coco(folders.held_out, 'ignore', left_out))
    if left_out.crowds:
        found['pseudo-labels that are trained on'] = chosen
    found |= {_after(number): read_store(one) for number, one in enumerate(detections)}
    scored = set(names_in(truth))
    rows = [
        _row(name, (record for record in records if record.name in scored), truth)
        for name, records in found.items()
    ]
    return len(truth['images']), rows


@dataclass(frozen=True)
class Results:
    """What a run has made."""

    planned: Planned
    plan_text: Sequence[str]
    detections: Sequence[Path]  # a store per round
    kept: Sequence[KeptPredictions]  # an element per round of self-training
    agreement: Sequence[Mapping[str, float]]  # scores of masks per round, in [0, 1]
    verdict: Verdict
    num_annotated: int
    scores: Sequence[Sequence[str]]
    few: FewLabels | None
    log: Sequence[dict[str, Any]]  # lines of the training


def write_run_report(results: Results) -> None:
    """Write `report.html`."""
    planned, folders = results.planned, results.planned.folders
    introduction = map(page.text, [f'The detector {results.verdict}.', *results.plan_text])
    few = {} if results.few is None else {'With a few labels': [_few(results.few)]}
    sections = {
        'Scores': _scores(results),
        **few,
        'Pseudo-labels': _labels(folders, planned.plan.settings.select),
        'Training': _training(results),
        'Detections on held-out images': _detections(results),
        'Time and memory': [_costs(folders)],
        'The same by hand': [page.code(commands(planned))],
    }
    write_whole(folders.report, page.render_report(_TITLE, [*introduction], sections))


def _scores(results: Results) -> list[str]:
    metrics = [f'mask {metric} %' for metric in METRICS]
    blocks = []
    if results.scores:
        caption = f'On {results.num_annotated} held-out images, against the annotations.'
        blocks.append(page.table(['labels', *metrics], results.scores, caption))
    if results.agreement:
        caption = 'Against the pseudo-labels of the held-out images, which no round trains on.'
        rows = [
            [_after(number), *(percent(found[metric]) for metric in METRICS)]
            for number, found in enumerate(results.agreement)
        ]
        blocks += [page.table(['detections', *metrics], rows, caption), page.text(_AGREEMENT)]
    else:
        blocks.append(page.text('No held-out image has a pseudo-label: nothing to agree with.'))
    return blocks


def _few(few: FewLabels) -> str:
    caption = (
        f'By class, on {few.num_tested} images whose labels are not trained on, after '
        f'{few.num_steps} steps on {few.num_images} labelled images.'
    )
    return page.table([f'{name} %' for name in few.scores], [list(few.scores.values())], caption)


def _labels(folders: Folders, select: str) -> list[str]:
    selection = LabelSelection.parse(select)
    scores = read_scores(folders.labels)
    threshold = selection.threshold(scores)
    found = LabelStatistics.of(select_records(read_store(folders.labels), threshold))
    text = (
        f'Of {len(scores)} pseudo-labels, {found.num_instances} are trained on: '
        f'{selection.describe(scores)}. They lie in '
        f'{found.num_images - found.images_by_count[0]} of {found.num_images} images; the others '
        f'are not trained on. {found.num_failures} images more could not be cut.'
    )
    sheet = page.picture(
        folders.contact_sheet.read_bytes(), 'image/jpeg', 'images chosen at random'
    )
    return [page.text(text), sheet]


def _training(results: Results) -> list[str]:
    """Losses and scores, and which predictions became labels of a round."""
    blocks = [page.picture_of_figure(draw_training(results.log, _WATCHED), is_chart=True)]
    rows = [
        [f'round {number}', f'{kept.num_kept:,} of {kept.num_all:,}']
        + [f'{score:.2f}' for score in (kept.score_thr, kept.best_score)]
        for number, kept in enumerate(results.kept, 1)
    ]
    if rows:
        header = ['labels of', 'predictions that became labels', 'smallest score', 'best score']
        blocks.append(page.table(header, rows))
    if any(kept.num_kept == 0 for kept in results.kept):
        blocks.append(page.text(_NOTHING_NEW))
    return blocks


def _costs(folders: Folders) -> str:
    rows = [
        [name, format_duration(cost['seconds']), f'{cost["peak_bytes"] / _MIB:.0f} MiB']
        for name, cost in read_costs(folders.costs).items()
    ]
    caption = 'Time of the longest run that ended a step; what was interrupted is not counted.'
    return page.table(['step', 'time', 'largest process until then'], rows, caption)


def commands(planned: Planned) -> str:
    """Say how each step is done by a command."""
    settings, folders, request = planned.plan.settings, planned.folders, planned.request
    depth = ['--depth', settings.depth] if settings.depth else []
    if settings.larger_is:
        depth += ['--cfg-options', f'model.depth.larger_is={settings.larger_is}']
    exclude = ['--exclude', str(request.exclude)] if request.exclude else []
    images, config = settings.images, str(folders.config)
    weights = str(weights_after(folders, planned.num_rounds))
    # Folders of their own: typed as shown, no command writes into the run.
    training = train_command(folders.config, Path('WORK_DIR'), settings.gpus, resumes=False)
    words = {
        'cut': ['cuts3d', 'generate', settings.generator, images, 'LABELS', *depth, *exclude],
        'train': ['python', '-m', *training],
        'label by the last detector': ['cuts3d', 'predict', config, weights, images, 'OUT'],
        'detect': ['cuts3d', 'detect', images, '--model', str(folders.release)],
        'publish': ['cuts3d', 'publish', str(folders.release), '--repo', 'OWNER/NAME'],
    }
    return '\n\n'.join(f'# {key}\n{shlex.join(one)}' for key, one in words.items())


def _detections(results: Results) -> list[str]:
    """Draw the detections of each round next to the pseudo-labels of the same images."""
    names = watched_names(results.planned.held_out)[:NUM_SHOWN]
    columns = {
        'pseudo-labels': _by_name(read_coco(results.planned.folders.held_out, 'objects'), names)
    }
    for number, store in enumerate(results.detections):
        title = f'round {number}' if number else 'initial round'
        columns[title] = _by_name(select_records(read_store(store), SCORE_THR), names)
    rows = []
    for name in names:
        found = [(title, column[name]) for title, column in columns.items() if name in column]
        pictures = [_picture(results.planned.root, title, record) for title, record in found]
        rows.append(page.row([picture for picture in pictures if picture is not None]))
    text = page.text(f'Detections of at least {SCORE_THR}, as cuts3d detect draws them.')
    return [text, *page.first_blocks(rows, _SHOWN_AT_ONCE, 'images')]


def _by_name(records: Iterable[ImageRecord], names: Sequence[str]) -> dict[str, ImageRecord]:
    return {record.name: record for record in records if record.name in set(names)}


def _picture(root: Path, title: str, record: ImageRecord) -> str | None:
    with suppress(ImageFailure):
        drawn = draw_record(record, root, _LONGEST_PX, with_scores=False)
        return page.picture_of_pixels(drawn, f'{title}: {len(record.instances)}')
    return None


def _labelled(records: Iterable[ImageRecord]) -> set[str]:
    return {record.name for record in records if record.failure is None}


def _row(name: str, records: Iterable[ImageRecord], truth: dict[str, Any]) -> list[str]:
    found = score_labels(records, truth)['segm']
    return [name, *(percent(found[metric]) for metric in METRICS)]


def _after(number: int) -> str:
    return f'detector after round {number}' if number else 'detector after the initial round'

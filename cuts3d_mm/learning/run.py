"""Run all steps from a folder of images to a detector; every step resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.lock import FolderInUse, hold_folder
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.cutting import cut_images, gather_labels
from cuts3d_mm.learning.describe import describe_plan
from cuts3d_mm.learning.detecting import detect_after_each_round
from cuts3d_mm.learning.few_labels import ClassRun, learn_classes
from cuts3d_mm.learning.folders import Folders, PassFolders
from cuts3d_mm.learning.look import look_at
from cuts3d_mm.learning.plan import read_plan
from cuts3d_mm.learning.planning import Planned, keep_plan, plan_run
from cuts3d_mm.learning.releasing import release
from cuts3d_mm.learning.report import Results, write_run_report
from cuts3d_mm.learning.request import Request
from cuts3d_mm.learning.scores import agreement, scores
from cuts3d_mm.learning.selection import in_random_order
from cuts3d_mm.learning.sheet import NUM_SHOWN, draw_sheet
from cuts3d_mm.learning.steps import timed
from cuts3d_mm.learning.training import keep_last_round, read_log, train, weights_after
from cuts3d_mm.learning.training_config import write_training_config
from cuts3d_mm.visualization.pictures import save_picture

_CUT_FIRST = 10 * NUM_SHOWN  # images; of more than that the contact sheet is cut first

Say = Callable[[str], None]


def learn(request: Request, say: Say, is_dry: bool = False) -> Results | None:
    """Cut, train, report and release, or go on where an earlier run has ended.

    Args:
        request: the command line.
        say: is given lines to show.
        is_dry: say what would be done, and end.

    Returns:
        What was made; None for a dry run.

    Raises:
        ValueError: the request cannot be done, or contradicts the plan of its folder.
        TrainingFailed: a training has ended with an error.
        FolderInUse: another run works in the folder, or has changed its plan meanwhile.
    """
    request = replace(request, out=request.out.absolute())
    earlier = read_plan(Folders(request.out).plan)
    planned = plan_run(request)
    text = describe_plan(planned.plan, look_at(planned.images), planned.news)
    for line in text:
        say(line)
    if is_dry:
        return None
    request.out.mkdir(parents=True, exist_ok=True)
    with hold_folder(request.out):
        if read_plan(Folders(request.out).plan) != earlier:
            raise FolderInUse(
                f'{request.out} must not change while a run is planned, another run has changed '
                'it; run the same command again'
            )
        keep_plan(planned, Folders(request.out))
        return _run(request, planned, text, say)


def _run(request: Request, planned: Planned, text: list[str], say: Say) -> Results:
    plan, images, folders = planned.plan, planned.images, Folders(request.out)
    number = len(plan.passes)
    current = folders.of_pass(number)
    _cut(request, planned, folders, current, say)
    passes = [folders.of_pass(index) for index in range(1, number + 1)]
    stores = [one.cut for one in passes if one.is_cut]
    if not folders.contact_sheet.is_file():
        _write_sheet(folders, images, stores, say)
    gather_labels(stores, current)
    config = write_training_config(plan.settings, plan.current, current, Path(str(images.root)))
    schedule = plan.current.schedule
    if not keep_last_round(current, schedule):
        with timed(folders.steps, f'train, pass {number}'):
            train(current.config, current.work_dir, plan.settings.gpus, say)
        keep_last_round(current, schedule)
    release(config, weights_after(current, len(schedule.round_steps)), folders.release)
    say(f'the detector is in {folders.release}')
    few = None
    if request.labels is not None:
        shared = ClassRun(plan.settings, Path(str(images.root)).absolute(), folders)
        files = request.labels, request.annotations
        weights = weights_after(current, len(schedule.round_steps))
        few = learn_classes(shared, files, images.names, weights, say)
        say(f'the detector with classes is in {folders.class_release}')
    with timed(folders.steps, f'detect, pass {number}'):
        detections = detect_after_each_round(config, schedule, images, current, request.workers)
    count, rows = 0, list[list[str]]()
    if request.annotations is not None:
        count, rows = scores(request.annotations, current, detections)
    found = agreement(current, detections)
    root, log = Path(str(images.root)), read_log(current.work_dir)
    results = Results(plan, text, root, detections, found, count, rows, few, log)
    write_run_report(request, results)
    say(f'look at {folders.report}')
    return results


def _cut(
    request: Request, planned: Planned, folders: Folders, current: PassFolders, say: Say
) -> None:
    """Cut what is to be cut, and draw the contact sheet as soon as it can be drawn."""
    settings, workers = planned.plan.settings, request.workers
    images = ImageList(planned.images.root, planned.to_cut)
    if len(images.names) > _CUT_FIRST:
        some = ImageList(images.root, tuple(sorted(_random_names(images.names))))
        cut_images(settings, some, current.folder / 'sheet', workers)
        _write_sheet(folders, some, [current.folder / 'sheet'], say)
    if images.names:
        with timed(folders.steps, f'cut, pass {len(planned.plan.passes)}'):
            cut_images(settings, images, current.cut, workers)
        _write_sheet(folders, images, [current.cut], say)


def _write_sheet(folders: Folders, images: ImageList, stores: list[Path], say: Say) -> None:
    chosen = set(_random_names(images.names))
    labelled = chain.from_iterable(map(read_store, stores))
    records = (record for record in labelled if record.name in chosen)
    save_picture(folders.contact_sheet, draw_sheet(Path(str(images.root)), records))
    say(f'pseudo-labels of {len(chosen)} images: {folders.contact_sheet}')


def _random_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return in_random_order(names, 'contact sheet')[:NUM_SHOWN]

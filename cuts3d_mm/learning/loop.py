"""Learn a detector from a folder of images: label, train, detect, report."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import read_generator_config
from cuts3d_mm.files.lock import FolderInUse, hold_folder
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import labeller_config
from cuts3d_mm.labellers.registry import with_depth_folder
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.merging import KeptPredictions, MergeRule
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_store, write_store
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.visualization.pictures import save_picture

from .classes import ClassRun, FewLabels, learn_classes
from .plan import (
    Folders,
    PassFolders,
    Request,
    Schedule,
    Settings,
    in_random_order,
    read_pass_images,
    read_plan,
    watched_names,
)
from .planning import Planned, describe_plan, keep_plan, look_at, plan_run
from .report import (
    NUM_SHOWN,
    Results,
    agreement,
    draw_sheet,
    scores,
    write_run_report,
)
from .training import (
    keep_last_round,
    read_log,
    release,
    timed,
    train,
    weights_after,
    write_training_config,
)

_CUT_FIRST = 10 * NUM_SHOWN  # images; of more than that the contact sheet is cut first
Say = Callable[[str], None]
_MOST_PER_IMAGE = 100  # as COCO scores them


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
    text = describe_plan(planned.plan, look_at(planned.images), planned.news, request.workers)
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
    folders = Folders(request.out)
    current = folders.of_pass(len(planned.plan.passes))
    _label(request, planned, current, say)
    config = _train(planned, folders, current, say)
    few = None
    if request.labels is not None:
        few = _learn_classes((request.labels, request.annotations), planned, folders, say)
    results = _compare(request, planned, config, few, text)
    write_run_report(request, results)
    say(f'look at {folders.report}')
    return results


def _label(request: Request, planned: Planned, current: PassFolders, say: Say) -> None:
    """Cut the images that no pass has cut, and gather the labels of all."""
    folders = Folders(request.out)
    _cut(request, planned, folders, current, say)
    passes = [folders.of_pass(index + 1) for index in range(len(planned.plan.passes))]
    stores = [one.cut for one in passes if one.is_cut]
    if not folders.contact_sheet.is_file():
        _write_sheet(folders, planned.images, stores, say)
    gather_labels(stores, current)


def _train(planned: Planned, folders: Folders, current: PassFolders, say: Say) -> Any:
    """Train all rounds, release the last, and return the config."""
    plan, root = planned.plan, _root_of(planned)
    config = write_training_config(plan.settings, plan.current, current, root)
    schedule = plan.current.schedule
    if not keep_last_round(current, schedule):
        with timed(folders.steps, f'train, pass {len(plan.passes)}'):
            train(current.config, current.work_dir, plan.settings.gpus, say)
        keep_last_round(current, schedule)
    release(config, _last_weights(planned, current), folders.release)
    say(f'the detector is in {folders.release}')
    return config


def _learn_classes(
    files: tuple[Path, Path | None], planned: Planned, folders: Folders, say: Say
) -> FewLabels:
    shared = ClassRun(planned.plan.settings, _root_of(planned).absolute(), folders)
    weights = _last_weights(planned, folders.of_pass(len(planned.plan.passes)))
    few = learn_classes(shared, files, planned.images.names, weights, say)
    say(f'the detector with classes is in {folders.class_release}')
    return few


def _compare(
    request: Request, planned: Planned, config: Any, few: FewLabels | None, text: list[str]
) -> Results:
    """Let the detector of each round label the held-out images, and score what it finds."""
    folders, plan = Folders(request.out), planned.plan
    current, schedule = folders.of_pass(len(plan.passes)), plan.current.schedule
    images, workers = planned.images, request.workers
    with timed(folders.steps, f'detect, pass {len(plan.passes)}'):
        detections = detect_after_each_round(config, schedule, images, current, workers)
    count, rows = 0, list[list[str]]()
    if request.annotations is not None:
        count, rows = scores(request.annotations, images.names, current, detections)
    kept = [
        KeptPredictions.of(current.predictions(number), MergeRule(one['score_thr']))
        for number, one in enumerate(config.train_cfg.get('rounds', ()), 1)
    ]
    found, log = agreement(current, detections), read_log(current.work_dir)
    return Results(plan, text, _root_of(planned), detections, kept, found, count, rows, few, log)


def _last_weights(planned: Planned, current: PassFolders) -> Path:
    return weights_after(current, len(planned.plan.current.schedule.round_steps))


def _root_of(planned: Planned) -> Path:
    return Path(str(planned.images.root))


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
            counts = cut_images(settings, images, current.cut, workers)
        if counts.failures:
            failures = current.cut / 'failures.jsonl'
            say(f'{counts.failures} of {counts.images} images failed, see {failures}')
        _write_sheet(folders, images, [current.cut], say)


def _write_sheet(folders: Folders, images: ImageList, stores: list[Path], say: Say) -> None:
    chosen = set(_random_names(images.names))
    labelled = chain.from_iterable(map(read_store, stores))
    records = (record for record in labelled if record.name in chosen)
    save_picture(folders.contact_sheet, draw_sheet(Path(str(images.root)), records))
    say(f'pseudo-labels of {len(chosen)} images: {folders.contact_sheet}')


def _random_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return in_random_order(names, 'contact sheet')[:NUM_SHOWN]


def cut_images(settings: Settings, images: ImageList, store: Path, workers: int | None) -> Counts:
    """Cut instances out of images, as `cuts3d generate` does."""
    config = read_generator_config(settings.generator, [])
    model = with_depth_folder(config.to_dict()['model'], settings.depth)
    task = f'cutting {Path(str(images.root)).name}'
    return label(model, config.get('custom_imports'), images, store, workers, task)


def gather_labels(stores: Sequence[Path], folders: PassFolders) -> None:
    """Write the labels of all passes as those to train on and those of the held-out images.

    Args:
        stores: of all passes so far, each image in one of them.
        folders: of this pass; what is there already is kept.

    Raises:
        ValueError: no image to train on has an instance.
    """
    images = read_pass_images(folders.images)
    chosen, watched = set(images.names) - set(images.held_out), set(watched_names(folders))
    if not folders.held_out.is_file():
        write_coco(folders.held_out, lambda: _records(stores, watched))
    if folders.labels.is_dir():
        return
    if not any(record.instances for record in _records(stores, chosen)):
        failed = [one for one in _records(stores, chosen) if one.failure is not None]
        reason = f', the first with "{failed[0].failure}"' if failed else ''
        raise ValueError(
            f'the images must hold something that {folders.cut} finds, none of {len(chosen)} '
            f'images to train on has an instance, and {len(failed)} of them failed{reason}; look '
            'at contact_sheet.jpg, and choose another OUT for another --config or --depth'
        )
    write_store(folders.labels, _records(stores, chosen))


def _records(stores: Sequence[Path], names: set[str]) -> Iterator[ImageRecord]:
    """Records of some images, in the order of their names."""
    merged = heapq.merge(*map(read_store, stores), key=lambda record: record.name)
    return (record for record in merged if record.name in names)


def detect_after_each_round(
    config: Any,
    schedule: Schedule,
    images: ImageList,
    folders: PassFolders,
    workers: int | None,
) -> list[Path]:
    """Label the watched images by the detectors at the end of all rounds.

    Args:
        config: of the training.
        schedule: of the training, which has ended.
        images: of the pass.
        folders: of the pass.
        workers: processes; None: all cores.

    Returns:
        A label store for each round, the initial one first.
    """
    watched = ImageList(images.root, tuple(sorted(watched_names(folders))))
    stores = []
    for number in range(len(schedule.round_steps) + 1):
        weights = weights_after(folders, number)
        model = labeller_config(
            config, str(weights), max_per_image=_MOST_PER_IMAGE, confidence_source='none'
        )
        store = folders.detections(number)
        task = f'detecting after round {number}'
        label(model, config.get('custom_imports'), watched, store, workers, task)
        stores.append(store)
    return stores

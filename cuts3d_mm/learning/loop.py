"""Learn a detector from a folder of images: label, train, detect, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cuts3d_mm.arrays import Double
from cuts3d_mm.configs import SCORE_THR
from cuts3d_mm.engine.self_training import RoundFolders, read_kept
from cuts3d_mm.files.atomic import name_atomically, write_whole
from cuts3d_mm.files.lock import FolderInUse, hold_folder
from cuts3d_mm.hub.client import (
    HUB_PREFIX,
    WEIGHTS_FILE,
    HubError,
    advising,
    find_release,
    hub_answers,
    locate_file,
    no_connection,
)
from cuts3d_mm.hub.publishing import PICTURE_FILE, Learned
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.detector import labeller_config
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.gate import check_labels
from cuts3d_mm.labels.merging import LabelSelection, select_records
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import Counts, read_scores, read_store, write_store
from cuts3d_mm.pipeline.identity import accept_changes
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.run import is_whole
from cuts3d_mm.pipeline.work import ConfiguredLabeller
from cuts3d_mm.visualization.contact_sheets import NUM_SHOWN, draw_sheet
from cuts3d_mm.visualization.pictures import save_picture

from .classes import learn_classes
from .plan import (
    Folders,
    Request,
    Settings,
    advise_weights,
    in_random_order,
    read_plan,
    watched_names,
    write_plan,
)
from .planning import (
    Planned,
    describe_plan,
    find_downloads,
    is_hand_made,
    labeller_of,
    look_at,
    plan_run,
    usual_schedule,
)
from .report import (
    Results,
    agreement,
    scores,
    write_run_report,
)
from .training import (
    Say,
    TrainingLog,
    keep_rounds,
    read_log,
    release,
    selected_annotations,
    timed,
    train,
    weights_after,
    write_training_config,
)
from .verdict import Evidence, judge

_IN_CARD = 6  # images in the picture of the model card
_CUT_FIRST = 10 * NUM_SHOWN  # images; where there are more, the contact sheet is cut first
Ask = Callable[[str], bool]
_MOST_PER_IMAGE = 100  # as COCO scores them


def learn(
    request: Request, say: Say, is_dry: bool = False, ask: Ask = lambda question: False
) -> Results | None:
    """Cut, train, report and release, or go on where an earlier run has ended.

    Args:
        request: the command line.
        say: is given lines to show.
        is_dry: say what would be done, and end.
        ask: answers whether to go on where labels look wrong, or images have changed since they
            were labelled.

    Returns:
        What was made; None for a dry run.

    Raises:
        ValueError: the request cannot be done, or contradicts the plan of its folder; or nobody
            says that the run is to go on, see `ask`.
        TrainingFailed: a training has ended with an error.
        FolderInUse: another run works in the folder, or has changed its plan meanwhile.
    """
    planned = plan_run(replace(request, out=request.out.absolute()))
    text = [*look_at(planned.images), *describe_plan(planned)]
    for line in text:
        say(line)
    if planned.changes:
        _agree_on_changes(planned, say, ask)
    if is_dry:
        downloads = find_downloads(planned.plan.settings)
        if downloads and not hub_answers():
            say(
                f'warning: not on this machine: {", ".join(downloads)}; {no_connection()}, or '
                f'{_advise_offline(request)}'
            )
        return None
    folders = planned.folders
    if not folders.labels.is_dir():
        _fetch_weights(request, planned.plan.settings)
    folders.out.mkdir(parents=True, exist_ok=True)
    with hold_folder(folders.out):
        if read_plan(folders.plan) != planned.earlier:
            raise FolderInUse(
                f'{folders.out} must not change while a run is planned, another run has changed '
                'it; run the same command again'
            )
        if planned.plan != planned.earlier:
            write_plan(folders.plan, planned.plan)
        if planned.changes:
            accept_changes(folders.out, planned.root)
        try:
            return _run(planned, text, say, ask)
        except HubError as error:
            if planned.earlier is None and not folders.labels.is_dir():
                folders.plan.unlink()  # nothing was done by it
            error.__notes__ = [_advise_offline(request)]
            raise


def _fetch_weights(request: Request, settings: Settings) -> None:
    """Download all weights at the start: what is missing is said before hours of labelling."""
    for location in find_downloads(settings):
        if location == settings.load_from:
            try:
                locate_file(location)
            except HubError:  # says which folder a misspelt name may mean
                find_release(location.removeprefix(HUB_PREFIX).removesuffix(f'/{WEIGHTS_FILE}'))
                raise
            continue
        with advising(_advise_offline(request)):
            locate_file(location)


def _advise_offline(request: Request) -> str:
    """Say how a run needs no download."""
    without = ' without --config' if request.config else ''
    if request.offline:
        return 'leave out --config, --detector and --load-from: --offline downloads nothing then'
    return f'add --offline{without}: it downloads nothing'


def _agree_on_changes(planned: Planned, say: Say, ask: Ask) -> None:
    changes, out = ' and '.join(planned.changes), planned.folders.out
    say(f'since they were labelled: {changes}')
    question = (
        f'{changes} since the labels in {out} were made. Go on with the labels that are there, '
        'without the files that are gone?'
    )
    if not (planned.request.yes or ask(question)):
        raise ValueError(
            f'the images must be those that {out} was planned for, since then {changes}; choose '
            f'another OUT{advise_weights(out)}, or go on with --yes: labels that are there stay, '
            'and files that are gone are left out of the training, one image or 1 % at most'
        )


def _run(planned: Planned, text: list[str], say: Say, ask: Ask) -> Results:
    request, folders, settings = planned.request, planned.folders, planned.plan.settings
    names = planned.images.names
    _cut(planned, say, ask)
    num_selected, labels = gather_labels(folders, planned.held_out, settings.select)
    selection = LabelSelection.parse(settings.select).describe(labels)
    say(f'{num_selected:,} of {len(labels):,} labels are trained on: {selection}')
    config = _train(planned, say)
    weights = weights_after(folders, planned.num_rounds)
    with timed(folders.costs, 'detect'):
        detections = _detect_after_each_round(config, planned)
    found, few = agreement(folders, detections), None
    evidence = _gather_evidence(planned, num_selected, found, detections[-1])
    verdict = judge(evidence)
    _draw_detections(planned, detections[-1])
    learned = Learned(
        num_images=len(names) - len(planned.held_out),
        recipe=Path(settings.generator).stem,
        num_cut=len(labels),
        num_selected=num_selected,
        selection=selection,
        agreement=evidence.agreement,
    )
    release(config, weights, folders.release, (f'It {verdict.finding}.',), learned)
    if request.labels is not None:
        few = learn_classes(planned, request.labels, weights, say)
        say(f'the detector with classes is in {folders.class_release}')
    count, rows = 0, list[list[str]]()
    if request.annotations is not None:
        count, rows = scores(request.annotations, names, folders, detections)
    rounds = range(1, planned.num_rounds + 1)
    kept = [read_kept(RoundFolders(folders.round(number))) for number in rounds]
    log = read_log(folders.work_dir)
    results = Results(planned, text, detections, kept, found, verdict, count, rows, few, log)
    write_run_report(results)
    say(f'look at {folders.report}')
    say(f'the detector in {folders.release} {verdict}')
    return results


def _gather_evidence(
    planned: Planned, num_labels: int, found: Sequence[Mapping[str, float]], detections: Path
) -> Evidence:
    """Gather what the last detector is judged by: agreement, detections in the watched images."""
    plan, truth = planned.plan, planned.folders.read_held_out()
    return Evidence(
        agreement=found[-1]['AP50'] if found else None,
        num_objects=len(selected_annotations(truth)),
        num_images=len(truth['images']),
        best_score=float(max(read_scores(detections), default=0.0)),
        num_labels=num_labels,
        steps=plan.schedule.initial_steps,
        usual_steps=usual_schedule(plan.settings, plan.schedule.num_images).initial_steps,
        is_hand_made=is_hand_made(plan.settings),
    )


def _draw_detections(planned: Planned, detections: Path) -> None:
    """Draw what the last detector finds in some held-out images, for the model card."""
    names = watched_names(planned.held_out)[:_IN_CARD]
    records = (one for one in read_store(detections) if one.name in names)
    sheet = draw_sheet(planned.root, select_records(records, SCORE_THR))
    planned.folders.release.mkdir(exist_ok=True)
    save_picture(planned.folders.release / PICTURE_FILE, sheet)


def _cut(planned: Planned, say: Say, ask: Ask) -> None:
    """Cut the images; draw and check the first labels as soon as they are there."""
    folders, images = planned.folders, planned.images
    names = in_random_order(images.names, 'contact sheet')[:NUM_SHOWN]
    cuts_some_first = len(images.names) > _CUT_FIRST and not folders.labels.is_dir()
    if cuts_some_first:
        store = folders.out / 'sheet'
        _cut_images(planned, ImageList(images.root, tuple(sorted(names))), store)
        _look_at_labels(planned, names, store, say, ask)
    with timed(folders.costs, 'cut'):
        counts = _cut_images(planned, images, folders.cut)
    if counts.failures:
        failures = folders.cut / 'failures.jsonl'
        say(f'{counts.failures} of {counts.images} images failed, see {failures}')
    if not cuts_some_first:
        _look_at_labels(planned, names, folders.cut, say, ask)


def _cut_images(planned: Planned, images: ImageList, store: Path) -> Counts:
    """Cut instances out of images, as `cuts3d generate` does."""
    task = f'cutting {Path(str(images.root)).name}'
    return label(labeller_of(planned.plan.settings), images, store, planned.request.workers, task)


def _look_at_labels(
    planned: Planned, names: Sequence[str], store: Path, say: Say, ask: Ask
) -> None:
    """Draw labels, and stop before hours of labelling and training where they look wrong."""
    sheet = planned.folders.contact_sheet
    if not sheet.is_file():
        records = (record for record in read_store(store) if record.name in set(names))
        save_picture(sheet, draw_sheet(planned.root, records))
        say(f'pseudo-labels of {len(names)} images: {sheet}')
    if planned.folders.labels.is_dir():
        return
    found = check_labels(read_store(store))
    say(f'first labels: {found}')
    if not found.faults or planned.request.yes:
        return
    faults = ' and '.join(found.faults)
    if not ask(f'The first labels have {faults}; see {sheet}. Go on?'):
        raise ValueError(
            f'the first labels must be worth training on, they have {faults}: {found}; look at '
            f'{sheet}, choose another OUT for another --config or --depth, or go on with --yes'
        )


def gather_labels(folders: Folders, held_out: Sequence[str], select: str) -> tuple[int, Double]:
    """Divide the labels into those to train on and those of the watched images.

    Labels of watched images that the selection leaves out are marked as crowds, which no score
    counts: what the detector is not to learn is neither right nor wrong.

    Args:
        folders: folders of the run; what is there already is kept.
        held_out: names of the images that are not trained on.
        select: labels to train on, as `LabelSelection` reads it.

    Returns:
        Number of labels that are trained on, and the scores (N,) of all labels.

    Raises:
        ValueError: no image to train on has an instance.
    """
    watched, untrained = set(watched_names(held_out)), set(held_out)
    if not folders.labels.is_dir():
        _require_instances(folders, untrained)
        write_store(folders.labels, _to_train_on(folders, untrained))
    found = read_scores(folders.labels)
    threshold = LabelSelection.parse(select).threshold(found)
    if not (found >= threshold).any():
        raise ValueError(
            f'--select must choose a label of {folders.labels}, none of {len(found)} has a score '
            f'of {threshold:g} or more, the best has {found.max():.2f}; choose another OUT for '
            'another --select, such as 50%'
        )
    if not folders.held_out.is_file():
        with name_atomically(folders.held_out) as temporary:
            write_coco(
                temporary, lambda: (one for one in read_store(folders.cut) if one.name in watched)
            )
            content = json.loads(temporary.read_text(encoding='utf-8'))
            for one in content['annotations']:  # their scores are rounded
                one['iscrowd'] = int(one['score'] < round(threshold, 6))
            write_whole(temporary, json.dumps(content))
    return int((found >= threshold).sum()), found


def _to_train_on(folders: Folders, untrained: Collection[str]) -> Iterator[ImageRecord]:
    return (record for record in read_store(folders.cut) if record.name not in untrained)


def _require_instances(folders: Folders, untrained: Collection[str]) -> None:
    if not any(record.instances for record in _to_train_on(folders, untrained)):
        failures = [record.failure for record in _to_train_on(folders, untrained)]
        failed = [failure for failure in failures if failure is not None]
        reason = f', the first with "{failed[0]}"' if failed else ''
        raise ValueError(
            f'the images must hold something that {folders.cut} finds, none of {len(failures)} '
            f'images to train on has an instance, and {len(failed)} of them failed{reason}; look '
            'at contact_sheet.jpg, and choose another OUT for another --config or --depth'
        )


def _train(planned: Planned, say: Say) -> Any:
    """Train all rounds, and return the config."""
    plan, folders = planned.plan, planned.folders
    config = write_training_config(plan, folders, planned.root)
    if not keep_rounds(folders, plan.schedule):
        with timed(folders.costs, 'train'):
            num_watched = len(watched_names(planned.held_out))
            num_objects = len(selected_annotations(folders.read_held_out()))
            interval, gpus = config.train_cfg.val_interval, plan.settings.gpus
            log = TrainingLog(num_objects, plan.schedule, interval, num_watched)
            train(folders.config, folders.work_dir, gpus, say, log)
        keep_rounds(folders, plan.schedule)
    return config


def _detect_after_each_round(config: Any, planned: Planned) -> list[Path]:
    """Label the watched images by the detectors after all rounds, a store each."""
    names = tuple(sorted(watched_names(planned.held_out)))
    images, stores = ImageList(planned.images.root, names), []
    for number in range(planned.num_rounds + 1):
        weights = str(weights_after(planned.folders, number))
        stores.append(planned.folders.detections(number))
        try:
            model = labeller_config(
                config, weights, max_per_image=_MOST_PER_IMAGE, confidence_source='none'
            )
        except ValueError:  # the checkpoint is damaged
            if not is_whole(stores[-1], len(names)):
                raise
            continue
        task = f'detecting after round {number} of {planned.num_rounds}'
        labeller = ConfiguredLabeller(model, config.get('custom_imports'))
        label(labeller, images, stores[-1], planned.request.workers, task)
    return stores

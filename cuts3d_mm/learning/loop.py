"""Learn a detector from a folder of images: label, train, detect, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from cuts3d_mm.labels.merging import LabelSelection
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
    TimeAfterSteps,
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
Say = Callable[[str], None]
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
    request = replace(request, out=request.out.absolute())
    planned = plan_run(request)
    text = [*look_at(planned.images), *describe_plan(planned)]
    for line in text:
        say(line)
    if planned.changes:
        _agree_on_changes(planned, request, say, ask)
    if is_dry:
        downloads = find_downloads(planned.plan.settings)
        if downloads and not hub_answers():
            say(
                f'warning: not on this machine: {", ".join(downloads)}; {no_connection()}, or '
                f'{_advise_offline(request)}'
            )
        return None
    folders = Folders(request.out)
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
            return _run(request, planned, text, say, ask)
        except HubError as error:
            if planned.earlier is None and not folders.labels.is_dir():
                folders.plan.unlink()  # nothing was done by it
            error.__notes__ = [_advise_offline(request)]
            raise


def _fetch_weights(request: Request, settings: Settings) -> None:
    """Download all weights at the start: what is missing is said before hours of labelling."""
    for location in find_downloads(settings):
        if location == settings.load_from:
            # Says which folder a misspelt name may mean.
            find_release(location.removeprefix(HUB_PREFIX).removesuffix(f'/{WEIGHTS_FILE}'))
            locate_file(location)
            continue
        with advising(_advise_offline(request)):
            locate_file(location)


def _advise_offline(request: Request) -> str:
    """Say how a run needs no download."""
    without = ' without --config' if request.config else ''
    if request.offline:
        return 'leave out --config, --detector and --load-from: --offline downloads nothing then'
    return f'add --offline{without}: it downloads nothing'


def _agree_on_changes(planned: Planned, request: Request, say: Say, ask: Ask) -> None:
    changes, out = ' and '.join(planned.changes), request.out
    say(f'since they were labelled: {changes}')
    question = (
        f'{changes} since the labels in {out} were made. Go on with the labels that are there, '
        'without the files that are gone?'
    )
    if not (request.yes or ask(question)):
        raise ValueError(
            f'the images must be those that {out} was planned for, since then {changes}; choose '
            f'another OUT{advise_weights(out)}, or go on with --yes: labels that are there stay, '
            'and files that are gone are left out of the training, one image or 1 % at most'
        )


def _run(request: Request, planned: Planned, text: list[str], say: Say, ask: Ask) -> Results:
    folders = Folders(request.out)
    _cut(request, planned, folders, say, ask)
    select = planned.plan.settings.select
    num_selected, labels = gather_labels(folders, planned.held_out, select)
    chosen = LabelSelection.parse(select).describe(labels)
    say(f'{num_selected:,} of {len(labels):,} labels are trained on: {chosen}')
    config = _train(planned, folders, say)
    weights, names = weights_after(folders, planned.num_rounds), planned.images.names
    with timed(folders.costs, 'detect'):
        detections = detect_after_each_round(config, planned, folders, request.workers)
    found, few = agreement(folders, detections), None
    evidence = _gather_evidence(planned, folders, found, detections[-1])
    verdict = judge(evidence)
    _draw_detections(planned, detections[-1], folders.release / PICTURE_FILE)
    learned = _learned(planned, folders, evidence)
    release(config, weights, folders.release, (f'It {verdict.finding}.',), learned)
    if request.labels is not None:
        files = request.labels, request.annotations
        few = learn_classes(planned.plan, planned.root, folders, files, names, weights, say)
        say(f'the detector with classes is in {folders.class_release}')
    count, rows = 0, list[list[str]]()
    if request.annotations is not None:
        count, rows = scores(request.annotations, names, folders, detections)
    kept = [
        read_kept(RoundFolders(folders.round(number)))
        for number in range(1, planned.num_rounds + 1)
    ]
    log = read_log(folders.work_dir)
    results = Results(planned, text, detections, kept, found, verdict, count, rows, few, log)
    write_run_report(request, results)
    say(f'look at {folders.report}')
    say(f'the detector in {folders.release} {verdict}')
    return results


def _gather_evidence(
    planned: Planned, folders: Folders, found: Sequence[Mapping[str, float]], detections: Path
) -> Evidence:
    """Gather what the last detector is judged by: agreement, detections in the watched images."""
    plan = planned.plan
    truth = json.loads(folders.held_out.read_text(encoding='utf-8'))
    labels = read_scores(folders.labels)
    selected = labels >= LabelSelection.parse(plan.settings.select).threshold(labels)
    usual = usual_schedule(plan.settings, plan.schedule.num_images)
    return Evidence(
        agreement=found[-1]['AP50'] if found else None,
        num_objects=len(selected_annotations(truth)),
        num_images=len(truth['images']),
        best_score=float(max(read_scores(detections), default=0.0)),
        num_labels=int(selected.sum()),
        steps=plan.schedule.initial_steps,
        usual_steps=usual.initial_steps,
        is_hand_made=is_hand_made(plan.settings),
    )


def _learned(planned: Planned, folders: Folders, evidence: Evidence) -> Learned:
    """What the model card says of the labels and the agreement with them."""
    settings, labels = planned.plan.settings, read_scores(folders.labels)
    return Learned(
        num_images=len(planned.images.names) - len(planned.held_out),
        recipe=Path(settings.generator).stem,
        num_cut=len(labels),
        num_selected=evidence.num_labels,
        selection=LabelSelection.parse(settings.select).describe(labels),
        agreement=evidence.agreement,
    )


def _draw_detections(planned: Planned, detections: Path, path: Path) -> None:
    """Draw what the last detector finds in some held-out images, for the model card."""
    names = watched_names(planned.held_out)[:_IN_CARD]
    records = (
        replace(one, instances=tuple(i for i in one.instances if i.score >= SCORE_THR))
        for one in read_store(detections)
        if one.name in names
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_picture(path, draw_sheet(planned.root, records))


def _cut(request: Request, planned: Planned, folders: Folders, say: Say, ask: Ask) -> None:
    """Cut the images; draw and check the first labels as soon as they are there."""
    settings, images, workers = planned.plan.settings, planned.images, request.workers
    names = in_random_order(images.names, 'contact sheet')[:NUM_SHOWN]
    is_large = len(images.names) > _CUT_FIRST
    if is_large and not folders.labels.is_dir():
        some, store = ImageList(images.root, tuple(sorted(names))), folders.out / 'sheet'
        cut_images(settings, some, store, workers)
        if not folders.contact_sheet.is_file():
            _write_sheet(planned, folders, names, store, say)
        _require_sound(request, folders, store, say, ask)
    with timed(folders.costs, 'cut'):
        counts = cut_images(settings, images, folders.cut, workers)
    if counts.failures:
        failures = folders.cut / 'failures.jsonl'
        say(f'{counts.failures} of {counts.images} images failed, see {failures}')
    if not folders.contact_sheet.is_file():
        _write_sheet(planned, folders, names, folders.cut, say)
    if not is_large and not folders.labels.is_dir():
        _require_sound(request, folders, folders.cut, say, ask)


def _require_sound(request: Request, folders: Folders, store: Path, say: Say, ask: Ask) -> None:
    """Stop before hours of labelling and training where the first labels look wrong."""
    found = check_labels(read_store(store))
    say(f'first labels: {found}')
    if not found.faults or request.yes:
        return
    faults = ' and '.join(found.faults)
    if ask(f'The first labels have {faults}; see {folders.contact_sheet}. Go on?'):
        return
    raise ValueError(
        f'the first labels must be worth training on, they have {faults}: {found}; look at '
        f'{folders.contact_sheet}, choose another OUT for another --config or --depth, or go on '
        'with --yes'
    )


def _write_sheet(
    planned: Planned, folders: Folders, names: Sequence[str], store: Path, say: Say
) -> None:
    records = (record for record in read_store(store) if record.name in set(names))
    save_picture(folders.contact_sheet, draw_sheet(planned.root, records))
    say(f'pseudo-labels of {len(names)} images: {folders.contact_sheet}')


def cut_images(settings: Settings, images: ImageList, store: Path, workers: int | None) -> Counts:
    """Cut instances out of images, as `cuts3d generate` does."""
    task = f'cutting {Path(str(images.root)).name}'
    return label(labeller_of(settings), images, store, workers, task)


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

    def records(is_chosen: Callable[[str], bool]) -> Iterator[ImageRecord]:
        return (record for record in read_store(folders.cut) if is_chosen(record.name))

    def to_train_on() -> Iterator[ImageRecord]:
        return records(lambda name: name not in untrained)

    if not folders.labels.is_dir():
        _require_instances(to_train_on, folders)
        write_store(folders.labels, to_train_on())
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
            write_coco(temporary, lambda: records(watched.__contains__))
            content = json.loads(temporary.read_text(encoding='utf-8'))
            for one in content['annotations']:  # their scores are rounded
                one['iscrowd'] = int(one['score'] < round(threshold, 6))
            write_whole(temporary, json.dumps(content))
    return int((found >= threshold).sum()), found


def _require_instances(to_train_on: Callable[[], Iterator[ImageRecord]], folders: Folders) -> None:
    if not any(record.instances for record in to_train_on()):
        failures = [record.failure for record in to_train_on()]
        failed = [failure for failure in failures if failure is not None]
        reason = f', the first with "{failed[0]}"' if failed else ''
        raise ValueError(
            f'the images must hold something that {folders.cut} finds, none of {len(failures)} '
            f'images to train on has an instance, and {len(failed)} of them failed{reason}; look '
            'at contact_sheet.jpg, and choose another OUT for another --config or --depth'
        )


def _train(planned: Planned, folders: Folders, say: Say) -> Any:
    """Train all rounds, and return the config."""
    plan = planned.plan
    config = write_training_config(plan, folders, planned.root)
    if not keep_rounds(folders, plan.schedule):
        with timed(folders.costs, 'train'):
            num_watched = len(watched_names(planned.held_out))
            after = TimeAfterSteps(plan.schedule, config.train_cfg.val_interval, num_watched)
            truth, gpus = json.loads(folders.held_out.read_text('utf-8')), plan.settings.gpus
            num_objects = len(selected_annotations(truth))
            train(folders.config, folders.work_dir, gpus, say, after, num_objects)
        keep_rounds(folders, plan.schedule)
    return config


def detect_after_each_round(
    config: Any, planned: Planned, folders: Folders, workers: int | None
) -> list[Path]:
    """Label the watched images by the detectors at the end of all rounds.

    Args:
        config: config of the training, which has ended.
        planned: the run.
        folders: folders of the run.
        workers: processes; None: all cores.

    Returns:
        A label store for each round, the initial round first.
    """
    names = tuple(sorted(watched_names(planned.held_out)))
    images, stores = ImageList(planned.images.root, names), []
    for number in range(planned.num_rounds + 1):
        weights = str(weights_after(folders, number))
        stores.append(folders.detections(number))
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
        label(labeller, images, stores[-1], workers, task)
    return stores

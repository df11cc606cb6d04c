"""Run the demo: label image sets by two recipes, score them, write a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cuts3d_mm.algorithm.cut_instances import ImageCuts
from cuts3d_mm.arrays import Mask, Pixels
from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.evaluation.label_scores import compare, labels_as_detections, score_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import ImageFailure, read_image
from cuts3d_mm.labellers.networks import build_on
from cuts3d_mm.labellers.registry import build_labeller, check_labeller, fetch_weights
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.merging import select_records
from cuts3d_mm.labels.record import decode_mask
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning.plan import Request
from cuts3d_mm.pipeline.labelling import label
from cuts3d_mm.pipeline.work import ConfiguredLabeller
from cuts3d_mm.visualization import report_page as page
from cuts3d_mm.visualization.charts import draw_rounds, draw_training, format_table, percent
from cuts3d_mm.visualization.figures import draw_comparison, draw_stages
from cuts3d_mm.visualization.overlays import draw_instances
from cuts3d_mm.visualization.pictures import save_figure

from .photos import HELD_OUT_SEED, TRAINING_SEED, DemoSet, write_demo_sets, write_scenes

RECIPES = {
    'MaskCut (2D)': 'maskcut_color-texture.py',
    'CutS3D': 'cuts3d_color-texture_file-depth.py',
}
_DINO, _WITH_DINO = 'cuts3d_dino-vits8_zoedepth', 'CutS3D with DINO'
_SMALL_DEPTH = (  # Apache-2.0, as DINO
    'model.depth.model=depth-anything/Depth-Anything-V2-Small-hf',
    'model.depth.predicts=disparity',
)
METRICS = ('AP', 'AP50', 'AR100')
_PICTURE_SCENE, _PICTURE_DPI = 10, 110  # two balls that touch
_TITLE = 'Objects found without a single human label'
_INTRODUCTION = (
    'CutS3D cuts objects out of unlabelled images where self-supervised features and depth agree '
    'that something ends. MaskCut, on the left, is its two-dimensional ancestor on the same '
    'features; objects of one kind that touch in the image are one object to it. Click on '
    '"how CutS3D came to it" under an image for the stages.'
)
_FEATURES = (
    'The features here are hand-made from colour and texture, so that nothing is downloaded: '
    'they see surfaces, not kinds of objects, and walls and floors count as objects.'
)
_NUM_SCENES_SHOWN = 6  # the others are opened by a click
NUM_SCENES = 96
NUM_TEST_SCENES, _NUM_DETECTIONS_SHOWN, _SHOWN_SCORE = 48, 12, 0.5
_AP50 = 1  # place of mask AP50 in the scores of a detector
_LEARNED_METRICS = ('mask AP %', 'mask AP50 %', 'box AP50 %')
Scores = dict[str, list[list[float]]]  # name -> scores of each seed
_WHY_LOSSES_RISE = (
    'The sum of the losses can rise at first: boxes and masks are learned from proposals that '
    'overlap an object, and there are few of those until the RPN has learned to propose some.'
)


def run_demo(
    out: Path,
    num_scenes: int,
    workers: int,
    pictures: Path | None,
    rounds: int,
    num_seeds: int,
) -> str:
    """Label, score, train and write the page; labels and trainings that exist are kept.

    Args:
        out: folder to write; `index.html` is the page.
        num_scenes: number of scenes to render.
        workers: number of processes.
        pictures: folder for the pictures of the docs; None writes no pictures.
        rounds: rounds of self-training.
        num_seeds: number of trainings of a tiny detector; 0 leaves them out.

    Returns:
        The tables of scores as text.
    """
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    sets = write_demo_sets(out / 'data', num_scenes)
    stores = [_label(out, one, workers) for one in sets]
    rows = _score_rows(sets[-1], stores[-1])
    write_whole(out / 'scores.json', json.dumps(rows, indent=1))
    *singles, scenes = (list(_compare(*pair)) for pair in zip(sets, stores, strict=True))
    photos = _cut_with_dino([photo for single in singles for photo in single])
    trainings = dict(learn_from_scenes(out, workers, rounds, num_seeds)) if num_seeds else {}
    header = ['recipe', *(f'mask {name} %' for name in METRICS)]
    caption = f'Class-agnostic scores of the labels of {sets[-1].title}.'
    scores = page.table(header, rows, caption)
    write_page(out / 'index.html', scores, photos, scenes, list(trainings.values()))
    if pictures is not None:
        _write_pictures(pictures, photos[0], scenes, trainings)
    tables = [(header, rows), *((one.header, one.rows) for one in trainings.values())]
    return '\n\n'.join(format_table(*table) for table in tables)


def _write_pictures(
    folder: Path,
    photo: Comparison,
    scenes: list[Comparison],
    trainings: dict[str, Training],
) -> None:
    balls = scenes[min(_PICTURE_SCENE, len(scenes) - 1)]
    figures = {
        'photo.jpg': draw_comparison(photo.image, photo.flat, photo.cuts),
        'stages.jpg': draw_stages(balls.image, balls.cuts),
        **{f'{name}.png': one.curves for name, one in trainings.items()},
    }
    for name, figure in figures.items():
        save_figure(folder / name, figure, _PICTURE_DPI)


def _model(config: str, demo_set: DemoSet) -> dict[str, Any]:
    options = []
    if config != RECIPES['MaskCut (2D)']:
        options += [
            f'model.depth.larger_is={demo_set.larger_is}',
            f'model.depth.root={demo_set.depth}',
        ]
    return load_generator_config(config, options)


def label_set(config: str, demo_set: DemoSet, store: Path, workers: int) -> None:
    """Label the images of a set by a shipped config; a run that was stopped goes on."""
    images = list_images(demo_set.images)
    task = f'labelling {images.root.parent.name} by {config}'
    labeller = ConfiguredLabeller(_model(config, demo_set))
    label(labeller, images, store, workers, task, devices='cpu', batch_size=1)


def _label(out: Path, demo_set: DemoSet, workers: int) -> dict[str, Path]:
    """Label a set by both recipes, each into a store of its own."""
    stores = {}
    for recipe, config in RECIPES.items():
        stores[recipe] = out / 'labels' / f'{Path(config).stem}_{demo_set.folder.name}'
        label_set(config, demo_set, stores[recipe], workers)
    return stores


def _score_rows(scenes: DemoSet, stores: dict[str, Path]) -> list[list[str]]:
    rows = []
    for recipe, store in stores.items():
        found = score_labels(read_store(store), read_ground_truth(scenes.ground_truth))['segm']
        rows.append([recipe, *(percent(found[name]) for name in METRICS)])
    return rows


def _compare(demo_set: DemoSet, stores: dict[str, Path]) -> Iterator[Comparison]:
    """Collect what both recipes find in each image of a set."""
    generator = build_labeller(_model(RECIPES['CutS3D'], demo_set))
    for record in read_store(stores['MaskCut (2D)']):
        flat = [decode_mask(instance, record.image_hw) for instance in record.instances]
        image = read_image(demo_set.images / record.name)
        title = demo_set.title if demo_set.is_photo else Path(record.name).stem
        cuts = generator.explain(image, name=record.name)
        yield Comparison(title, image, flat, cuts)


def _cut_with_dino(photos: list[Comparison]) -> list[Comparison]:
    """Add what CutS3D finds with DINO and a depth network, if both can be had."""
    try:
        model = load_generator_config(_DINO, [*_SMALL_DEPTH])
        check_labeller(model)
        fetch_weights(model)  # from the cache, if the Hub does not answer within 5 s
        generator = build_on(model, 'cpu')
        return [replace(one, dino=generator.explain(one.image)) for one in photos]
    except (ImportError, OSError, ValueError, RuntimeError, ImageFailure) as error:
        _say(
            f'the page has no column "{_WITH_DINO}": {str(error).partition(";")[0]}; the same '
            'command adds it once both networks, 190 MB, can be downloaded'
        )
        return photos


@dataclass(frozen=True)
class Comparison:
    """What both recipes found in one image."""

    title: str
    image: Pixels  # (H, W, 3) RGB
    flat: Sequence[Mask]  # masks of MaskCut, (H, W)
    cuts: ImageCuts  # instances and stages of CutS3D
    dino: ImageCuts | None = None  # the same with DINO and the depth of a network


@dataclass(frozen=True)
class Training:
    """A training on pseudo-labels, or a comparison of several, as the page shows it."""

    title: str
    text: str
    header: Sequence[str]  # header of the table of scores
    rows: Sequence[Sequence[str]]
    curves: Figure
    pictures: Sequence[str] = ()  # HTML


def write_page(
    path: Path,
    scores: str,
    photos: Sequence[Comparison],
    scenes: Sequence[Comparison],
    trainings: Sequence[Training],
) -> None:
    """Write the page: a table of scores (HTML), photos, scenes, then trainings."""
    drawn = [[_draw_comparison(one) for one in images] for images in (photos, scenes)]
    shown = page.first_blocks(drawn[1], _NUM_SCENES_SHOWN, 'scenes')
    sections = {'Photos': drawn[0], 'Rendered scenes': shown}
    for one in trainings:
        curves = page.picture_of_figure(one.curves, is_chart=True)
        table = page.table(one.header, one.rows)
        sections[one.title] = [page.text(one.text), table, curves, *one.pictures]
    introduction = [page.text(_INTRODUCTION), page.text(_FEATURES), scores]
    write_whole(path, page.render_report(_TITLE, introduction, sections))


def _draw_comparison(one: Comparison) -> str:
    """Show both recipes on the same image, large, and the stages of CutS3D after a click."""
    image = one.image
    masks = {'MaskCut (2D)': one.flat}
    for name, cuts in (('CutS3D', one.cuts), (_WITH_DINO, one.dino)):
        if cuts is not None:
            masks[name] = [instance.mask for instance in cuts.instances]
    stages = page.picture_of_figure(draw_stages(image, one.cuts))
    blocks = [
        page.text(one.title),
        page.row([_outlined(image, each, name) for name, each in masks.items()]),
        page.details('how CutS3D came to it', [stages]),
    ]
    return '\n'.join(blocks)


def _outlined(image: Pixels, masks: Sequence[Mask], recipe: str) -> str:
    plural = '' if len(masks) == 1 else 's'
    caption = f'{recipe}: {len(masks)} object{plural}'
    return page.picture_of_pixels(draw_instances(image, masks), caption)


def learn_from_scenes(
    out: Path, workers: int, rounds: int, num_seeds: int
) -> Iterator[tuple[str, Training]]:
    """Run `learn` once per seed, and compare it with a control; finished runs are kept.

    Yields:
        Name of the picture of a training, and the training for the page.
    """
    from cuts3d_mm.learning.loop import learn  # imports torch, which cutting does not need

    from .rounds import score_rounds, score_store

    title = f'{NUM_TEST_SCENES} other scenes'
    scenes = write_scenes(out / 'training', 'training', NUM_SCENES, TRAINING_SEED)
    others = write_scenes(out / 'others', title, NUM_TEST_SCENES, HELD_OUT_SEED)
    labels = out / 'labels' / 'others'
    label_set(RECIPES['CutS3D'], others, labels, workers)
    request = Request(
        scenes.images,
        out / 'learned_0',
        offline=True,
        depth=scenes.depth,
        rounds=rounds,
        gpus=0,
        workers=workers,
    )
    requests = [replace(request, out=out / f'learned_{s}', seed=s) for s in range(num_seeds)]
    results, found = [], dict[str, list[list[float]]]()
    for one in requests:
        results.append(learn(one, _say))
        folder = out / 'compared' / one.out.name
        for name, scores in score_rounds(one.out, others, folder, rounds, workers, _say).items():
            found.setdefault(name, []).append(scores)
    rows = {'pseudo-labels': [score_store(labels, others)], **found}
    pictures = list(_best_first(others, labels, out / 'compared' / 'learned_0', rounds))
    yield 'training', _first(results[0], out, others, rows, pictures)
    if num_seeds > 1:
        yield 'other_seeds', _all_seeds(others, rows)


def _say(line: str) -> None:
    sys.stderr.write(f'{line}\n')


def _best_first(others: DemoSet, labels: Path, compared: Path, rounds: int) -> Iterator[str]:
    """Draw labels and detections of the scenes on which the last detector does best."""
    from .rounds import detections_of

    truth = read_ground_truth(others.ground_truth)
    stores = {'pseudo-labels': labels, 'detector': detections_of(compared, rounds)}
    found = {
        name: {
            one.name: one for one in select_records(read_store(store), _SHOWN_SCORE * (index > 0))
        }
        for index, (name, store) in enumerate(stores.items())
    }
    sides = [labels_as_detections(records.values(), truth) for records in found.values()]
    changes = sorted(compare(truth, *sides), key=lambda one: (-one.after, one.file_name))
    for change in changes[:_NUM_DETECTIONS_SHOWN]:
        image = read_image(others.images / change.file_name)
        drawn = []
        for name, records in found.items():
            record = records[change.file_name]
            masks = [decode_mask(one, record.image_hw) for one in record.instances]
            drawn.append(_outlined(image, masks, name))
        yield page.row(drawn)


def _first(
    results: Any, out: Path, others: DemoSet, rows: Scores, pictures: list[str]
) -> Training:
    schedule = results.planned.plan.schedule
    kept = [f'Round {n}: {one.describe()}.' for n, one in enumerate(results.kept, 1)]
    text = (
        f'cuts3d learn on {NUM_SCENES} scenes: a ResNet-18 from scratch, {schedule.initial_steps} '
        f'steps on pseudo-labels and {len(schedule.round_steps)} rounds of self-training. Its own '
        f'report is {out.name}/learned_0/report.html. {_WHY_LOSSES_RISE} {" ".join(kept)}'
    )
    header = [f'on {others.title}', *_LEARNED_METRICS]
    cells = [[name, *(f'{value:.1f}' for value in scores[0])] for name, scores in rows.items()]
    curves = draw_training(results.log, 'mask AP50 against held-out pseudo-labels, %')
    return Training('A detector from images alone', text, header, cells, curves, pictures)


def _all_seeds(others: DemoSet, rows: Scores) -> Training:
    """Mask AP50 of all detectors, and of the control, which comes last."""
    names = [name for name, scores in rows.items() if len(scores) > 1]
    scores = np.array([rows[name] for name in names])[:, :, _AP50]  # (detectors, seeds)
    cells = [
        [name, f'{each.mean():.1f} ± {each.std(ddof=1):.1f}', ' '.join(f'{v:.1f}' for v in each)]
        for name, each in zip(names, scores, strict=True)
    ]
    text = f'Mask AP50 on {others.title}, mean and standard deviation over the seeds.'
    header = ['labels', 'mask AP50 %', 'of each seed']
    has_control = len(names) > 1
    figure = draw_rounds(scores[:-1].T, scores[-1]) if has_control else draw_rounds(scores.T)
    return Training('The same with other seeds', text, header, cells, figure)

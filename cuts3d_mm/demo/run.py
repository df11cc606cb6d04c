"""Run the demo: label image sets by two recipes, score them, write a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.demo.datasets import DemoSet, write_demo_sets
from cuts3d_mm.demo.page import PageEntry, write_page
from cuts3d_mm.demo.rounds import train_in_rounds
from cuts3d_mm.demo.training import (
    NUM_HELD_OUT,
    NUM_TRAINING,
    data_options,
    final_scores,
    schedule_options,
    train_tiny,
    write_training_scenes,
)
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import NamedImage, read_image
from cuts3d_mm.labellers.build import build_labeller
from cuts3d_mm.labellers.explain import explain_image
from cuts3d_mm.labels.atomic import write_whole
from cuts3d_mm.labels.ground_truth import read_ground_truth
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.pipeline.executors.local import LocalExecutor
from cuts3d_mm.pipeline.plan import Split
from cuts3d_mm.pipeline.progress import ProgressLine
from cuts3d_mm.pipeline.run import label_images
from cuts3d_mm.pipeline.work_order import ConfiguredLabeller, WorkOrder
from cuts3d_mm.visualization.curves import draw_training
from cuts3d_mm.visualization.pictures import save_figure
from cuts3d_mm.visualization.stages_figure import draw_stages
from cuts3d_mm.visualization.tables import format_table

RECIPES = {
    'MaskCut (2D)': 'maskcut_color-texture.py',
    'CutS3D': 'cuts3d_color-texture_file-depth.py',
}
METRICS = ('AP', 'AP50', 'AR100')
_PICTURE_SCENE = 10  # two touching balls of one class, for the README


def run_demo(
    out: Path,
    num_scenes: int,
    workers: int,
    picture: Path | None,
    max_iters: int,
    num_seeds: int = 0,
) -> str:
    """Run everything into a folder; labels and a training that are there already are kept.

    Args:
        out: folder to write; `index.html` is the page.
        num_scenes: scenes to render.
        workers: processes.
        picture: where to write the README picture, or None.
        max_iters: of the tiny detector's training; 0 leaves it out.
        num_seeds: trainings with rounds of self-training; 0 leaves them out.

    Returns:
        The tables of scores as text.
    """
    sets = write_demo_sets(out / 'data', num_scenes)
    rows = []
    for recipe, config in RECIPES.items():
        for demo_set in sets:
            store = out / 'labels' / f'{Path(config).stem}_{demo_set.name}_{num_scenes}'
            label_set(config, demo_set, store, workers)
            if demo_set.has_ground_truth:
                rows.append([recipe, demo_set.name, *_score(demo_set, store)])
    table = format_table(['recipe', 'images', *(f'mask {name} %' for name in METRICS)], rows)
    entries = [_explain(out, demo_set, name) for demo_set, name in _all_images(sets)]
    if picture is not None:
        names = list_images(sets[-1].images).names
        shown = names[min(_PICTURE_SCENE, len(names) - 1)]
        save_figure(picture, _draw(sets[-1], shown), dpi=110)
    write_whole(out / 'scores.json', json.dumps(rows, indent=1))
    for text, plot in _train_all(out, workers, max_iters, num_seeds):
        table = f'{table}\n\n{text}'
        entries.insert(0, plot)
    write_page(out / 'index.html', table, entries)
    return table


def _train_all(
    out: Path, workers: int, max_iters: int, num_seeds: int
) -> Iterator[tuple[str, PageEntry]]:
    """Train as asked for, on pseudo-labels of other scenes; a table and a plot each."""
    if not max_iters and not num_seeds:
        return
    root = out / 'training'
    training, held_out = write_training_scenes(root, NUM_TRAINING, NUM_HELD_OUT)
    config = RECIPES['CutS3D']
    label_set(config, training, root / 'labels', workers)
    if max_iters:
        label_set(config, held_out, root / 'labels_held_out', workers)
        yield _train(out, root, _score(held_out, root / 'labels_held_out')[:2], max_iters)
    if num_seeds:
        yield train_in_rounds(out, root, num_seeds)


def _train(
    out: Path, root: Path, label_scores: list[str], max_iters: int
) -> tuple[str, PageEntry]:
    """Train the tiny detector; compare it with the pseudo-labels of the held-out scenes."""
    options = [*data_options(root, root / 'labels'), *schedule_options(max_iters)]
    log = train_tiny(out / 'work_dir', options)
    figure = out / 'figures' / 'training.png'
    save_figure(figure, draw_training(log), dpi=90)
    trained = [f'{value:.2f}' for value in final_scores(log).values()]
    rows = [['pseudo-labels themselves', *label_scores], ['detector trained on others', *trained]]
    names = [f'mask {name} %' for name in METRICS[:2]]
    table = format_table([f'on {NUM_HELD_OUT} held-out scenes', *names], rows)
    title = 'A detector trained on the pseudo-labels'
    caption = f'Loss and score on held-out scenes; R-18, {NUM_TRAINING} scenes, no labels'
    return table, PageEntry(title, caption, figure.relative_to(out).as_posix())


def _all_images(sets: list[DemoSet]) -> list[tuple[DemoSet, str]]:
    return [(one, name) for one in sets for name in list_images(one.images).names]


def _model(config: str, demo_set: DemoSet) -> dict[str, Any]:
    options = []
    if config != RECIPES['MaskCut (2D)']:
        options = [
            f'model.depth.larger_is={demo_set.larger_is}',
            f'model.depth.root={demo_set.depth}',
        ]
    return load_generator_config(config, options)


def label_set(config: str, demo_set: DemoSet, store: Path, workers: int) -> None:
    """Label the images of a set by a shipped config; resumes."""
    images = list_images(demo_set.images)
    labeller = ConfiguredLabeller(_model(config, demo_set))
    order = WorkOrder(labeller, images.root, store, batch_size=1)
    executor = LocalExecutor(min(workers, len(images.names)))
    with ProgressLine() as progress:
        label_images(order, images, executor, Split(), progress)


def _score(demo_set: DemoSet, store: Path) -> list[str]:
    scores = score_labels(read_store(store), read_ground_truth(demo_set.ground_truth))
    return [f'{100 * scores["segm"][name]:.2f}' for name in METRICS]


def _draw(demo_set: DemoSet, name: str) -> Any:
    generator = build_labeller(_model(RECIPES['CutS3D'], demo_set))
    image = NamedImage(name, read_image(demo_set.images / name))
    return draw_stages(explain_image(generator, image), name)


def _explain(out: Path, demo_set: DemoSet, name: str) -> PageEntry:
    figure = out / 'figures' / f'{demo_set.name}_{Path(name).stem}.png'
    figure.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, _draw(demo_set, name), dpi=90)
    return PageEntry(demo_set.title, name, figure.relative_to(out).as_posix())

"""Run the demo: label image sets by two recipes, score them, write a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.demo.datasets import DemoSet, write_demo_sets
from cuts3d_mm.demo.learning import learn_from_scenes
from cuts3d_mm.demo.page import Comparison, Training, write_page
from cuts3d_mm.evaluation.label_scores import score_labels
from cuts3d_mm.files.atomic import write_whole
from cuts3d_mm.images.listing import list_images
from cuts3d_mm.images.reading import NamedImage, read_image
from cuts3d_mm.labellers.explain import explain_image
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.labels.coco_json import read_ground_truth
from cuts3d_mm.labels.record import decode_mask
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.pipeline.local import LocalExecutor
from cuts3d_mm.pipeline.progress import ProgressLine
from cuts3d_mm.pipeline.run import Split, label_images
from cuts3d_mm.pipeline.work import ConfiguredLabeller, WorkOrder
from cuts3d_mm.visualization.charts import format_table
from cuts3d_mm.visualization.figures import draw_comparison, draw_stages
from cuts3d_mm.visualization.pictures import save_figure
from cuts3d_mm.visualization.report_page import Table

RECIPES = {
    'MaskCut (2D)': 'maskcut_color-texture.py',
    'CutS3D': 'cuts3d_color-texture_file-depth.py',
}
METRICS = ('AP', 'AP50', 'AR100')
_PICTURE_PHOTO, _PICTURE_SCENE = 'motorcycle', 10  # a photo, two balls that touch
_PHOTO_INSTANCES = 6  # a photo holds more than the three objects of a recipe's default
_PICTURE_DPI = 110


def run_demo(
    out: Path,
    num_scenes: int,
    workers: int,
    pictures: Path | None,
    rounds: int,
    num_seeds: int,
) -> str:
    """Run everything into a folder; labels and a training that are there already are kept.

    Args:
        out: folder to write; `index.html` is the page.
        num_scenes: scenes to render.
        workers: processes.
        pictures: folder for the pictures of the docs, or None.
        rounds: of self-training.
        num_seeds: trainings of a tiny detector; 0 leaves them out.

    Returns:
        The tables of scores as text.
    """
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    sets = write_demo_sets(out / 'data', num_scenes)
    stores = [_label(out, one, workers) for one in sets]
    scores = _score_table(sets[-1], stores[-1])
    write_whole(out / 'scores.json', json.dumps(scores.rows, indent=1))
    *photos, scenes = (list(_compare(*pair)) for pair in zip(sets, stores, strict=True))
    trainings = dict(learn_from_scenes(out, workers, rounds, num_seeds)) if num_seeds else {}
    shown = [one for photo in photos for one in photo]
    write_page(out / 'index.html', scores, shown, scenes, list(trainings.values()))
    if pictures is not None:
        by_name = {one.folder.name: photo for one, photo in zip(sets, photos, strict=False)}
        _write_pictures(pictures, by_name[_PICTURE_PHOTO][0], scenes, trainings)
    tables = [scores, *(one.table for one in trainings.values())]
    return '\n\n'.join(format_table(table.header, table.rows) for table in tables)


def _write_pictures(
    folder: Path,
    photo: Comparison,
    scenes: list[Comparison],
    trainings: dict[str, Training],
) -> None:
    balls = scenes[min(_PICTURE_SCENE, len(scenes) - 1)]
    figures = {
        'photo.jpg': draw_comparison(photo.flat, photo.stages),
        'stages.jpg': draw_stages(balls.stages),
        **{f'{name}.png': one.curves for name, one in trainings.items()},
    }
    for name, figure in figures.items():
        save_figure(folder / name, figure, _PICTURE_DPI)


def _model(config: str, demo_set: DemoSet) -> dict[str, Any]:
    options = []
    if demo_set.is_photo:
        options = [f'model.recipe.max_instances={_PHOTO_INSTANCES}']
    if config != RECIPES['MaskCut (2D)']:
        options += [
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
    with ProgressLine(f'labelling {images.root.parent.name} by {config}') as progress:
        label_images(order, images, executor, Split(), progress)


def _score(demo_set: DemoSet, store: Path) -> list[str]:
    scores = score_labels(read_store(store), read_ground_truth(demo_set.ground_truth))
    return [f'{100 * scores["segm"][name]:.2f}' for name in METRICS]


def _label(out: Path, demo_set: DemoSet, workers: int) -> dict[str, Path]:
    """Label a set by both recipes, each into a store of its own."""
    stores = {}
    for recipe, config in RECIPES.items():
        stores[recipe] = out / 'labels' / f'{Path(config).stem}_{demo_set.folder.name}'
        label_set(config, demo_set, stores[recipe], workers)
    return stores


def _score_table(scenes: DemoSet, stores: dict[str, Path]) -> Table:
    rows = [[recipe, *_score(scenes, store)] for recipe, store in stores.items()]
    header = ['recipe', *(f'mask {name} %' for name in METRICS)]
    return Table(header, rows, f'Class-agnostic scores of the labels of {scenes.title}.')


def _compare(demo_set: DemoSet, stores: dict[str, Path]) -> Iterator[Comparison]:
    """Collect what both recipes find in each image of a set."""
    generator = build_labeller(_model(RECIPES['CutS3D'], demo_set))
    for record in read_store(stores['MaskCut (2D)']):
        flat = [decode_mask(instance, record.image_hw) for instance in record.instances]
        image = NamedImage(record.name, read_image(demo_set.images / record.name))
        title = demo_set.title if demo_set.is_photo else Path(record.name).stem
        yield Comparison(title, flat, explain_image(generator, image))
